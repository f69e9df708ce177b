"""The exact pair scan: all N(N-1)/2 cosine similarities, streamed through blocks and never held at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tamis.errors import InputError

Progress: TypeAlias = Callable[[int, int], None]
Embeddings: TypeAlias = "npt.NDArray[Any] | torch.Tensor"

MIN_SAMPLES = 4
# Fixed, so that results do not depend on how much memory a machine has: a product's last bit may vary with its shape.
BLOCK = 1024
# A similarity as an integer of the same order in the high half, the partner's index in the low half.
_EMPTY = torch.iinfo(torch.int64).min
_LOW_HALF = 2**32 - 1


@dataclass(frozen=True)
class Histogram:
    """Similarities of unordered pairs.

    edges: (B+1,) float64, from -1 to 1, each exactly representable in float32.
    counts: (B,) int64; bin b holds edges[b] <= s < edges[b+1], the last one its upper edge too.
    exact: whether every pair was counted; else the counts are of pairs with a random reference set.
    error: bound on the error of any share read from it, at 95% confidence (0 when exact), by the
        Dvoretzky-Kiefer-Wolfowitz inequality over the reference samples.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    exact: bool = True
    error: float = 0.0

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def share_above(self, similarity: float) -> float:
        """Share of pairs at or above `similarity`: exact at an edge, linear between two."""
        cumulative = np.concatenate([[0], np.cumsum(self.counts)])
        below = np.interp(similarity, self.edges, cumulative.astype(np.float64))
        return float(1.0 - below / cumulative[-1])

    def quantile(self, share: float) -> float:
        """The similarity that `share` of the pairs reach or exceed, linear inside a bin."""
        if not 0.0 <= share <= 1.0:
            raise InputError(f"A share lies between 0 and 1; {share} does not.")
        above = np.cumsum(self.counts[::-1]).astype(np.float64)
        target = share * above[-1]
        bin_from_top = int(np.searchsorted(above, target))
        before = above[bin_from_top - 1] if bin_from_top else 0.0
        inside = (target - before) / max(above[bin_from_top] - before, 1.0)
        top = len(self.counts) - bin_from_top
        return float(self.edges[top] - inside * (self.edges[top] - self.edges[top - 1]))


@dataclass(frozen=True)
class PairScan:
    """What one pass over all pairs found.

    indices: (N, k) int64, each sample's most similar partners inside the band, best first; -1 where there are fewer.
    similarities: (N, k) float32, descending; -inf where the index is -1.
    histogram: of all unordered pairs.
    profile: (N, P) int32, for each sample how many of its pairs fall between consecutive `profile_edges`.
    profile_edges: (P+1,) float64.
    """

    indices: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    histogram: Histogram
    profile: npt.NDArray[np.int32]
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
) -> PairScan:
    """Compares every sample with every other one by cosine similarity.

    embeddings: (N, d) float array, memory map or tensor, of any scale.
    k: partners to keep for each sample, the most similar with sim_low <= s < sim_high; None leaves a side open. Equal
        similarities are ordered by index.
    bins: of the histogram over [-1, 1]; a power of two, which makes every edge exact.
    profile_edges: ascending edges of the per-sample histograms, each an edge of the histogram; none by default.
    reference: indices of M samples; when given, each sample is compared with these alone, in O(N M), and the histogram
        is an estimate.

    Memory: the result and a few blocks of 1024 x 1024.

    Raises InputError for fewer than 4 samples, for rows that are zero or not finite, and when all rows are equal.
    """
    if bins < 2 or bins & (bins - 1):
        raise InputError(f"bins is {bins}.", "Use a power of two.")
    rows = Rows(embeddings, device)
    count = len(rows)
    k = min(k, count - 1)
    edges = np.linspace(-1.0, 1.0, bins + 1)
    coarse = np.array([-1.0, 1.0]) if profile_edges is None else profile_edges
    bin_of_edge = np.searchsorted(edges, coarse)
    if not np.array_equal(edges[bin_of_edge], coarse) or coarse[0] != -1.0 or coarse[-1] != 1.0:
        raise InputError("profile_edges must be edges of the histogram, from -1 to 1.")
    scan = _Scan(rows, k, sim_high, sim_low, bins, bin_of_edge)
    blocks = list(_blocks(count, None if reference is None else len(reference)))
    for done, (first, second) in enumerate(blocks, 1):
        if reference is None:
            scan.add_symmetric(first, second)
        else:
            scan.add_reference(first, torch.from_numpy(reference[second]))
        if progress is not None:
            progress(done, len(blocks))
    error = 0.0 if reference is None else float(np.sqrt(np.log(2 / 0.05) / (2 * len(reference))))
    indices, similarities = _unpack(scan.best)
    return PairScan(
        indices,
        similarities,
        Histogram(edges, scan.counts.cpu().numpy(), exact=reference is None, error=error),
        scan.profile.cpu().numpy(),
        coarse,
    )


