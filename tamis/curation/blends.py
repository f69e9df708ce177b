"""How difficult a sample is: how much nearer it is to blends of two unlike samples than to samples.

A difficult example lies between classes (Zhang et al., section 3), and so does the mean of two samples of different
classes. Blends can be made at will and without labels, so they show where in the embedding space a sample lies if it is
difficult. What has no sample near it has nothing to be told apart by either, so that isolation counts too.
docs/detection.md compares the score with others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from tamis.curation.space import Whitened, sampled
from tamis.errors import InputError
from tamis.scan.rows import MIN_SAMPLES, Embeddings, Rows

if TYPE_CHECKING:
    from tamis.encoders.inference import Embedder

Indices = npt.NDArray[np.int64]

# Samples that every sample is compared with, and blends of each kind. Of twice as many random pairs only the half that
# is less alike counts: what is between two samples of one class is of that class.
REFERENCE, BLENDS = 4096, 2048
PARENTS = 2 * BLENDS
# Of the reference the nearest hundredth is looked at, of the blends a hundredth of each kind; but no fewer than five.
NEAREST, FEWEST = 0.01, 5
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
    """(N,) float32 within 0 to 1, higher is more difficult. O(N), for each sample is compared with REFERENCE samples
    and BLENDS blends of each kind.

    Samples are ordered by the mean similarity to the nearest blends, less the mean of that to the nearest sample and
    that to the nearest hundredth of them, less the latter's cosine similarity in the embeddings as they are. The values
    are on a logistic scale, above 0.5 for as many samples as are nearer to blends than to the nearest hundredth.

    Blends are midpoints of two embeddings and, where given, images that were blended and then embedded. Similarities
    are cosines of half-whitened components (see `tamis.curation.space`).

    Raises InputError when the blends' embeddings have another dimension, are zero or not finite, or name rows that
    there are not.
    """
    random = np.random.default_rng((seed, 2))
    space = Whitened(rows, WHITENING, seed)
    chosen = sampled(len(rows), REFERENCE, random)
    components = space.components(rows, chosen)
    reference, plain = normalize(components), space.plain(components)
    first, second = _pairs(len(chosen), min(PARENTS, 2 * len(chosen)), random)
    used = _unlike(reference[first], reference[second])
    pool = normalize(reference[first[used]] + reference[second[used]])
    if blends is not None:
        _check(blends, rows)
        used = _unlike(space(rows, blends.first), space(rows, blends.second))
        pool = torch.cat([pool, space(Rows(blends.embeddings), used)])
    of_blends = max(FEWEST, round(NEAREST * min(BLENDS, len(chosen))))
    of_samples = min(max(FEWEST, round(NEAREST * len(chosen))), len(chosen) - 1)
    order, nearer = torch.empty(len(rows)), torch.empty(len(rows))
    for part in rows.blocks():
        components = space.components(rows, part)
        block = normalize(components)
        similar = block @ reference.T
        itself = np.flatnonzero((part.start <= chosen) & (chosen < part.stop))
        similar[chosen[itself] - part.start, itself] = -torch.inf
        nearest = similar.topk(of_samples)
        mean = nearest.values.mean(1)
        apart = (space.plain(components)[:, None, :] - plain[nearest.indices]).square().sum(2)
        nearer[part] = _mean_of_highest(block @ pool.T, of_blends) - mean
        order[part] = nearer[part] - (nearest.values[:, 0] - mean) / 2 + apart.mean(1) / 2
    last = max(0, int((nearer > 0).sum()) - 1)
    shift = nearer.sort(descending=True).values[last] - order.sort(descending=True).values[last]
    return torch.sigmoid(SHARPNESS * (order + shift)).numpy()


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


def _mean_of_highest(similar: torch.Tensor, count: int) -> torch.Tensor:
    return similar.topk(min(count, similar.shape[1]), sorted=False).values.mean(1)
