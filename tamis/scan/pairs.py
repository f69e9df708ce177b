"""The exact pair scan: all N(N-1)/2 cosine similarities, streamed through blocks and never held at once."""

import hashlib
import io
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tamis.checkpoint import Checkpoint
from tamis.device import has_bf16, resolve_device
from tamis.errors import InputError
from tamis.progress import Progress
from tamis.scan.histogram import Histogram, exact_edges
from tamis.scan.rows import Embeddings, Rows, as_rows
from tamis.scan.task import Method, Task
from tamis.shown import facts

# Up to so many samples float32 is fast enough, and its histogram is exact at every edge.
FLOAT32_LIMIT = 8192
# With a checkpoint: tiles between two looks at the clock, and seconds between two saves.
PORTION, SAVE_SECONDS = 512, 60.0
# What a scan is taken to do a second, in pairs times dimensions, each pair costing OVERHEAD dimensions more for all but
# its product: what two cores do in float32 and in bf16 (docs/pair-scan.md), and a tenth of what a small GPU's matrix
# units would. Never timed, so that what is decided by it is the same on every machine of a kind.
PACE = {"float32": 3e10, "bf16": 1e11, "cuda": 5e12}
OVERHEAD = 128


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

    def _repr_html_(self) -> str:
        count, k = self.indices.shape
        found = {"partners found": f"{int((self.indices >= 0).sum()):,}, at most {k} a sample"}
        return facts(f"Scan of {count:,} samples", found) + self.histogram._repr_html_()


