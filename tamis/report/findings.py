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
from tamis.report.labels import Judgement, Suspect, judged

# Pictures of each kind, so that a report is small whatever N is.
PAIRS, SAMPLES, CLUSTERS, REPEATED, SUSPECTS = 24, 24, 60, 12, 24
# Of those that repeat one sample.
NAMED = 6


@dataclass(frozen=True)
class Group:
    """A cluster: its samples, and how many of them are left out. picture: a sample that stands for it."""

    name: str
    samples: int
    dropped: int
    difficulty: float
    picture: int | None = None


@dataclass(frozen=True)
class Findings:
    """pairs: two samples and their similarity. hardest: samples. repeated: samples that repeat the first, by group.
    labels: what they say; None where there are no two."""

    pairs: list[tuple[int, int, float]]
    hardest: list[int]
    clusters: list[Group]
    repeated: list[list[int]]
    labels: Judgement | None
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def suspects(self) -> list[Suspect]:
        """Those that are shown."""
        return (self.labels.suspects or [])[:SUSPECTS] if self.labels else []

    def pictured(self) -> list[int]:
        """The samples whose images the report shows."""
        numbers = {number for a, b, _ in self.pairs for number in (a, b)} | set(self.hardest)
        numbers |= {suspect.sample for suspect in self.suspects}
        numbers |= {group.picture for group in self.clusters if group.picture is not None}
        return sorted(numbers | {number for numbers in self.repeated for number in numbers})


def findings(manifest: Manifest) -> Findings:
    samples, pairs = manifest.samples, manifest.pairs
    place = {name: number for number, name in enumerate(samples["sample_id"].to_pylist())}
    difficulty = samples["difficulty"].to_numpy()
    cluster = samples["cluster"].to_numpy()
    dropped = ~samples["keep"].to_numpy(zero_copy_only=False)
    standing = _standing(manifest, cluster)
    clusters = _groups([str(number) for number in cluster], dropped, difficulty)
    return Findings(
        pairs=[(place[row["a"]], place[row["b"]], row["similarity"]) for row in pairs.slice(0, PAIRS).to_pylist()],
        hardest=np.argsort(-difficulty, kind="stable")[:SAMPLES].tolist(),
        clusters=[
            Group(group.name, group.samples, group.dropped, group.difficulty, standing.get(int(group.name)))
            for group in clusters[:CLUSTERS]
        ],
        repeated=_repeated(samples, place),
        labels=judged(manifest),
        reasons={row["values"]: row["counts"] for row in pc.value_counts(samples["reason"]).to_pylist()},
    )


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


def _repeated(samples: pa.Table, place: Mapping[str, int]) -> list[list[int]]:
    """The first groups of samples that repeat one."""
    repeating = np.flatnonzero(pc.is_valid(samples["duplicate_of"]).to_numpy())
    groups: dict[int, list[int]] = {}
    for number, name in zip(repeating.tolist(), samples["duplicate_of"].take(repeating).to_pylist(), strict=True):
        first = place[name]
        groups.setdefault(first, [first]).append(number)
    return [groups[first][:NAMED] for first in sorted(groups)[:REPEATED]]


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
