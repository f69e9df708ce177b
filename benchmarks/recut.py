"""New thresholds for a curation that is there, beside what a new scan would take."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import tamis
from benchmarks.measure import machine, seconds
from benchmarks.scan import clustered


def run(count: int = 1_000_000) -> Iterator[tuple[str, Any]]:
    """Yields each figure as it is known."""
    yield "machine", machine()
    embeddings = clustered(count, 32).astype(np.float16)
    start = time.perf_counter()
    curation = tamis.curate(embeddings, classes=10, exact=False, neighbours=4, reference=2048, score="band")
    yield "curation", {"samples": count, "seconds": time.perf_counter() - start}
    shares = iter(np.linspace(0.05, 0.4, 1000))
    yield "counts", {"seconds": seconds(lambda: curation.recut(pos_high=float(next(shares))).counted_pairs, 20)}
    yield "band scores", {"seconds": seconds(lambda: curation.recut(pos_high=float(next(shares))).difficulty, 20)}
