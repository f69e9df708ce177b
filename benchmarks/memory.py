"""What large scans take in memory and time: reference scores in O(N M), and the exact scan beyond what fits a cache.

Embeddings are half-precision files, mapped and not read. Each run is a process of its own; `extra_bytes` is the most
memory it ever held beyond what it held once it had imported and compiled everything.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import in_fresh_process, machine, resident_bytes
from tamis.curation.difficulty import band_share, cumulative
from tamis.scan.histogram import exact_edges
from tamis.scan.pairs import computes_bf16, pair_scan

REFERENCE = 8192
PROFILE_BINS = 128


def run(count: int = 1_000_000, exact_count: int = 200_000, dimension: int = 256) -> Iterator[tuple[str, Any]]:
    """Yields each figure as it is known."""
    yield "machine", machine()
    counts = [count // 4, count // 2, count]
    with tempfile.TemporaryDirectory(prefix="tamis-") as folder:
        file = Path(folder) / "embeddings.npy"
        _write(file, max(count, exact_count), dimension)
        runs = [in_fresh_process("benchmarks.memory:reference_scores", file=str(file), count=n) for n in counts]
        slope = np.polyfit(np.log(counts), np.log([run["seconds"] for run in runs]), 1)[0]
        yield "reference scores", {"reference": REFERENCE, "fitted_exponent": float(slope)}
        for size, run in zip(counts, runs, strict=True):
            yield f"reference scores, {size} samples", run
        yield (
            f"exact scan, {exact_count} samples, k=64",
            in_fresh_process("benchmarks.memory:exact_scan", file=str(file), count=exact_count),
        )


def reference_scores(file: str, count: int) -> dict[str, float]:
    """Per-sample histograms against the reference sample, and from them the share of each sample's pairs in a band."""
    embeddings = np.load(file, mmap_mode="r")[:count]
    reference = np.sort(np.random.default_rng(0).choice(count, REFERENCE, replace=False))
    allowed = exact_edges(2048, bf16=computes_bf16(count))
    edges = np.unique(np.r_[-1.0, allowed[:: len(allowed) // PROFILE_BINS], 1.0])
    pair_scan(embeddings[:9000], k=0, profile_edges=edges, reference=np.arange(100))  # compiles
    before, start = resident_bytes(), time.perf_counter()
    scan = pair_scan(embeddings, k=0, profile_edges=edges, reference=reference)
    high, low = (edges[np.abs(edges - scan.histogram.quantile(share)).argmin()] for share in (0.1, 0.3))
    scores = band_share(cumulative(scan.profile), edges, low, high)
    return {
        "seconds": time.perf_counter() - start,
        "mean_score": float(scores.mean()),
        "stated_error": scan.histogram.error,
        "bytes_before": before,
    }


def exact_scan(file: str, count: int) -> dict[str, float]:
    """All pairs, with 64 neighbours a sample."""
    embeddings = np.load(file, mmap_mode="r")[:count]
    pair_scan(embeddings[:9000], k=64)
    before, start = resident_bytes(), time.perf_counter()
    scan = pair_scan(embeddings, k=64)
    return {
        "seconds": time.perf_counter() - start,
        "pairs": scan.histogram.total,
        "bytes_before": before,
    }


def _write(file: Path, count: int, dimension: int) -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((10, dimension), np.float32)
    target = np.lib.format.open_memmap(file, "w+", np.float16, (count, dimension))
    for start in range(0, count, 50_000):
        block = random.standard_normal((min(50_000, count - start), dimension), np.float32)
        target[start : start + len(block)] = block + 0.5 * centres[random.integers(10, size=len(block))]
    target.flush()
