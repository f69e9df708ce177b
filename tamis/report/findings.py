"""What a report tells, as plain values: of a manifest's tables and description alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.curation.clusters import cluster_middles, medoids
from tamis.manifest import Manifest

# Pictures of each kind, so that a report is small whatever N is.
PAIRS, SAMPLES, CLUSTERS, REPEATED, CONFUSED = 24, 24, 60, 12, 12
# Of those that repeat one sample.
NAMED = 6
# A share that chance would move so far once in some 700 times (normal approximation).
UNLIKELY = 3.0


@dataclass(frozen=True)
class Group:
    """A cluster or a class: its samples, and how many of them are left out. picture: a sample that stands for it."""

    name: str
    samples: int
    dropped: int
    difficulty: float
    picture: int | None = None

    @property
    def share(self) -> float:
        return self.dropped / self.samples


@dataclass(frozen=True)
class Findings:
    """pairs: two samples and their similarity. hardest: samples. repeated: samples that repeat the first, by group.
    confused: two classes and the number of listed pairs in the band that are of both. apart: the share of those pairs
    whose samples have two labels; None without labels."""

    pairs: list[tuple[int, int, float]]
    hardest: list[int]
    clusters: list[Group]
    classes: list[Group]
    shifts: list[str]
    repeated: list[list[int]]
    confused: list[tuple[str, str, int]]
    apart: float | None
    reasons: dict[str, int] = field(default_factory=dict)

    def pictured(self) -> list[int]:
        """The samples whose images the report shows."""
        numbers = {number for a, b, _ in self.pairs for number in (a, b)} | set(self.hardest)
        numbers |= {group.picture for group in self.clusters if group.picture is not None}
        return sorted(numbers | {number for numbers in self.repeated for number in numbers})


def findings(manifest: Manifest) -> Findings:
    samples, pairs = manifest.samples, manifest.pairs
    place = {name: number for number, name in enumerate(samples["sample_id"].to_pylist())}
    difficulty = samples["difficulty"].to_numpy()
    listed = pairs.filter(pairs["in_band"]) if len(pairs) else pairs
    a, b = (_places(listed[side], place) for side in ("a", "b"))
    labels = samples["label"].to_pylist()
    known = [label for label in labels if label is not None]
    confused, apart = _confused(a, b, labels) if len(set(known)) > 1 else ([], None)
    cluster = samples["cluster"].to_numpy()
    dropped = ~samples["keep"].to_numpy(zero_copy_only=False)
    standing = _standing(manifest, cluster)
    clusters = _groups([str(number) for number in cluster], dropped, difficulty)
    classes = _groups(["" if label is None else label for label in labels], dropped, difficulty) if known else []
    return Findings(
        pairs=[(place[row["a"]], place[row["b"]], row["similarity"]) for row in pairs.slice(0, PAIRS).to_pylist()],
        hardest=np.argsort(-difficulty, kind="stable")[:SAMPLES].tolist(),
        clusters=[
            Group(group.name, group.samples, group.dropped, group.difficulty, standing.get(int(group.name)))
            for group in clusters[:CLUSTERS]
        ],
        classes=[group for group in classes if group.name],
        shifts=_shifts([group for group in classes if group.name], float(dropped.mean())),
        repeated=_repeated(samples, place),
        confused=confused,
        apart=apart,
        reasons={row["values"]: row["counts"] for row in pc.value_counts(samples["reason"]).to_pylist()},
    )


def _places(names: pa.ChunkedArray, place: Mapping[str, int]) -> npt.NDArray[np.int64]:
    return np.array([place[name] for name in names.to_pylist()], np.int64)


def _standing(manifest: Manifest, cluster: npt.NDArray[np.int32]) -> dict[int, int]:
    """A sample for each cluster: its medoid, or, of a manifest without features, the least difficult one."""
    if manifest.features is not None:
        middles = cluster_middles(manifest.features, cluster, int(cluster.max()) + 1)
        found = medoids(manifest.features, cluster, middles)
        return {number: int(sample) for number, sample in enumerate(found) if sample >= 0}
    order = np.lexsort((manifest.samples["difficulty"].to_numpy(), cluster))
    present, first = np.unique(cluster[order], return_index=True)
    return dict(zip(present.tolist(), order[first].tolist(), strict=True))


def _groups(names: Sequence[str], dropped: npt.NDArray[np.bool_], difficulty: npt.NDArray[np.float32]) -> list[Group]:
    """The largest first."""
    known, of_group = np.unique(np.array(names), return_inverse=True)
    counts = np.bincount(of_group)
    gone = np.bincount(of_group, dropped)
    mean = np.bincount(of_group, difficulty.astype(np.float64)) / counts
    made = [
        Group(str(name), int(count), int(out), float(level))
        for name, count, out, level in zip(known, counts, gone, mean, strict=True)
    ]
    return sorted(made, key=lambda group: -group.samples)


def _shifts(classes: Sequence[Group], overall: float) -> list[str]:
    """The classes of which so many more, or fewer, are left out than of all that it is hardly chance."""
    told = []
    for group in classes:
        spread = (overall * (1 - overall) * group.samples) ** 0.5
        if spread > 0 and abs(group.dropped - overall * group.samples) > UNLIKELY * spread:
            told.append(group.name)
    return told


def _repeated(samples: pa.Table, place: Mapping[str, int]) -> list[list[int]]:
    """The first groups of samples that repeat one."""
    repeating = np.flatnonzero(pc.is_valid(samples["duplicate_of"]).to_numpy())
    groups: dict[int, list[int]] = {}
    for number, name in zip(repeating.tolist(), samples["duplicate_of"].take(repeating).to_pylist(), strict=True):
        first = place[name]
        groups.setdefault(first, [first]).append(number)
    return [groups[first][:NAMED] for first in sorted(groups)[:REPEATED]]


def _confused(
    a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], labels: Sequence[str | None]
) -> tuple[list[tuple[str, str, int]], float | None]:
    counts: dict[tuple[str, str], int] = {}
    both = apart = 0
    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        first, second = labels[one], labels[other]
        if first is None or second is None:
            continue
        both += 1
        if first != second:
            apart += 1
            key = (min(first, second), max(first, second))
            counts[key] = counts.get(key, 0) + 1
    most = sorted(counts.items(), key=lambda item: -item[1])[:CONFUSED]
    return [(*pair, count) for pair, count in most], apart / both if both else None


def advice(description: Mapping[str, Any]) -> str:
    """What to do next, in a sentence."""
    graph, bounds = description["graph"], description.get("bounds") or {}
    if description["classes"] < 2:
        return "The samples do not fall into classes, so nothing was dropped or treated: nothing is to be curated here."
    if graph.get("warning"):
        return "The model describes these data poorly: trust the pictures, and leave images out only where you agree."
    gain = 1 - bounds["without"] / bounds["with"] if bounds.get("with") and bounds.get("without") else 0.0
    if gain < 0.01:
        return (
            "Difficult pairs change the bound by less than 1%: expect little of any treatment, and see what an "
            "experiment says before you rely on one."
        )
    return "Look through the pairs, keep or drop what you judge otherwise, and let an experiment say whether it pays."
