"""What labels say of a manifest, where samples have them. They judge and never steer: nothing that was found, left out
or treated knows them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from tamis.manifest import Manifest
from tamis.scan.highest import QUERIES, TILE, highest

Indices = npt.NDArray[np.int64]

# Pairs of classes that are named.
CONFUSED = 12
# A share that chance would move so far once in some 700 times (normal approximation).
UNLIKELY = 3.0
NEIGHBOURS = 20
# A label is doubted where more than so many of them agree on another one.
MOST = 0.5
# Samples whose neighbours are asked, the most difficult first, so that a report of millions takes a minute.
ASKED = 20_000


@dataclass(frozen=True)
class Balance:
    """A class: its samples, those left out, their mean difficulty, and its share of all labelled samples before and
    after, by the weight with which samples are drawn."""

    name: str
    samples: int
    dropped: int
    difficulty: float
    before: float
    after: float

    @property
    def share(self) -> float:
        return self.dropped / self.samples


@dataclass(frozen=True)
class Suspect:
    """A sample whose label is in doubt: of its nearest labelled others, the share `agree` are `nearby`."""

    sample: int
    label: str
    nearby: str
    agree: float


@dataclass(frozen=True)
class Judgement:
    """apart: the share of listed pairs in the band whose samples have two labels; None where none has two. confused:
    two classes and how many of these pairs are of both, the most first. balance: the largest class first. shift: the
    share of the draws that has moved from one class to another. shifts: classes of which so many more, or fewer, are
    left out than of all that it is hardly chance. suspects: first those of whose label fewest of the nearest are; None
    where the manifest has no features.
    """

    apart: float | None
    confused: list[tuple[str, str, int]]
    balance: list[Balance]
    shift: float
    shifts: list[str]
    suspects: list[Suspect] | None

    def describe(self) -> list[str]:
        """In a few lines."""
        told = []
        if self.apart is not None:
            most = ", ".join(f"{one} with {other}" for one, other, _ in self.confused[:3])
            share = f"labels: {self.apart:.1%} of the listed difficult pairs are of two"
            told.append(f"{share}; most often {most}" if most else share)
        if self.shifts:
            named = ", ".join(self.shifts[:8]) + ", ..." * (len(self.shifts) > 8)
            told.append(f"read with care: the mix of classes shifts by {self.shift:.1%}, in {named}")
        if self.suspects:
            told.append(f"labels in doubt: {len(self.suspects)}, which `tamis report` shows")
        return told

    def as_json(self) -> dict[str, Any]:
        """The figures, with the number of suspects in place of themselves."""
        return {**asdict(self), "suspects": None if self.suspects is None else len(self.suspects)}


def judged(manifest: Manifest) -> Judgement | None:
    """None where fewer than two labels are known."""
    labels = manifest.samples["label"].to_pylist()
    labelled = np.flatnonzero([label is not None for label in labels])
    known, of_labelled = np.unique([labels[row] for row in labelled], return_inverse=True)
    names: list[str] = known.tolist()
    if len(names) < 2:
        return None
    codes = np.full(len(labels), -1)
    codes[labelled] = of_labelled
    apart, confused = _confused(manifest, codes)
    balance = _balance(manifest.samples, codes, names)
    return Judgement(
        apart=apart,
        confused=[(names[one], names[other], count) for one, other, count in confused],
        balance=balance,
        shift=sum(abs(group.after - group.before) for group in balance) / 2,
        shifts=_shifts(balance, float((~manifest.samples["keep"].to_numpy()).mean())),
        suspects=None if manifest.features is None else _suspects(manifest, codes, names),
    )


@dataclass(frozen=True)
class Votes:
    """own: (n,) the share of a sample's nearest labelled others that carries its label. other: (n,) the share that
    carries the commonest other label, `nearby` (n,)."""

    own: npt.NDArray[np.float64]
    other: npt.NDArray[np.float64]
    nearby: Indices


def votes(features: npt.NDArray[np.float16], codes: Indices, rows: Indices) -> Votes:
    """How the nearest labelled others of samples vote on their labels.

    features: (N, d) of length one. codes: (N,) labels, -1 for none. rows: (n,) the samples asked about, labelled.
    """
    labelled = np.flatnonzero(codes >= 0)
    points = torch.from_numpy(features[labelled].astype(np.float32))
    numbers = np.arange(len(labelled))
    found = [_votes(points, numbers, codes[labelled], own) for own in _blocks(np.searchsorted(labelled, rows))]
    return Votes(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _blocks(rows: Indices) -> list[Indices]:
    return [rows[at : at + QUERIES] for at in range(0, len(rows), QUERIES)] or [rows]


def _votes(
    points: torch.Tensor, numbers: Indices, codes: Indices, own: Indices
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Indices]:
    tiles = ((numbers[at : at + TILE], points[at : at + TILE]) for at in range(0, len(points), TILE))
    _, found = highest(points[own], own, tiles, min(NEIGHBOURS, len(points) - 1))
    shares = np.zeros((len(own), int(codes.max()) + 1))
    np.add.at(shares, (np.arange(len(own))[:, None], codes[found]), 1 / found.shape[1])
    each = np.arange(len(own)), codes[own]
    agree = shares[each]
    shares[each] = -1
    return agree, shares.max(1), shares.argmax(1)


def _suspects(manifest: Manifest, codes: Indices, names: Sequence[str]) -> list[Suspect]:
    assert manifest.features is not None
    labelled = np.flatnonzero(codes >= 0)
    order = np.argsort(-manifest.samples["difficulty"].to_numpy()[labelled], kind="stable")
    rows = np.sort(labelled[order[:ASKED]])
    found = votes(manifest.features, codes, rows)
    doubted = np.flatnonzero(found.other > MOST)
    doubted = doubted[np.lexsort((-found.other[doubted], found.own[doubted]))]
    return [
        Suspect(int(rows[at]), names[codes[rows[at]]], names[found.nearby[at]], float(found.other[at]))
        for at in doubted
    ]


def _confused(manifest: Manifest, codes: Indices) -> tuple[float | None, list[tuple[int, int, int]]]:
    place = {name: number for number, name in enumerate(manifest.samples["sample_id"].to_pylist())}
    listed = manifest.pairs.filter(manifest.pairs["in_band"])
    a, b = (codes[[place[name] for name in listed[side].to_pylist()]] for side in ("a", "b"))
    both = (a >= 0) & (b >= 0)
    apart = both & (a != b)
    if not both.any():
        return None, []
    pairs = np.sort(np.stack([a, b], 1)[apart], 1)
    classes, counts = np.unique(pairs, axis=0, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:CONFUSED]
    found = zip(classes[most].tolist(), counts[most].tolist(), strict=True)
    return float(apart.sum() / both.sum()), [(one, other, count) for (one, other), count in found]


def _balance(samples: pa.Table, codes: Indices, names: Sequence[str]) -> list[Balance]:
    """The largest first."""
    known = codes >= 0
    codes, keep = codes[known], samples["keep"].to_numpy()[known]
    counts = np.bincount(codes)
    dropped = np.bincount(codes, ~keep)
    difficulty = np.bincount(codes, samples["difficulty"].to_numpy()[known].astype(np.float64)) / counts
    drawn = np.bincount(codes, samples["weight"].to_numpy()[known].astype(np.float64) * keep)
    after = drawn / (drawn.sum() or 1.0)
    return [
        Balance(names[code], int(counts[code]), int(dropped[code]), difficulty[code], before, after[code])
        for code, before in ((code, float(counts[code] / len(codes))) for code in np.argsort(-counts, kind="stable"))
    ]


def _shifts(balance: Sequence[Balance], overall: float) -> list[str]:
    """overall: the share of all samples that is left out."""
    told = []
    for group in balance:
        spread = (overall * (1 - overall) * group.samples) ** 0.5
        if spread > 0 and abs(group.dropped - overall * group.samples) > UNLIKELY * spread:
            told.append(group.name)
    return told