def normalise(embeddings: Embeddings) -> npt.NDArray[np.float32]:
    """(N, d) float32 rows of length one. Raises InputError as `pair_scan` does."""
    rows = Rows(embeddings, "cpu")
    out = np.empty((len(rows), rows.dimension), np.float32)
    for start in range(0, len(rows), BLOCK):
        out[start : start + BLOCK] = rows.block(slice(start, start + BLOCK)).numpy()
    return out


class Rows:
    """Checked embeddings, normalised block by block as they are read."""

    def __init__(self, embeddings: Embeddings, device: str) -> None:
        array = embeddings.detach() if isinstance(embeddings, torch.Tensor) else np.asanyarray(embeddings)
        if array.ndim != 2 or array.shape[1] == 0:
            raise InputError(f"The embeddings have shape {tuple(array.shape)}.", "Give an (N, d) array.")
        if isinstance(array, np.ndarray) and array.dtype.kind != "f":
            raise InputError(f"The embeddings are of type {array.dtype}.", "Give floats.")
        if isinstance(array, torch.Tensor) and not array.is_floating_point():
            raise InputError(f"The embeddings are of type {array.dtype}.", "Give floats.")
        if len(array) < MIN_SAMPLES:
            raise InputError(f"There are {len(array)} samples.", f"At least {MIN_SAMPLES} are needed to compare pairs.")
        self._array = array
        self.device = resolve_device(device)
        self.dimension = int(array.shape[1])
        self._norms = torch.cat([torch.linalg.vector_norm(block, dim=1) for _, block in self._raw_blocks()])
        self._check()

    def __len__(self) -> int:
        return len(self._array)

    def block(self, which: slice | torch.Tensor) -> torch.Tensor:
        """The chosen rows as float32 of length one, on the device."""
        scaled = self._raw(which) / self._norms[which, None]
        return scaled.to(torch.float32).to(self.device)

    def _raw(self, which: slice | torch.Tensor) -> torch.Tensor:
        if isinstance(self._array, torch.Tensor):
            return (
                self._array[which.to(self._array.device) if isinstance(which, torch.Tensor) else which].cpu().double()
            )
        chosen = which.numpy() if isinstance(which, torch.Tensor) else which
        return torch.from_numpy(np.asarray(self._array[chosen], dtype=np.float64))

    def _raw_blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        for start in range(0, len(self), BLOCK):
            yield start, self._raw(slice(start, start + BLOCK))

    def _check(self) -> None:
        bad = torch.nonzero(~torch.isfinite(self._norms) | (self._norms == 0)).flatten()
        if len(bad):
            named = ", ".join(str(int(row)) for row in bad[:5]) + (", ..." if len(bad) > 5 else "")
            raise InputError(
                f"{len(bad)} of {len(self)} rows are zero, NaN or infinite: {named}.",
                "Leave these samples out, or embed them again.",
            )
        first = self.block(slice(0, 1))
        if all(torch.equal(self.block(slice(s, s + BLOCK)), first.expand(len(b), -1)) for s, b in self._raw_blocks()):
            raise InputError(
                "All embeddings point the same way.", "The encoder has collapsed: train or choose another."
            )


def resolve_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"The device {device} is not available.", "Use cpu, or install a CUDA build of PyTorch.")
    return torch.device(device)


