"""How difficult a sample is: how far it is from other samples, and how likely it is a blend of two unlike ones.

A difficult example lies between classes (Zhang et al., section 3), and so does the mean of two samples of different
classes. Blends can be made at will and without labels, so they show where in the embedding space a sample lies if it is
such a mixture. What has no sample near it has nothing to be told apart by either. docs/detection.md compares the score
with others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import isotonic_regression
from torch.nn.functional import normalize

from tamis.curation.space import Whitened, sampled
from tamis.errors import InputError
from tamis.scan.highest import half_squares
from tamis.scan.rows import MIN_SAMPLES, Embeddings, Rows

if TYPE_CHECKING:
    from tamis.encoders.inference import Embedder

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Samples that every sample is compared with, all while they are no more than ALL, and blends of each kind. Of twice as
# many random pairs only the half that is less alike counts: what is between two samples of one class is of that class.
ALL, REFERENCE, BLENDS = 16_384, 4096, 2048
PARENTS = 2 * BLENDS
# Of the reference the nearest hundredth is looked at, fifty without whitening, and a hundredth of the blends; but no
# fewer than five.
NEAREST, NEAREST_PLAIN, FEWEST = 0.01, 50, 5
# What the distances and the probability of a blend weigh, and the share of blends that is as likely as not none at all.
# Measured: docs/detection.md.
FROM_NEAREST, FROM_OTHERS, A_BLEND, DOUBT = 0.18, 0.5, 0.7, 0.08
# Samples by which the probability is told; and those that are compared at once.
SAMPLE, PART = 65_536, 1024
WHITENING = 0.5
# Makes differences of cosines, mostly within 0.3 of zero, fill the scale from 0 to 1.
SHARPNESS = 10.0
# Different images that are blended, whose pixels are in memory at once.
IMAGES = 1024


@dataclass(frozen=True, eq=False)
class Blends:
    """Embeddings of images that are each the mean, pixel by pixel, of two images of the data set.

    first, second: (B,) int64, the rows of the two images. embeddings: (B, d) floats, by the data set's own encoder.
    Raises InputError when the three differ in length.
    """

    first: Indices
    second: Indices
    embeddings: Embeddings

    def __post_init__(self) -> None:
        if not len(self.first) == len(self.second) == len(self.embeddings):
            raise InputError(
                f"{len(self.embeddings)} blends have {len(self.first)} first and {len(self.second)} second parents.",
                "Give the two rows that each blend was made of.",
            )


def draw_parents(count: int, seed: int) -> tuple[Indices, Indices]:
    """(B,) int64 twice: for each blend to make, the rows of its two images; B is no more than PARENTS and 2 * count.

    No more than IMAGES different rows occur. Raises InputError for too few samples to compare pairs.
    """
    if count < MIN_SAMPLES:
        raise InputError(f"There are {count} samples.", f"At least {MIN_SAMPLES} are needed to compare pairs.")
    random = np.random.default_rng((seed, 1))
    chosen = sampled(count, IMAGES, random)
    first, second = _pairs(len(chosen), min(PARENTS, 2 * count), random)
    return chosen[first], chosen[second]


def blend_images(
    count: int, seed: int, images: Callable[[Indices], tuple[list[bytes], list[str]]], embedder: "Embedder"
) -> Blends:
    """Blends of a data set of `count` samples.

    images: gives the files and names of the samples whose ascending numbers it is asked for.
    """
    first, second = draw_parents(count, seed)
    used, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    return Blends(first, second, embedder.of_blends(*images(used), *np.split(places, 2)))


def blend_score(rows: Rows, blends: Blends | None = None, seed: int = 0) -> npt.NDArray[np.float32]:
    """(N,) float32 within 0 to 1, higher is more difficult. O(N): each sample is compared with a reference, which is
    all samples or REFERENCE of them, and with BLENDS blends of each kind.

    Samples are ordered by how far they are from others, 0.18 of the cosine distance to the nearest one and half of the
    mean of that to the nearest fifty, the latter without whitening; and, where images were blended and then embedded,
    by 0.7 of the probability that a sample is such a blend (see `_probability`). The values are on a logistic scale,
    above 0.5 for as many samples as are nearer to blends, of images and of embeddings, than to the nearest hundredth of
    the reference. Cosines are of half-whitened components (see `tamis.curation.space`).

    Raises InputError when the blends' embeddings have another dimension, are zero or not finite, or name rows that
    there are not.
    """
    random = np.random.default_rng((seed, 2))
    space = Whitened(rows, WHITENING, seed)
    chosen = sampled(len(rows), len(rows) if len(rows) <= ALL else REFERENCE, random)
    components = space.components(rows, chosen)
    reference, plain = normalize(components), space.plain(components)
    halves = half_squares(plain)
    first, second = _pairs(len(chosen), min(PARENTS, 2 * len(chosen)), random)
    used = _unlike(reference[first], reference[second])
    midpoints, images = normalize(reference[first[used]] + reference[second[used]]), reference[:0]
    if blends is not None:
        _check(blends, rows)
        used = _unlike(space(rows, blends.first), space(rows, blends.second))
        images = space(Rows(blends.embeddings), used)
    few, many = (min(number, len(chosen) - 1) for number in (max(FEWEST, round(NEAREST * len(chosen))), NEAREST_PLAIN))
    of_blends = max(FEWEST, round(NEAREST * min(BLENDS, len(chosen))))
    order, nearer, likeness = (torch.empty(len(rows)) for _ in range(3))
    for start in range(0, len(rows), PART):
        part = slice(start, min(start + PART, len(rows)))
        components = space.components(rows, part)
        block, itself = normalize(components), np.arange(part.start, part.stop)[:, None]
        nearest = _leave_out(block @ reference.T, chosen, itself).topk(few).values
        own = space.plain(components)
        plainly = _highest(_leave_out(own @ plain.T - halves, chosen, itself), many)
        order[part] = FROM_OTHERS * (half_squares(own) - plainly.mean(1)) - FROM_NEAREST * nearest[:, 0]
        to_images, to_midpoints = (_highest(block @ made.T, of_blends) for made in (images, midpoints))
        likeness[part] = to_images.mean(1) - nearest.mean(1)
        nearer[part] = _highest(torch.cat([to_images, to_midpoints], 1), of_blends).mean(1) - nearest.mean(1)
    if blends is not None:
        parents = np.stack([blends.first[used], blends.second[used]], 1)
        among = _highest(_leave_out(images @ reference.T, chosen, parents), few).mean(1)
        themselves = (_highest(_strangers(images, parents), of_blends).mean(1) - among).numpy()
        likely = _probability(likeness.numpy(), themselves[np.isfinite(themselves)], random)
        order += A_BLEND * torch.from_numpy(likely)
    last = max(0, int((nearer > 0).sum()) - 1)
    shift = nearer.sort(descending=True).values[last] - order.sort(descending=True).values[last]
    return torch.sigmoid(SHARPNESS * (order + shift)).numpy()


def _probability(likeness: Floats, own: Floats, random: np.random.Generator) -> Floats:
    """(N,) float32, that a sample is a blend, by how much nearer it is to blends than to samples; own: (B,) the same of
    the blends themselves, whose parents and other children are left out.

    The share of blends among the samples is twice that of samples above the blends' median. How much denser blends lie
    than samples at a likeness is told by isotonic regression. Few above the median may lie there by chance, so the
    whole is less where the share is small.
    """
    share = min(1.0, 2 * float((likeness > np.median(own)).mean())) if len(own) >= FEWEST else 0.0
    if share == 0:
        return np.zeros(len(likeness), np.float32)
    some = likeness[sampled(len(likeness), SAMPLE, random)]
    values, blends = np.concatenate([some, own]), np.repeat([0.0, 1.0], [len(some), len(own)])
    weights = np.where(blends, share / len(own), 1 / len(some))
    order = np.argsort(values, kind="stable")
    part = isotonic_regression(blends[order], weights=weights[order]).x
    part = np.interp(likeness, values[order], part)
    denser = np.minimum(part / np.maximum(1 - part, np.finfo(np.float32).tiny), 1)
    probability: Floats = (share**2 / (share**2 + DOUBT**2) * denser).astype(np.float32)
    return probability


def _leave_out(values: torch.Tensor, chosen: Indices, numbers: Indices) -> torch.Tensor:
    """The (n, m) values, of the chosen, (m,) ascending, without those of each row's own numbers, (n, k)."""
    places = np.searchsorted(chosen, numbers).clip(max=len(chosen) - 1)
    row, column = np.nonzero(chosen[places] == numbers)
    values[row, places[row, column]] = -torch.inf
    return values


