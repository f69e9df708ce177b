"""The pair scan on CPU: tiles of the similarity matrix, multiplied in low precision on the matrix units, each read once
while it is in cache; only the few survivors are compared again exactly.

Threads never share a product: each takes a tile, multiplies it on one core, and passes over it in one compiled loop
that counts every similarity and lists those that may belong among a sample's best. The lists are merged under a lock.
"""

import threading
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tamis.progress import Progress
from tamis.scan import cpu_candidates as candidates
from tamis.scan import cpu_kernels as kernels
from tamis.scan.histogram import pattern_bins, pattern_values
from tamis.scan.memory import Arrays, memory_budget
from tamis.scan.rows import Rows
from tamis.scan.task import ACCUMULATION, Found, Task, seed_rank
from tamis.scan.threads import in_parallel, threads

Tile: TypeAlias = tuple[int, int, int]

# Fixed, so that results do not depend on the machine: a product's last bit may vary with its shape.
TILE = 1024
# Columns from which each row's first cut is estimated.
SAMPLE = 2048
# Rounding a similarity below 1 to bf16.
HALF_ULP = 2.0**-9
FLUSH = 512


class Scan:
    """Accumulates tiles. Neither their order nor how they are shared out among several scans changes the result."""

    def __init__(self, rows: Rows, task: Task, *, bf16: bool, memory: int | None = None) -> None:
        """memory: bytes for arrays that grow with N; what is beyond goes to scratch files."""
        arrays = Arrays(memory_budget() if memory is None else memory)
        self._rows, self._task = rows, task
        self._symmetric = task.columns is None
        everyone = np.arange(len(rows))
        self._ids = everyone if task.columns is None else task.columns
        self._other = _Operand(rows, bf16, self._ids, arrays)
        # Compared with few columns, each row is needed once, and not worth keeping.
        self._own = self._other if self._symmetric else _Operand(rows, bf16, everyone, None)
        self._counter = _Counter(task, bf16)
        self._best = _Best(rows, task, self._own, self._other, self._ids, arrays)
        self._counts = np.zeros(self._counter.size, np.int64)
        counting = np.uint16 if len(self._ids) < 2**16 else np.int32
        self._profile = arrays.zeros((len(rows), self._counter.profile_bins), counting)
        self._lock = threading.Lock()

    def tiles(self) -> list[Tile]:
        """All work, block row by block row: first row, first column and last of each piece."""
        starts, count = range(0, len(self._ids), TILE), len(self._ids)
        if self._symmetric:
            return [(row, column, min(column + TILE, count)) for row in starts for column in starts if column >= row]
        return [(row, 0, count) for row in range(0, len(self._rows), TILE)]

    def run(self, tiles: Sequence[Tile], progress: Progress | None = None) -> None:
        """Adds tiles, as many at a time as PyTorch has threads. What `progress` raises ends the scan."""
        spaces = [_Space(self._counter, self._own.dtype) for _ in range(torch.get_num_threads())]
        in_parallel(self._add, tiles, spaces, progress)
        for space in spaces:
            self._counts += space.counts

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """What the tiles added so far came to: to be kept, or absorbed by another scan of the same task."""
        return {"counts": self._counts, "profile": self._profile, **self._best.state()}

    def absorb(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Adds the tiles of a scan whose `state` this is; no tile may be in both."""
        self._counts += state["counts"]
        self._profile += state["profile"]
        self._best.absorb(state)

    def finish(self) -> Found:
        indices, similarities = self._best.finish(self._ids)
        return Found(indices, similarities, self._counter.uniform(self._counts), self._profile)

    def _add(self, tile: Tile, space: "_Space") -> None:
        row, first_column, last_column = tile
        own = slice(row, min(row + TILE, len(self._rows)))
        left = self._own[own]
        for column in range(first_column, last_column, TILE):
            self._add_product(left, own, slice(column, min(column + TILE, last_column)), space)

    def _add_product(self, left: torch.Tensor, own: slice, other: slice, space: "_Space") -> None:
        similarity = _times(left, self._other[other], space.product)
        # Of a product on the diagonal, what lies above it; of the others everything.
        first = 1 if self._symmetric and own == other else -TILE
        space.clear_profiles()
        hits = self._counter.tally(
            similarity,
            first,
            self._best.windows(own),
            self._best.windows(other) if self._symmetric else self._counter.no_windows(similarity.shape[1]),
            space,
        )
        with self._lock:
            if not self._symmetric:
                self._forget_selves(similarity, own, other, space)
            if self._counter.profile_bins:
                self._profile[own] += space.row_profile[: similarity.shape[0]]
                if self._symmetric:
                    self._profile[other] += space.column_profile[: similarity.shape[1]]
            self._best.push(similarity, hits, own.start, self._ids[other], self._symmetric, space)
            space.products += 1
            if space.products % FLUSH == 0:
                self._counts += space.counts
                space.counts[:] = 0

    def _forget_selves(self, similarity: npt.NDArray[Any], own: slice, other: slice, space: "_Space") -> None:
        """Takes the pairs of a sample with itself out of the counts again."""
        ids = self._ids[other]
        column = np.flatnonzero((ids >= own.start) & (ids < own.stop))
        row = ids[column] - own.start
        place = self._counter.place(similarity[row, column])
        np.subtract.at(space.counts, place, 1)
        if self._counter.profile_bins:
            np.subtract.at(space.row_profile, (row, self._counter.profile_of[place]), 1)


class _Operand:
    """Unit rows in the precision of the product: kept in `arrays`, or made again from the rows for every use.

    error: (n,) how far each is from what was rounded.
    """

    def __init__(self, rows: Rows, bf16: bool, ids: npt.NDArray[np.int64], arrays: Arrays | None) -> None:
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self._rows, self._ids = rows, ids
        self._kept: torch.Tensor | None = None
        if arrays is not None:
            plain = arrays.zeros((len(ids), rows.dimension), np.int16 if bf16 else np.float32)
            self._kept = torch.from_numpy(plain).view(self.dtype)
        self.error = np.empty(len(ids), np.float32)

        def convert(start: int, _: None) -> None:
            part = slice(start, min(start + TILE, len(ids)))
            unit = rows.unit(ids[part])
            rounded = unit.to(self.dtype)
            self.error[part] = torch.linalg.vector_norm(unit - rounded.to(torch.float32), dim=1).numpy()
            if self._kept is not None:
                self._kept[part] = rounded

        in_parallel(convert, range(0, len(ids), TILE), threads())

    def __getitem__(self, part: "slice | npt.NDArray[np.int64]") -> torch.Tensor:
        if self._kept is None:
            return self._rows.unit(self._ids[part]).to(self.dtype)
        return self._kept[part if isinstance(part, slice) else torch.from_numpy(part)]


class _Counter:
    """Counts similarities: by their bf16 pattern, or by the bin of a uniform histogram."""

    def __init__(self, task: Task, bf16: bool) -> None:
        self._bf16, self._bins = bf16, task.bins
        self.size = 2**16 if bf16 else task.bins
        self.profile_of = np.empty(0, np.uint8)
        self.profile_bins = 0
        if task.profile_of_bin is not None:
            first, _ = pattern_bins(task.bins)
            self.profile_of = task.profile_of_bin[first] if bf16 else task.profile_of_bin
            self.profile_bins = int(task.profile_of_bin.max()) + 1

    def tally(
        self,
        similarity: npt.NDArray[Any],
        first: int,
        own: npt.NDArray[Any],
        other: npt.NDArray[Any],
        space: "_Space",
    ) -> int:
        tally = kernels.tally_bf16 if self._bf16 else kernels.tally_f32
        return tally(
            similarity,
            first,
            space.counts,
            own,
            other,
            self.profile_of,
            space.row_profile,
            space.column_profile,
            space.flags,
            space.hit_row,
            space.hit_column,
        )

    def place(self, similarity: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Where each similarity is counted."""
        if self._bf16:
            return similarity.astype(np.int64)
        middle = self._bins // 2
        return np.clip(np.floor(similarity * np.float32(middle)).astype(np.int64) + middle, 0, self._bins - 1)

    def no_windows(self, count: int) -> npt.NDArray[Any]:
        """Windows that nothing lies in."""
        return np.zeros((2, count), np.int16 if self._bf16 else np.float32)

    def uniform(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(bins,) int64 with the same total: the values that round to one pattern are spread evenly over the bins."""
        if not self._bf16:
            return counts
        uniform = np.zeros(self._bins, np.int64)
        first, last = pattern_bins(self._bins)
        for pattern in np.flatnonzero(counts):
            width = last[pattern] - first[pattern]
            share, rest = divmod(int(counts[pattern]), int(width))
            uniform[first[pattern] : last[pattern]] += share
            uniform[first[pattern] + (width - rest) // 2 :][:rest] += 1
        return uniform


class _Best:
    """Each row's candidates for its k most similar partners in the band."""

    def __init__(
        self,
        rows: Rows,
        task: Task,
        own: _Operand,
        other: _Operand,
        ids: npt.NDArray[np.int64],
        arrays: Arrays,
    ) -> None:
        self._task, self._bf16 = task, own.dtype == torch.bfloat16
        self._value_of = pattern_values() if self._bf16 else np.empty(0, np.float32)
        self._exact = candidates.exact_of(rows)
        rounding = HALF_ULP if self._bf16 else 0.0
        error = own.error + other.error.max() + np.float32(4 * ACCUMULATION * rows.dimension + rounding)
        room = arrays.zeros((len(rows), min(4 * task.k, task.k + len(ids)), 2), np.int32)
        self._best = candidates.best_of(task.k, task.high, rounding, room, task.low, error)
        if task.k:
            self._seed(own, other, ids)
        self._first_cut = self._best.cut.copy()

    def windows(self, part: slice) -> npt.NDArray[Any]:
        """(2, n): which similarities matter to each row."""
        if not self._task.k:
            return np.zeros((2, part.stop - part.start), np.int16 if self._bf16 else np.float32)
        if self._bf16:
            return candidates.windows_bf16(self._best, part.start, part.stop)
        return np.stack([self._best.cut[part], np.float32(self._task.high) + self._best.error[part]])

    def push(
        self,
        similarity: npt.NDArray[Any],
        hits: int,
        row_start: int,
        column_ids: npt.NDArray[np.int64],
        both: bool,
        space: "_Space",
    ) -> None:
        if hits:
            found = hits, space.hit_row, space.hit_column
            candidates.push_hits(
                similarity, self._value_of, *found, row_start, column_ids, both, self._best, self._exact
            )

    def state(self) -> dict[str, npt.NDArray[Any]]:
        used = np.arange(self._best.partners.shape[1]) < self._best.size[:, None]
        return {
            "size": self._best.size.copy(),
            "partners": self._best.partners[used],
            "values": self._best.values[used],
        }

    def absorb(self, state: dict[str, npt.NDArray[Any]]) -> None:
        candidates.push_all(state["size"], state["partners"], state["values"], self._best, self._exact)

    def finish(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Indices and similarities, (N, k) each."""
        shape = len(self._first_cut), self._task.k
        indices, similarities = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
        if not self._task.k:
            return indices, similarities
        failed = np.zeros(len(indices), np.bool_)
        places = threads()
        low, best, exact = self._task.low, self._best, self._exact

        def settle(start: int, _: None) -> None:
            stop = min(start + TILE // 4, len(indices))
            candidates.finish_rows(start, stop, low, self._first_cut, best, exact, indices, similarities, failed)

        def repeat(row: int, _: None) -> None:
            indices[row], similarities[row] = -1, -np.inf
            candidates.exact_row(row, ids, low, best, exact, indices, similarities)

        in_parallel(settle, range(0, len(indices), TILE // 4), places)
        in_parallel(repeat, np.flatnonzero(failed).tolist(), places)
        return indices, similarities

    def _seed(self, own: _Operand, other: _Operand, ids: npt.NDArray[np.int64]) -> None:
        """Sets each row's first cut to a similarity that, by a random sample of the columns, more than k exceed."""
        size = min(SAMPLE, len(ids))
        rank = seed_rank(self._task.k * size / len(ids))
        if rank > size // 2:
            return
        chosen = np.sort(np.random.default_rng(0).choice(len(ids), size, replace=False))
        columns, column_ids, cut = other[chosen], ids[chosen], self._best.cut

        def seed(start: int, _: None) -> None:
            part = slice(start, min(start + TILE, len(cut)))
            similarity = torch.mm(own[part], columns.T).to(torch.float32).numpy()
            row_ids = np.arange(part.start, part.stop)
            seen = cut[part].copy()
            kernels.seed_cuts(similarity, row_ids, column_ids, self._task.high, rank, seen)
            # The sample's values may be too high by one error, and those of the best k too low by another.
            cut[part] = np.maximum(cut[part], seen - 2 * self._best.error[part])

        in_parallel(seed, range(0, len(cut), TILE), threads())


class _Space:
    """What one thread works in."""

    def __init__(self, counter: _Counter, dtype: torch.dtype) -> None:
        self.product = torch.empty(TILE * TILE, dtype=dtype)
        self.counts = np.zeros(counter.size, np.int32)
        self.row_profile = np.zeros((TILE, counter.profile_bins), np.uint16)
        self.column_profile = np.zeros((TILE, counter.profile_bins), np.uint16)
        self.flags = np.empty(TILE, np.uint8)
        self.hit_row = np.empty(TILE * TILE, np.int32)
        self.hit_column = np.empty(TILE * TILE, np.int32)
        self.products = 0

    def clear_profiles(self) -> None:
        self.row_profile[:] = 0
        self.column_profile[:] = 0


def _times(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> npt.NDArray[Any]:
    """(m, n) similarities as float32, or as uint16 patterns of bf16; in the memory of `out`."""
    product = out[: len(left) * len(right)].view(len(left), len(right))
    torch.mm(left, right.T, out=product)
    return _patterns(product) if product.dtype == torch.bfloat16 else product.numpy()


def _patterns(values: torch.Tensor) -> npt.NDArray[np.uint16]:
    return values.view(torch.int16).numpy().view(np.uint16)
