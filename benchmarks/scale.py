"""How the whole of `tamis.curate` grows with the number of samples: seconds of each stage, memory, and what it finds.

The samples are made: classes about random directions, and of every hundred samples the first two between their two
classes, each nearer to its own and nearest to the other. So r + 1 is known, and so are neighbours of two classes. They
lie in a half-precision file that is mapped and not read. Each curation is a process of its own.
"""

import importlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import Anonymous, in_fresh_process, machine, resident_bytes
from tamis.curation.curation import curate
from tamis.scan.alike import alike
from tamis.scan.highest import highest
from tamis.scan.memory import Arrays, memory_budget
from tamis.scan.pairs import pair_scan
from tamis.scan.rows import Rows

STAGES = {
    "classes": ("tamis.curation.plan", "estimate_classes"),
    "scores": ("tamis.curation.plan", "blend_score"),
    "near duplicates": ("tamis.curation.plan", "near_duplicates"),
    "scan": ("tamis.curation.curation", "scan_all"),
    "pairs": ("tamis.curation.curation", "difficult_pairs"),
    "band": ("tamis.curation.curation", "distinct_pairs"),
    "counts": ("tamis.curation.curation", "cumulative"),
}
# One pair in so many samples lies between two classes, each sample with this share of its own.
BETWEEN, OWN = 100, 0.65
NEIGHBOURS, CHECKED = 64, 1000
PROJECTED = (10_000_000, 100_000_000, 1_000_000_000)
BLOCK = 50_000


