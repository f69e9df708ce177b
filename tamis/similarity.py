"""The exact pair scan: all N(N-1)/2 cosine similarities, streamed through blocks and never held at once."""

import hashlib
import io
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tamis.checkpoint import Checkpoint
from tamis.device import has_bf16, resolve_device
from tamis.errors import InputError
from tamis.histogram import Histogram, exact_edges
from tamis.rows import Embeddings, Rows
from tamis.scan import Progress, Task

# Up to so many samples float32 is fast enough, and its histogram is exact at every edge.
FLOAT32_LIMIT = 8192
# With a checkpoint: tiles between two looks at the clock, and seconds between two saves.
PORTION, SAVE_SECONDS = 512, 60.0


@dataclass(frozen=True)
class PairScan:
    """What one pass over all pairs found.

    indices: (N, k) int64, each sample's most similar partners inside the band, best first; -1 where there are fewer.
    similarities: (N, k) float32, descending; -inf where the index is -1.
    histogram: of all unordered pairs.
    profile: (N, P) whole numbers, for each sample how many of its pairs fall between consecutive `profile_edges`.
    profile_edges: (P+1,) float64.
    """

    indices: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    histogram: Histogram
    profile: npt.NDArray[Any]
    profile_edges: npt.NDArray[np.float64]