def _strangers(images: torch.Tensor, parents: Indices) -> torch.Tensor:
    """(B, B) similarities of blends, of (B, 2) parents, without those of which a parent is the same."""
    alike = images @ images.T
    alike[(parents[:, None, :, None] == parents[None, :, None, :]).any((2, 3))] = -torch.inf
    return alike


def _pairs(count: int, number: int, random: np.random.Generator) -> tuple[Indices, Indices]:
    """Random pairs of two different ones of `count`."""
    first = random.integers(count, size=number)
    return first, (first + random.integers(1, count, size=number)) % count


def _unlike(one: torch.Tensor, other: torch.Tensor) -> Indices:
    """The places of the half of pairs that are less alike, of equally alike ones the earlier."""
    order = np.argsort((one * other).sum(1).numpy(), kind="stable")
    return np.sort(order[: (len(order) + 1) // 2])


def _check(blends: Blends, rows: Rows) -> None:
    dimension = blends.embeddings.shape[1]
    if dimension != rows.dimension:
        raise InputError(
            f"The blends have {dimension} dimensions, the samples {rows.dimension}.",
            "Embed both with the same encoder.",
        )
    parents = np.concatenate([blends.first, blends.second])
    if parents.min() < 0 or parents.max() >= len(rows):
        raise InputError(f"A blend names a row outside 0 to {len(rows) - 1}.", "Number the rows from 0.")


def _highest(similar: torch.Tensor, count: int) -> torch.Tensor:
    return similar.topk(min(count, similar.shape[1]), sorted=False).values
