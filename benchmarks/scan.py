"""The pair scan against FAISS's and scikit-learn's exact searches and the machine's matrix product.

The peers return neighbours only; the scan also counts all pairs.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.measure import in_fresh_process, machine, product_peak, resident_bytes, seconds
from tamis.rows import Rows
from tamis.similarity import computes_bf16, pair_scan

CHECKED_ROWS = 500
SHARES = (0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99)


def clustered(count: int, dimension: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Embeddings in ten overlapping clusters."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((10, dimension), np.float32)
    return 0.5 * centres[random.integers(10, size=count)] + random.standard_normal((count, dimension), np.float32)


def run(
    count: int = 60_000, dimension: int = 512, k: int = 64, growth: tuple[int, ...] = (10_000, 20_000, 40_000, 80_000)
) -> Iterator[tuple[str, Any]]:
    """Yields each figure as it is known: times in seconds, speeds in operations a second, ratios of the same run."""
    yield "machine", machine()
    yield "size", {"count": count, "dimension": dimension, "k": k}
    embeddings = clustered(count, dimension)
    pair_scan(embeddings[:20_000], k)  # compiles
    peak = product_peak(torch.bfloat16)
    ours = seconds(lambda: pair_scan(embeddings, k), repeats=3)
    # Half of the matrix: what symmetry leaves.
    speed = count * count * dimension / ours
    peak = max(peak, product_peak(torch.bfloat16))
    yield "product", {"bf16": peak, "f32": product_peak(torch.float32)}
    yield (
        "scan",
        {"seconds": ours, "precision": "bf16" if computes_bf16(count) else "f32", "share_of_bf16": speed / peak},
    )
    yield "accuracy", accuracy(embeddings, k)
    yield "faiss IndexFlatIP", _against(ours, lambda: _faiss(embeddings, k))
    part = embeddings[: count // 3]
    ours_part = seconds(lambda: pair_scan(part, k))
    yield f"sklearn brute, {len(part)} samples", _against(ours_part, lambda: _sklearn(part, k))
    if growth:
        yield "growth", _growth(growth, dimension, k)


def accuracy(embeddings: npt.NDArray[np.float32], k: int) -> dict[str, float]:
    """The scan and FAISS against float64, on some rows; the quantiles on the pairs of those rows with all others."""
    count = len(embeddings)
    found = pair_scan(embeddings, k)
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rows = np.sort(np.random.default_rng(1).choice(count, min(CHECKED_ROWS, count), replace=False))
    exact = unit[rows] @ unit.T
    exact[np.arange(len(rows)), rows] = -2
    best = np.argpartition(-exact, k, axis=1)[:, :k]
    own = np.take_along_axis(exact, found.indices[rows], 1)
    others = exact[exact > -2]
    shares = [abs(found.histogram.quantile(share) - np.quantile(others, 1 - share)) for share in SHARES]
    return {
        "recall": _recall(found.indices[rows], best),
        "largest_similarity_error": float(np.abs(own - found.similarities[rows]).max()),
        "largest_quantile_error": float(max(shares)),
        "pairs_counted": int(found.histogram.total),
        "pairs": count * (count - 1) // 2,
        "faiss_recall": _recall(_faiss(embeddings, k)[rows], best),
    }


def scan_in_memory(count: int, dimension: int, k: int) -> dict[str, float]:
    """Time of one scan, for a process of its own."""
    embeddings = clustered(count, dimension)
    pair_scan(embeddings[:10_000], k)
    before = resident_bytes()
    start = time.perf_counter()
    pair_scan(embeddings, k)
    return {"seconds": time.perf_counter() - start, "bytes_before": before}


def _growth(counts: tuple[int, ...], dimension: int, k: int) -> dict[str, Any]:
    runs = [in_fresh_process("benchmarks.scan:scan_in_memory", count=n, dimension=dimension, k=k) for n in counts]
    exponent = np.polyfit(np.log(counts), np.log([run["seconds"] for run in runs]), 1)[0]
    return {"runs": dict(zip(counts, runs, strict=True)), "fitted_exponent": float(exponent)}


def _against(ours: float, peer: Any) -> dict[str, float]:
    theirs = seconds(peer)
    return {"seconds": theirs, "times_ours": theirs / ours}


def _recall(found: npt.NDArray[np.int64], best: npt.NDArray[np.int64]) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, best, strict=True)]))


def _faiss(embeddings: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    import faiss

    unit = Rows(embeddings).unit(slice(None)).numpy()
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    _, indices = index.search(unit, k + 1)
    # Its own row is among a row's neighbours.
    others = indices != np.arange(len(unit))[:, None]
    return np.stack([row[mask][:k] for row, mask in zip(indices, others, strict=True)])


def _sklearn(embeddings: npt.NDArray[np.float32], k: int) -> None:
    from sklearn.neighbors import NearestNeighbors

    NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(embeddings).kneighbors()
