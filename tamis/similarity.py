"""The exact pair scan: all N(N-1)/2 cosine similarities, streamed through blocks and never held at once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tamis.errors import InputError
from tamis.rows import Embeddings, Rows
from tamis.similarity_cpu import Progress, Scan, Task, exact_edges, multiplies_bf16

# Up to so many samples float32 is fast enough, and its histogram is exact at every edge.
FLOAT32_LIMIT = 8192


@dataclass(frozen=True)
class Histogram:
    """Similarities of unordered pairs.

    edges: (B+1,) float64, from -1 to 1, each exactly representable in float32.
    counts: (B,) int64; bin b holds edges[b] <= s < edges[b+1], the last one its upper edge too.
    exact_edges: the edges at which counts are those of the similarities as computed; in bf16 those that round alike are
        spread evenly over up to four bins, and what is read between such edges is interpolated.
    exact: whether every pair was counted; else the counts are of pairs with a random reference set.
    error: bound on the error of any share read from it, at 95% confidence (0 when exact), by the
        Dvoretzky-Kiefer-Wolfowitz inequality over the reference samples.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    exact_edges: npt.NDArray[np.float64]
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
        similarities are ordered by index. Partners and similarities are those of an exact search.
    bins: of the histogram over [-1, 1]; a power of two, which makes every edge exactly representable.
    profile_edges: ascending edges of the per-sample histograms, at most 256, from -1 to 1 and all among the histogram's
        `exact_edges`; none by default.
    reference: indices of M samples; when given, each sample is compared with these alone, in O(N M), and the histogram
        is an estimate.
    progress: called with tiles done and tiles in all.

    Beyond 8,192 samples, similarities are computed in bf16 where the CPU does so in hardware, else in float32; the
    candidates that the error bound leaves are compared again exactly.

    Memory: the result, the rows in that precision, and 32 k bytes a sample for candidates.

    Raises InputError for fewer than 4 samples, for rows that are zero or not finite, and when all rows are equal.
    """
    if bins < 2 or bins & (bins - 1):
        raise InputError(f"bins is {bins}.", "Use a power of two.")
    resolve_device(device)
    rows = Rows(embeddings)
    columns = None if reference is None else np.unique(reference)
    bf16 = computes_bf16(len(rows))
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
    scan = Scan(rows, task, bf16=bf16)
    scan.run(scan.tiles(), progress)
    found = scan.finish()
    # Dvoretzky, Kiefer and Wolfowitz, with the constant of Massart (1990), over the reference samples.
    error = 0.0 if columns is None else float(np.sqrt(np.log(2 / 0.05) / (2 * len(columns))))
    return PairScan(
        found.indices,
        found.similarities,
        Histogram(edges, found.counts, exact, exact=columns is None, error=error),
        found.profile,
        np.empty(0) if profile_edges is None else profile_edges,
    )


def computes_bf16(count: int) -> bool:
    """Whether a scan of so many samples computes in bf16 on this machine."""
    return count > FLOAT32_LIMIT and multiplies_bf16()


def _profile_of_bin(
    profile_edges: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], exact: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    if not np.isin(profile_edges, exact).all() or profile_edges[0] != -1.0 or profile_edges[-1] != 1.0:
        raise InputError("profile_edges must be exact edges of the histogram, from -1 to 1.")
    if len(profile_edges) > 256:
        raise InputError(f"There are {len(profile_edges)} profile edges.", "Use at most 256.")
    return (np.searchsorted(profile_edges, edges[:-1], side="right") - 1).astype(np.uint8)


def resolve_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"The device {device} is not available.", "Use cpu, or install a CUDA build of PyTorch.")
    return torch.device(device)