def pair_scan(
    embeddings: "Embeddings | Rows",
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

    embeddings: (N, d) float array, memory map or tensor, of any scale; or `Rows`, which have been checked.
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
    rows = as_rows(embeddings)
    low, high = -2.0 if sim_low is None else sim_low, 2.0 if sim_high is None else sim_high
    task = Task(k, low, high, bins, profile_edges, None if reference is None else np.unique(reference))
    method = choose_method(rows, device, k, 0 if profile_edges is None else len(profile_edges))
    return scan_all(rows, task, method, progress, checkpoint)


def scan_all(
    rows: Rows, task: Task, method: Method, progress: Progress | None = None, checkpoint: Checkpoint | None = None
) -> PairScan:
    """`pair_scan` of a task, by a method of `choose_method`."""
    prepared = _prepare(rows, task, method)
    prepared.run(prepared.scan.tiles(), progress, checkpoint)
    return prepared.result()


def scan_part(
    rows: Rows,
    task: Task,
    method: Method,
    part: int,
    parts: int,
    checkpoint: Checkpoint,
    progress: Progress | None = None,
) -> None:
    """One of several shares of a pair scan, from 0: they may be made by different processes and machines.

    What it found is the last that is saved to `checkpoint`, for `merge_parts`. progress: of this part alone.
    """
    prepared = _prepare(rows, task, method)
    tiles = prepared.scan.tiles()[part::parts]
    prepared.run(tiles, progress, checkpoint)
    checkpoint.save(prepared.content(len(tiles)))


def merge_parts(rows: Rows, task: Task, method: Method, contents: Iterable[bytes]) -> PairScan:
    """What `scan_all` would return, bit for bit, from what all parts of `scan_part` saved.

    Raises InputError when a part was made of other embeddings, or with another task or method.
    """
    prepared = _prepare(rows, task, method)
    for content in contents:
        if prepared.absorb(content) is None:
            raise InputError("A part belongs to another scan.", "Make all parts of the same embeddings and task.")
    return prepared.result()


def choose_method(rows: Rows, device: str, k: int, profile_edges: int = 0) -> Method:
    """How to scan here for k partners and so many edges of a profile.

    It follows from the kind of device and the size of the data, never from a timing or from what else runs there, so
    that equal inputs give equal bytes. Raises InputError for a device that cannot.
    """
    target = _scan_device(device, rows, min(k, len(rows)) + profile_edges)
    if target.type == "cpu":
        return Method("cpu", bf16=computes_bf16(len(rows)))
    from tamis.scan.gpu import shape_for

    return Method(str(target), bf16=False, shape=shape_for(target, profile=profile_edges > 0))


def seconds_needed(rows: Rows, columns: int | None, method: Method) -> float:
    """About how long a scan takes on a slow device of this kind. columns: how many samples all are compared with; None
    for all."""
    count = len(rows)
    pairs = count * (count / 2 if columns is None else columns)
    pace = PACE["bf16" if method.bf16 else "float32" if method.device == "cpu" else "cuda"]
    return pairs * (rows.dimension + OVERHEAD) / pace


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

    def run(self, tiles: Sequence[Any], progress: Progress | None, checkpoint: Checkpoint | None) -> None:
        """Adds tiles, but for those at the beginning that the checkpoint holds."""
        done = 0 if checkpoint is None else self._restore(checkpoint.load())
        saved_at = time.monotonic()
        while done < len(tiles):
            # Without a checkpoint in one go; else in portions, so that a save finds no tile half done.
            portion = tiles[done:] if checkpoint is None else tiles[done : done + PORTION]
            self.scan.run(portion, _shifted(progress, done, len(tiles)))
            done += len(portion)
            if checkpoint is not None and done < len(tiles) and time.monotonic() - saved_at > SAVE_SECONDS:
                checkpoint.save(self.content(done))
                saved_at = time.monotonic()

    def result(self) -> PairScan:
        found = self.scan.finish()
        edges = np.empty(0) if self.profile_edges is None else self.profile_edges
        histogram = replace(self.histogram, counts=found.counts)
        return PairScan(found.indices, found.similarities, histogram, found.profile, edges)

    def _restore(self, content: bytes | None) -> int:
        try:
            return (self.absorb(content) if content else None) or 0
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            return 0  # a damaged checkpoint: the scan begins anew


def _prepare(rows: Rows, task: Task, method: Method) -> _Prepared:
    bins, columns = task.bins, task.columns
    if bins < 2 or bins & (bins - 1):
        raise InputError(f"bins is {bins}.", "Use a power of two.")
    exact = exact_edges(bins, bf16=method.bf16)
    if task.profile_edges is not None:
        _check_profile(task.profile_edges, exact)
    others = (len(rows) if columns is None else len(columns)) - 1
    task = replace(task, k=max(0, min(task.k, others)))
    # Dvoretzky, Kiefer and Wolfowitz, with the constant of Massart (1990), over the reference samples.
    error = 0.0 if columns is None else float(np.sqrt(np.log(2 / 0.05) / (2 * len(columns))))
    edges, counts = np.linspace(-1.0, 1.0, bins + 1), np.zeros(bins, np.int64)
    histogram = Histogram(edges, counts, exact, exact=columns is None, error=error)
    identity = hashlib.sha256(f"{task.k} {task.low} {task.high} {bins} {method} {rows.dimension}".encode())
    for array in (rows.norms.numpy(), task.profile_edges, columns):
        identity.update(b"none" if array is None else array.tobytes())
    scan: Any
    if method.device == "cpu":
        from tamis.scan.cpu import Scan  # brings numba, which training alone does not need

        scan = Scan(rows, task, bf16=method.bf16)
    else:
        from tamis.scan.gpu import Scan as GpuScan  # brings Triton

        assert method.shape is not None  # `choose_method` gives one to every GPU
        scan = GpuScan(rows, task, resolve_device(method.device), method.shape)
    return _Prepared(scan, histogram, task.profile_edges, identity.hexdigest())


def _scan_device(device: str, rows: Rows, numbers: int) -> torch.device:
    """Where to scan. numbers: how many a sample the result has."""
    target = resolve_device(device)
    if target.type != "cuda" or (device == "auto" and len(rows) <= FLOAT32_LIMIT):
        return torch.device("cpu")
    if find_spec("triton") is None:
        return _unless_asked(device, "Triton is not installed.")
    from tamis.scan.gpu import memory_free, memory_needed, memory_of

    needed, room = memory_needed(rows, numbers), memory_of(target)
    needs = f"The scan needs {needed >> 20:,} MiB of the GPU's memory, "
    if needed > room:
        return _unless_asked(device, needs + f"which has {room >> 20:,} MiB.")
    if needed > (free := memory_free(target)):
        raise InputError(
            needs + f"and {free >> 20:,} MiB are free.", "Wait for what else runs there, or use device cpu."
        )
    return target


def _unless_asked(device: str, problem: str) -> torch.device:
    """The CPU, unless the GPU was asked for by name."""
    if device == "auto":
        return torch.device("cpu")
    raise InputError(problem, "Use device cpu.")


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    return None if progress is None else lambda more, _: progress(done + more, total)


def _check_profile(edges: npt.NDArray[np.float64], exact: npt.NDArray[np.float64]) -> None:
    if not np.isin(edges, exact).all() or edges[0] != -1.0 or edges[-1] != 1.0:
        raise InputError("profile_edges must be exact edges of the histogram, from -1 to 1.")
    if len(edges) > 256:
        raise InputError(f"There are {len(edges)} profile edges.", "Use at most 256.")