class _Scan:
    """Accumulates blocks of the similarity matrix. Each unordered pair's similarity is computed once."""

    def __init__(
        self,
        rows: Rows,
        k: int,
        sim_high: float | None,
        sim_low: float | None,
        bins: int,
        bin_of_edge: npt.NDArray[np.int64],
    ) -> None:
        device, count = rows.device, len(rows)
        self._rows, self._k, self._bins = rows, k, bins
        self._high = float("inf") if sim_high is None else sim_high
        self._low = -float("inf") if sim_low is None else sim_low
        # Fine bin to profile bin: how many inner edges lie at or below it.
        inner = torch.from_numpy(bin_of_edge[1:-1])
        self._coarse_bin = torch.bucketize(torch.arange(bins), inner, right=True).to(device)
        self._profile_bins = len(bin_of_edge) - 1
        self.counts = torch.zeros(bins, dtype=torch.int64, device=device)
        self.profile = torch.zeros((count, self._profile_bins), dtype=torch.int32, device=device)
        self.best = torch.full((count, k), _EMPTY, dtype=torch.int64, device=device)

    def add_symmetric(self, first: slice, second: slice) -> None:
        """One block of the upper triangle; it serves the rows of both its sides."""
        similarity = self._product(first, self._rows.block(second))
        bins = self._bin(similarity)
        row, column = _range(first, similarity.device), _range(second, similarity.device)
        if first == second:
            upper = torch.triu(torch.ones_like(similarity, dtype=torch.bool), 1)
            self._count(bins[upper])
            # Both orientations of a pair must hold the same bits, so the lower triangle mirrors the upper.
            similarity = torch.where(upper, similarity, similarity.T)
            bins = torch.where(upper, bins, bins.T)
            other = ~torch.eye(len(row), dtype=torch.bool, device=similarity.device)
            self._take(first, row, column, similarity, bins, other)
            return
        self._count(bins.flatten())
        every = torch.ones_like(similarity, dtype=torch.bool)
        self._take(first, row, column, similarity, bins, every)
        self._take(second, column, row, similarity.T, bins.T, every.T)

    def add_reference(self, first: slice, reference: torch.Tensor) -> None:
        """Some rows against some reference samples."""
        similarity = self._product(first, self._rows.block(reference))
        bins = self._bin(similarity)
        row, column = _range(first, similarity.device), reference.to(similarity.device)
        other = row[:, None] != column[None, :]
        self._count(bins[other])
        self._take(first, row, column, similarity, bins, other)

    def _product(self, first: slice, second: torch.Tensor) -> torch.Tensor:
        return (self._rows.block(first) @ second.T).clamp_(-1.0, 1.0)

    def _bin(self, similarity: torch.Tensor) -> torch.Tensor:
        # Multiplying by a power of two and flooring are exact in float32; adding one first would not be.
        half = self._bins // 2
        return (torch.floor(similarity * half).to(torch.int64) + half).clamp_(max=self._bins - 1)

    def _count(self, bins: torch.Tensor) -> None:
        self.counts += torch.bincount(bins, minlength=self._bins)

    def _take(
        self,
        where: slice,
        row: torch.Tensor,
        column: torch.Tensor,
        similarity: torch.Tensor,
        bins: torch.Tensor,
        valid: torch.Tensor,
    ) -> None:
        """Merges a block into the profile and the best partners of its rows."""
        if self._profile_bins > 1:
            local = torch.arange(len(row), device=row.device)[:, None] * self._profile_bins + self._coarse_bin[bins]
            added = torch.bincount(local[valid], minlength=len(row) * self._profile_bins)
            self.profile[where] += added.view(len(row), -1).to(torch.int32)
        else:
            self.profile[where] += valid.sum(1, dtype=torch.int32)[:, None]
        if self._k == 0:
            return
        keys = _pack(similarity, column)
        keys[~(valid & (similarity >= self._low) & (similarity < self._high))] = _EMPTY
        self.best[where] = torch.cat([self.best[where], keys], dim=1).topk(self._k, dim=1).values


def _blocks(count: int, references: int | None) -> Iterator[tuple[slice, slice]]:
    for start in range(0, count, BLOCK):
        first = slice(start, min(start + BLOCK, count))
        if references is None:
            for other in range(start, count, BLOCK):
                yield first, slice(other, min(other + BLOCK, count))
        else:
            for other in range(0, references, BLOCK):
                yield first, slice(other, min(other + BLOCK, references))


def _range(which: slice, device: torch.device) -> torch.Tensor:
    return torch.arange(which.start, which.stop, device=device)


def _pack(similarity: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """(m, n) int64 keys that order by similarity, then by lower index."""
    bits = similarity.contiguous().view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(torch.int64) << 32) | (_LOW_HALF - column)[None, :]


def _unpack(keys: torch.Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    empty = keys == _EMPTY
    indices = torch.where(empty, -1, _LOW_HALF - (keys & _LOW_HALF))
    ordered = (keys >> 32).to(torch.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    similarities = torch.where(empty, -float("inf"), bits.view(torch.float32))
    return indices.cpu().numpy(), similarities.cpu().numpy()
