"""From embeddings to the difficult examples: a plan, the scan of all pairs whole or in parts, and one result."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tamis.curation.curation import Curation, assemble, curation_from_files
from tamis.curation.duplicates import duplicate_counts, equal_files
from tamis.curation.neighbour_map import neighbour_map
from tamis.curation.plan import Plan, make_plan, plan_from_content
from tamis.progress import Progress
from tamis.scan.pairs import merge_parts, scan_all, scan_part, seconds_needed
from tamis.scan.rows import Rows
from worker.steps.embed import load_blends
from worker.steps.ingest import read_index
from worker.steps.place import Place, Stage
from worker.steps.request import Request


@dataclass(frozen=True)
class Scan:
    """A scan to be done: the keys of the embeddings, of the plan, and of what each part has found so far."""

    embeddings: str
    plan: str
    checkpoints: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """key: of the curation's files. summary: the figures that lists and headers show."""

    key: str
    summary: dict[str, Any]


def plan_scan(
    place: Place, embeddings: str, blends: str | None, request: Request, key: str, stage: Stage
) -> tuple[str, float]:
    """Stores the plan under `key`; returns the kind of device that the scan is for, and about its seconds on one."""
    stage("curate", "estimating the classes")
    with _rows(place, embeddings) as rows:
        plan = make_plan(
            rows,
            classes=request.classes,
            pos_high=request.pos_high,
            pos_low=request.pos_low,
            neighbours=request.neighbours,
            seed=request.seed,
            device=place.device_for(request.device),
            blends=None if blends is None else load_blends(place, blends, len(rows), request.seed),
        )
        columns = None if plan.task.columns is None else len(plan.task.columns)
        seconds = seconds_needed(rows, columns, plan.method)
    place.objects.put(key, plan.content())
    return plan.method.device, seconds


def compare_part(place: Place, scan: Scan, part: int, progress: Progress) -> None:
    """Compares one part's pairs; what it found is the last state of its checkpoint."""
    plan = _plan(place, scan)
    with _rows(place, scan.embeddings) as rows:
        checkpoint = place.checkpoint(scan.checkpoints[part])
        scan_part(rows, plan.task, plan.method, part, len(scan.checkpoints), checkpoint, progress)


def find_difficult(place: Place, scan: Scan, score: str, index: str, stage: Stage) -> Result:
    """Stores the result of a scan done here, where it has one part, or of its parts. index: the data set's key."""
    plan, parts = _plan(place, scan), len(scan.checkpoints)
    progress = stage("curate", "comparing all pairs" if parts == 1 else f"putting {parts} parts together")
    with _rows(place, scan.embeddings) as rows:
        if parts == 1:
            found = scan_all(rows, plan.task, plan.method, progress, place.checkpoint(scan.checkpoints[0]))
        else:
            found = merge_parts(rows, plan.task, plan.method, map(place.objects.get, scan.checkpoints))
        stage("curate", "ordering the difficult pairs")
        curation = assemble(rows, plan, found, score)
    hashes = read_index(place, index, ["sha256"])["sha256"]
    return Result(place.put_files("curations", curation.files()), summary(curation, hashes))


def discard_scan(place: Place, scan: Scan) -> None:
    """Frees the plan and what the parts found, once the result is there."""
    for key in (scan.plan, *scan.checkpoints):
        place.objects.delete(key)


def lay_out(place: Place, result: str) -> str:
    """Stores where a map draws the samples of a result, (N, 2) float32; returns its key."""
    with place.local(f"{result}/features.npy") as file, place.scratch() as folder:
        np.save(folder / "layout.npy", neighbour_map(np.load(file, mmap_mode="r")))
        return place.put_file("layouts", folder / "layout.npy")


def load_result(place: Place, key: str) -> Curation:
    return curation_from_files(place.files(key))


def summary(result: Curation, hashes: pa.ChunkedArray) -> dict[str, Any]:
    """The figures of a curation that lists and headers show. hashes: of the samples' files."""
    described = result.describe()
    histogram = result.histogram
    return {
        **{name: described[name] for name in ("classes", "criteria", "thresholds", "graph")},
        "samples": len(result.cluster),
        **duplicate_counts(equal_files(hashes), result.near),
        "pairs": described["pairs_listed"],
        "counted_pairs": described["pairs_in_band"],
        "total_pairs": histogram.total,
        "histogram": {"edges": histogram.edges.tolist(), "counts": histogram.counts.tolist()},
        "n_d": result.graph.n_d,
        "bound": described["bounds"],
    }


@contextmanager
def _rows(place: Place, embeddings: str) -> Iterator[Rows]:
    with place.local(embeddings) as file:
        yield Rows(np.load(file, mmap_mode="r"))


def _plan(place: Place, scan: Scan) -> Plan:
    return plan_from_content(place.objects.get(scan.plan))
