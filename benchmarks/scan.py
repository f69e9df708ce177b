"""The pair scan against FAISS's and scikit-learn's exact searches and the machine's matrix product; on a machine with a
GPU, there, against PyTorch's product and top-k and FAISS's exact search.

The peers return neighbours only; the scan also counts all pairs. Approximate indexes are peers where installed.
"""

import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.approximate import approximate_peers
from benchmarks.measure import in_fresh_process, machine, product_peak, resident_bytes, seconds
from tamis.device import resolve_device
from tamis.scan.pairs import PairScan, computes_bf16, pair_scan
from tamis.scan.rows import Rows

IMAGENET = 1_281_167
CHECKED_ROWS = 500
# Of a GPU's peers, which would take many times as long for all rows, some rows are timed.
PEER_ROWS, PEER_BLOCK = 16_384, 4096
SHARES = (0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99)


def clustered(count: int, dimension: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Embeddings in ten overlapping clusters."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((10, dimension), np.float32)
    return 0.5 * centres[random.integers(10, size=count)] + random.standard_normal((count, dimension), np.float32)


def run(
    count: int | None = None,
    dimension: int = 512,
    k: int = 64,
    growth: tuple[int, ...] = (10_000, 20_000, 40_000, 80_000),
    device: str = "auto",
) -> Iterator[tuple[str, Any]]:
    """Yields each figure as it is known: times in seconds, speeds in operations a second, ratios of the same run.

    count: 60,000 on a CPU; on a GPU as many as ImageNet's training images, or as fit.
    """
    if resolve_device(device).type == "cuda":
        yield from run_on_gpu(count or IMAGENET, dimension, k)
    else:
        yield from run_on_cpu(count or 60_000, dimension, k, growth)


def run_on_cpu(count: int, dimension: int, k: int, growth: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    yield "machine", machine()
    yield "size", {"count": count, "dimension": dimension, "k": k}
    embeddings = clustered(count, dimension)
    pair_scan(embeddings[:20_000], k, device="cpu")  # compiles
    peak = product_peak(torch.bfloat16)
    ours = seconds(lambda: pair_scan(embeddings, k, device="cpu"), repeats=3)
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
    # What a CPU without bf16 units would do.
    with patch("tamis.scan.pairs.computes_bf16", return_value=False):
        yield "scan in float32", {"seconds": seconds(lambda: pair_scan(embeddings, k, device="cpu"))}
    part = embeddings[: count // 3]
    ours_part = seconds(lambda: pair_scan(part, k, device="cpu"))
    yield f"sklearn brute, {len(part)} samples", _against(ours_part, lambda: _sklearn(part, k))
    yield from approximate_peers(embeddings[: count // 6], k)
    if growth:
        yield "growth", _growth(growth, dimension, k)


def run_on_gpu(count: int, dimension: int, k: int) -> Iterator[tuple[str, Any]]:
    from tamis.scan.gpu import memory_free, memory_needed

    yield "machine", {**machine(), "gpu": torch.cuda.get_device_name()}
    embeddings = clustered(count, dimension)
    while memory_needed(Rows(embeddings), k) > memory_free(torch.device("cuda")):
        embeddings = embeddings[: len(embeddings) * 3 // 4]
    count = len(embeddings)
    yield "size", {"count": count, "dimension": dimension, "k": k}
    pair_scan(embeddings[:100_000], k, device="cuda")  # compiles
    peak = _gpu_peak(torch.bfloat16)
    ours = seconds(lambda: pair_scan(embeddings, k, device="cuda"), repeats=2)
    phases = _gpu_phases(embeddings, k)
    peak = max(peak, _gpu_peak(torch.bfloat16))
    yield "product", {"bf16": peak, "f16": _gpu_peak(torch.float16)}
    # Half of the matrix: what symmetry leaves.
    speed = count * count * dimension / ours
    shares = {"share_of_bf16": speed / peak, "tiles_share_of_bf16": speed * ours / phases["tiles"] / peak}
    yield "scan", {"seconds": ours, "precision": "f16", **shares, "phases": phases}
    yield "accuracy", _gpu_accuracy(embeddings, k)
    # A row's share of the whole against a row's time where some are searched for among all: nothing is extrapolated.
    yield from _gpu_peers(embeddings, k, ours / count)


def accuracy(embeddings: npt.NDArray[np.float32], k: int) -> dict[str, float]:
    """The scan and FAISS against float64, on some rows; the quantiles on the pairs of those rows with all others."""
    count = len(embeddings)
    found = pair_scan(embeddings, k, device="cpu")
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rows = np.sort(np.random.default_rng(1).choice(count, min(CHECKED_ROWS, count), replace=False))
    exact = unit[rows] @ unit.T
    exact[np.arange(len(rows)), rows] = -2
    best = np.argpartition(-exact, k, axis=1)[:, :k]
    return {**_errors(found, rows, exact, best), "faiss_recall": _recall(_faiss(embeddings, k)[rows], best)}


def _errors(
    found: PairScan, rows: npt.NDArray[np.int64], exact: npt.NDArray[np.float64], best: npt.NDArray[np.int64]
) -> dict[str, float]:
    """exact: (len(rows), N), -2 of a row with itself. best: (len(rows), k), the most similar there."""
    count = exact.shape[1]
    own = np.take_along_axis(exact, found.indices[rows], 1)
    others = exact[exact > -2]
    shares = [abs(found.histogram.quantile(share) - np.quantile(others, 1 - share)) for share in SHARES]
    return {
        "recall": _recall(found.indices[rows], best),
        "largest_similarity_error": float(np.abs(own - found.similarities[rows]).max()),
        "largest_quantile_error": float(max(shares)),
        "pairs_counted": int(found.histogram.total),
        "pairs": count * (count - 1) // 2,
    }


def scan_in_memory(count: int, dimension: int, k: int) -> dict[str, float]:
    """Time of one scan, for a process of its own."""
    embeddings = clustered(count, dimension)
    pair_scan(embeddings[:10_000], k, device="cpu")
    before = resident_bytes()
    start = time.perf_counter()
    pair_scan(embeddings, k, device="cpu")
    return {"seconds": time.perf_counter() - start, "bytes_before": before}


def _growth(counts: tuple[int, ...], dimension: int, k: int) -> dict[str, Any]:
    runs = [in_fresh_process("benchmarks.scan:scan_in_memory", count=n, dimension=dimension, k=k) for n in counts]
    exponent = np.polyfit(np.log(counts), np.log([run["seconds"] for run in runs]), 1)[0]
    return {"runs": dict(zip(counts, runs, strict=True)), "fitted_exponent": float(exponent)}


def _gpu_phases(embeddings: npt.NDArray[np.float32], k: int) -> dict[str, float]:
    """Seconds for reading and checking rows, bringing them to the device and the first cuts, all tiles, and the end."""
    from tamis.scan.gpu import Scan, shape_for
    from tamis.scan.task import Task

    times = [time.perf_counter()]

    def lap() -> None:
        torch.cuda.synchronize()
        times.append(time.perf_counter())

    rows = Rows(embeddings)
    lap()
    device = torch.device("cuda")
    scan = Scan(rows, Task(k, -2.0, 2.0, 2048, None, None), device, shape_for(device, profile=False))
    lap()
    scan.run(scan.tiles())
    lap()
    scan.finish()
    lap()
    return dict(zip(("rows", "device", "tiles", "finish"), np.diff(times).tolist(), strict=True))


def _gpu_accuracy(embeddings: npt.NDArray[np.float32], k: int) -> dict[str, float]:
    """The scan against float64, on some rows; the quantiles on the pairs of those rows with all others."""
    count, found = len(embeddings), pair_scan(embeddings, k, device="cuda")
    chosen = np.sort(np.random.default_rng(1).choice(count, min(CHECKED_ROWS, count), replace=False))
    rows = _gpu_unit(embeddings[chosen], torch.float64)
    parts = (embeddings[start : start + 2**17] for start in range(0, count, 2**17))
    exact = torch.cat([rows @ _gpu_unit(part, torch.float64).T for part in parts], dim=1).cpu().numpy()
    exact[np.arange(len(chosen)), chosen] = -2
    return _errors(found, chosen, exact, np.argpartition(-exact, k, axis=1)[:, :k])


def _gpu_peers(embeddings: npt.NDArray[np.float32], k: int, ours_a_row: float) -> Iterator[tuple[str, Any]]:
    def figures(took: float) -> dict[str, float]:
        return {
            "rows": rows,
            "seconds": took,
            "seconds_a_row": took / rows,
            "times_ours_a_row": took / rows / ours_a_row,
        }

    rows = min(PEER_ROWS, len(embeddings))
    unit = _gpu_unit(embeddings, torch.bfloat16)

    def product_and_topk() -> None:
        for start in range(0, rows, PEER_BLOCK):
            torch.topk(unit[start : start + PEER_BLOCK] @ unit.T, k + 1, dim=1)
        torch.cuda.synchronize()

    product_and_topk()
    yield "torch product and topk, bf16, some rows", figures(seconds(product_and_topk, repeats=3))
    try:
        import faiss

        resources = faiss.StandardGpuResources()
    except (ImportError, AttributeError):
        yield "faiss GPU flat", "faiss-gpu is not installed"
        return
    index = faiss.GpuIndexFlatIP(resources, unit.shape[1])
    plain = unit.float().cpu().numpy()
    torch.cuda.empty_cache()  # FAISS allocates by itself
    index.add(plain)
    index.search(plain[:PEER_BLOCK], k + 1)
    yield "faiss GPU flat, some rows", figures(seconds(lambda: index.search(plain[:rows], k + 1), repeats=3))


def _gpu_unit(embeddings: npt.NDArray[np.float32], dtype: torch.dtype) -> torch.Tensor:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return torch.nn.functional.normalize(torch.from_numpy(embeddings).cuda().to(wide), dim=1).to(dtype)


def _gpu_peak(dtype: torch.dtype, size: int = 16384) -> float:
    """Operations a second of one large square matrix product; of random numbers, as zeros are faster."""
    left = torch.randn(size, size, device="cuda").to(dtype)

    def multiply() -> None:
        torch.mm(left, left.T)
        torch.cuda.synchronize()

    multiply()
    return 2 * size**3 / seconds(multiply, repeats=10)


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