def run(
    count: int = 400_000,
    sizes: Sequence[int] | None = None,
    candidates: int = 200_000,
    dimension: int = 256,
    classes: int = 1000,
) -> Iterator[tuple[str, Any]]:
    """Yields each curation's figures, how they grow, and the search for neighbours beside an exact one.

    count: the largest number of samples; a half and a quarter are measured too. sizes: the numbers of samples in place
    of these. candidates: samples among which neighbours are searched; none with 0.
    """
    yield "machine", machine()
    counts = sorted(sizes or (count // 4, count // 2, count))
    with tempfile.TemporaryDirectory(prefix="tamis-") as folder:
        file = Path(folder) / "embeddings.npy"
        write(file, max(*counts, candidates), dimension, classes)
        runs = []
        for size in counts:
            runs.append(in_fresh_process("benchmarks.scale:curated", file=str(file), count=size))
            yield f"curate, {size} samples of {classes} classes", runs[-1]
        if len(counts) > 1:
            yield "growth", _growth(counts, runs)
        if candidates:
            yield (
                f"neighbours, {candidates} samples, k={NEIGHBOURS}",
                in_fresh_process("benchmarks.scale:neighbours", file=str(file), count=candidates),
            )


def write(file: Path, count: int, dimension: int, classes: int) -> None:
    """The embeddings, and beside them the classes."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((classes, dimension), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    labels = random.integers(classes, size=count)
    target = np.lib.format.open_memmap(file, "w+", np.float16, (count, dimension))
    for start in range(0, count, BLOCK):
        own = centres[labels[start : start + BLOCK]]
        noise = random.standard_normal(own.shape, np.float32) / np.float32(np.sqrt(dimension))
        rows, first = own + noise, np.arange(0, len(own) - 1, BETWEEN)
        for one, other in ((first, first + 1), (first + 1, first)):
            centre = OWN * own[one] + (1 - OWN) * own[other]
            centre /= np.linalg.norm(centre, axis=1, keepdims=True)
            # What both have of noise is the third's; each has a little of its own.
            rows[one] = centre + noise[first + 2] + 0.2 * noise[one]
        target[start : start + len(own)] = rows
    target.flush()
    np.save(_labels_of(file), labels)


def curated(file: str, count: int) -> dict[str, Any]:
    """The whole of `tamis.curate` of the first so many samples."""
    embeddings = np.load(file, mmap_mode="r")[:count]
    labels = np.load(_labels_of(Path(file)))[:count]
    curate(embeddings[:9000], classes=10, exact=False)  # compiles
    seconds: dict[str, float] = {}
    for stage, place in STAGES.items():
        _timed(stage, *place, seconds)
    before, start, worked = resident_bytes(), time.perf_counter(), time.process_time()
    with Anonymous() as anonymous:
        found = curate(embeddings, neighbours=NEIGHBOURS)
    took, worked = time.perf_counter() - start, time.process_time() - worked
    a, b = (found.pairs[name].to_numpy() for name in ("a", "b"))
    known = np.arange(0, count - 1, BETWEEN)
    known = known[labels[known] != labels[known + 1]]
    return {
        "seconds": round(took, 1),
        # Of all threads: what else runs on the machine lengthens the other.
        "processor_seconds": round(worked, 1),
        "stages": {stage: round(each, 1) for stage, each in seconds.items()},
        "anonymous_bytes": anonymous.most,
        "all_pairs_compared": found.histogram.exact,
        "classes": found.classes,
        "recall": found.describe()["pairs_recall"],
        "pairs": len(a),
        "known_listed": float(np.isin(known * count + known + 1, a * count + b).mean()),
        "of_two_classes": {first: float((labels[a] != labels[b])[:first].mean()) for first in (100, 1000, 10_000)},
        "bytes_before": before,
    }


def neighbours(file: str, count: int) -> dict[str, float]:
    """The search for neighbours and its recall, by an exact search for some samples; and the exact scan."""
    rows = Rows(np.load(file, mmap_mode="r")[:count])
    found = np.empty((count, NEIGHBOURS), np.int64)

    def take(own: npt.NDArray[np.int64], partners: npt.NDArray[np.int64]) -> None:
        found[own] = partners

    before, start = resident_bytes(), time.perf_counter()
    stated = alike(rows, NEIGHBOURS, 0, take, Arrays(memory_budget()))
    searched = time.perf_counter() - start
    checked = np.sort(np.random.default_rng(1).choice(count, min(CHECKED, count), replace=False))
    tiles = ((np.arange(part.start, part.stop), rows.unit(part)) for part in rows.blocks())
    exact = highest(rows.unit(checked), checked, tiles, NEIGHBOURS)[1]
    hits = sum(len(np.intersect1d(*both)) for both in zip(found[checked], exact, strict=True))
    start = time.perf_counter()
    pair_scan(rows, NEIGHBOURS)
    scanned = time.perf_counter() - start
    return {
        "seconds": round(searched, 1),
        "recall": hits / exact.size,
        "stated_recall": stated,
        "exact_scan_seconds": round(scanned, 1),
        "exact_scan_projected_to_a_million": round(scanned * (1e6 / count) ** 2, 1),
        "bytes_before": before,
    }


def _growth(counts: Sequence[int], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Exponents of time, whole and by stage, and what follows for larger N; bytes a sample, and what follows."""
    taken = {"seconds": [run["seconds"] for run in runs]}
    taken |= {stage: [run["stages"].get(stage, 0) for run in runs] for stage in STAGES}
    logarithms = {name: np.polyfit(np.log(counts), np.log(np.maximum(each, 0.1)), 1) for name, each in taken.items()}
    memory = np.polyfit(counts, [run["anonymous_bytes"] for run in runs], 1)

    def at(size: int) -> dict[str, float]:
        stages = sum(float(np.exp(np.polyval(logarithms[stage], np.log(size)))) for stage in STAGES)
        return {"hours": round(stages / 3600, 1), "anonymous_gib": round(float(np.polyval(memory, size)) / 2**30, 1)}

    return {
        "fitted_exponents": {name: round(float(line[0]), 2) for name, line in logarithms.items()},
        "anonymous_bytes_a_sample": round(float(memory[0]), 1),
        "projected": {f"{size} samples": at(size) for size in PROJECTED},
    }


def _timed(stage: str, module: str, name: str, seconds: dict[str, float]) -> None:
    """Has a function add the time it takes to a stage's."""
    place = importlib.import_module(module)
    work = getattr(place, name)

    @wraps(work)
    def timed(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = work(*given, **named)
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
        return result

    setattr(place, name, timed)


def _labels_of(file: Path) -> Path:
    return file.with_name("labels.npy")