def pair_scan(
    embeddings: Embeddings,
    k: int = 64,
    sim_high: float | None = None,
    sim_low: float | None = None,
    bins: int = 2048,
    device: str = "auto",
    *,
    profile_edges: npt.NDArray[np.float64] | None = None,
    reference: npt.NDArray[np.int64] | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> PairScan:
    """Compares every sample with every other one by cosine similarity.

    embeddings: (N, d) float array, memory map or tensor, of any scale.
    k: partners to keep for each sample, the most similar with sim_low <= s < sim_high; None leaves a side open. Equal
        similarities are ordered by index. Partners and similarities are those of an exact search.
    bins: of the histogram over [-1, 1]; a power of two, which makes every edge exactly representable.
    profile_edges: ascending edges of the per-sample histograms, at most 256, from -1 to 1 and all among the histogram's
        `exact_edges`; none by default.
    reference: indices of M samples; when given, each sample is compared with these alone, in O(N M), and the histogram
        is an estimate.
    progress: called with tiles done and tiles in all. checkpoint: where an interrupted scan is taken up; saved to about
        once a minute.

    device: auto is the GPU, where there is one and the rows fit into its memory, beyond 8,192 samples.

    Beyond 8,192 samples, similarities are computed in bf16 where the CPU does so in hardware, else in float32, and on a
    GPU always of float16 rows; the candidates that the error bound leaves are compared again exactly.

    Memory: the result, the rows in that precision, and 32 k bytes a sample for candidates.

    Raises InputError for fewer than 4 samples, for rows that are zero or not finite, and when all rows are equal.
    """
    prepared = _prepare(embeddings, k, sim_high, sim_low, bins, device, profile_edges, reference)
    tiles = prepared.scan.tiles()
    done = 0 if checkpoint is None else prepared.restore(checkpoint.load())
    saved_at = time.monotonic()
    while done < len(tiles):
        # Without a checkpoint in one go; else in portions, so that a save finds no tile half done.
        portion = tiles[done:] if checkpoint is None else tiles[done : done + PORTION]
        prepared.scan.run(portion, _shifted(progress, done, len(tiles)))
        done += len(portion)
        if checkpoint is not None and done < len(tiles) and time.monotonic() - saved_at > SAVE_SECONDS:
            checkpoint.save(prepared.content(done))
            saved_at = time.monotonic()
    return prepared.result()


def scan_part(embeddings: Embeddings, part: int, parts: int, **options: Any) -> bytes:
    """One of several shares of a pair scan, for `merge_parts`: they may be made by different processes and machines.

    options: as of `pair_scan`, the same for all parts.
    """
    prepared = _prepare(embeddings, **options)
    prepared.scan.run(prepared.scan.tiles()[part::parts])
    return prepared.content(0)


def merge_parts(embeddings: Embeddings, contents: Iterable[bytes], **options: Any) -> PairScan:
    """What `pair_scan` would return, bit for bit, from all parts of `scan_part`.

    Raises InputError when a part was made of other embeddings or with other options.
    """
    prepared = _prepare(embeddings, **options)
    for content in contents:
        if prepared.absorb(content) is None:
            raise InputError("A part belongs to another scan.", "Make all parts of the same embeddings and options.")
    return prepared.result()


def seconds_for_all_pairs(count: int, dimension: int) -> float:
    """About how long an exact scan takes here: half of all products of two tiles, by the time that one takes now, and
    as much again for all else."""
    from tamis.similarity_cpu import TILE

    dtype = torch.bfloat16 if computes_bf16(count) else torch.float32
    tile = torch.ones((TILE, dimension), dtype=dtype)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        torch.mm(tile, tile.T)
        times.append(time.perf_counter() - start)
    return min(times) * (count / TILE) ** 2 / 2 * 2


def computes_bf16(count: int) -> bool:
    """Whether a scan of so many samples computes in bf16 on this machine."""
    return count > FLOAT32_LIMIT and has_bf16(torch.device("cpu"))


@dataclass(frozen=True)
class _Prepared:
    """A scan that is ready to run, and what its result needs beside it. identity: tells scans apart."""

    scan: Any
    histogram: Histogram
    profile_edges: npt.NDArray[np.float64] | None
    identity: str

    def content(self, done: int) -> bytes:
        sink = io.BytesIO()
        np.savez(sink, identity=self.identity, done=done, **self.scan.state())
        return sink.getvalue()

    def absorb(self, content: bytes) -> int | None:
        """Takes up what was stored; returns the number of tiles said to be done, None for another scan's content."""
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            if str(stored["identity"]) != self.identity:
                return None
            self.scan.absorb(stored)
            return int(stored["done"])

    def restore(self, content: bytes | None) -> int:
        try:
            return (self.absorb(content) if content else None) or 0
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            return 0  # a damaged checkpoint: the scan begins anew

    def result(self) -> PairScan:
        found = self.scan.finish()
        edges = np.empty(0) if self.profile_edges is None else self.profile_edges
        histogram = replace(self.histogram, counts=found.counts)
        return PairScan(found.indices, found.similarities, histogram, found.profile, edges)


def _prepare(
    embeddings: Embeddings,
    k: int = 64,
    sim_high: float | None = None,
    sim_low: float | None = None,
    bins: int = 2048,
    device: str = "auto",
    profile_edges: npt.NDArray[np.float64] | None = None,
    reference: npt.NDArray[np.int64] | None = None,
) -> _Prepared:
    if bins < 2 or bins & (bins - 1):
        raise InputError(f"bins is {bins}.", "Use a power of two.")
    rows = Rows(embeddings)
    columns = None if reference is None else np.unique(reference)
    target = _scan_device(device, rows, min(k, len(rows)) + (0 if profile_edges is None else len(profile_edges)))
    bf16 = target.type == "cpu" and computes_bf16(len(rows))
    edges = np.linspace(-1.0, 1.0, bins + 1)
    exact = exact_edges(bins, bf16=bf16)
    task = Task(
        k=max(0, min(k, (len(rows) if columns is None else len(columns)) - 1)),
        low=-2.0 if sim_low is None else sim_low,
        high=2.0 if sim_high is None else sim_high,
        bins=bins,
        profile_of_bin=None if profile_edges is None else _profile_of_bin(profile_edges, edges, exact),
        columns=columns,
    )
    # Dvoretzky, Kiefer and Wolfowitz, with the constant of Massart (1990), over the reference samples.
    error = 0.0 if columns is None else float(np.sqrt(np.log(2 / 0.05) / (2 * len(columns))))
    histogram = Histogram(edges, np.zeros(bins, np.int64), exact, exact=columns is None, error=error)
    identity = hashlib.sha256(f"{task.k} {task.low} {task.high} {bins} {target.type} {bf16} {rows.dimension}".encode())
    for array in (rows.norms.numpy(), profile_edges, columns):
        identity.update(b"none" if array is None else array.tobytes())
    scan: Any
    if target.type == "cpu":
        from tamis.similarity_cpu import Scan  # brings numba, which training alone does not need

        scan = Scan(rows, task, bf16=bf16)
    else:
        from tamis.similarity_gpu import Scan as GpuScan  # brings Triton

        scan = GpuScan(rows, task, target)
    return _Prepared(scan, histogram, profile_edges, identity.hexdigest())


def _scan_device(device: str, rows: Rows, numbers: int) -> torch.device:
    """Where to scan. numbers: how many a sample the result has."""
    target = resolve_device(device)
    if target.type != "cuda" or (device == "auto" and len(rows) <= FLOAT32_LIMIT):
        return torch.device("cpu")
    problem = None
    if find_spec("triton") is None:
        problem = "Triton is not installed."
    else:
        from tamis.similarity_gpu import memory_free, memory_needed

        needed, free = memory_needed(rows, numbers), memory_free(target)
        if needed > free:
            problem = f"The scan needs {needed >> 20:,} MiB of the GPU's memory, and {free >> 20:,} MiB are free."
    if problem is None:
        return target
    if device == "auto":
        return torch.device("cpu")
    raise InputError(problem, "Use device cpu.")


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    return None if progress is None else lambda more, _: progress(done + more, total)


def _profile_of_bin(
    profile_edges: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], exact: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    if not np.isin(profile_edges, exact).all() or profile_edges[0] != -1.0 or profile_edges[-1] != 1.0:
        raise InputError("profile_edges must be exact edges of the histogram, from -1 to 1.")
    if len(profile_edges) > 256:
        raise InputError(f"There are {len(profile_edges)} profile edges.", "Use at most 256.")
    return (np.searchsorted(profile_edges, edges[:-1], side="right") - 1).astype(np.uint8)
