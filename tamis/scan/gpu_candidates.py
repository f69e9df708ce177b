"""What the GPU pair scan holds on the device: rows to multiply and to compare exactly, and each row's best candidates.

Samples are put in random order. Every block of the matrix is then like every other one, so that partners come in
evenly and what a row must reach rises early; and the first columns are a random sample, which tells what it must reach
at first.

A candidate is one whole number, smaller for a better one: the similarity turned upside down above the partner's index.
The smallest k of any union are the same in whatever order its parts came, so nothing depends on the order of threads.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tamis.scan import gpu_kernels as kernels
from tamis.scan.rows import Rows
from tamis.scan.task import ACCUMULATION, Task, seed_rank

# Columns from which each row's first cut is estimated, and rows for which it is at a time.
SAMPLE, SEEDED = 8192, 2**14
# Candidates merged, rows into which they are, columns a row is compared with, and rows brought to the device at a time.
OFFERED, MERGED, COMPARED, BROUGHT = 2**27, 2**17, 2**22, 2**14
# A cut that no product reaches; and one that all do, but not what is no pair.
NEVER, ALWAYS = float("inf"), -1.0 - 2.0**-6
# Rounding a similarity below 1 to float16.
HALF_ULP = 2.0**-12
NO_CANDIDATE = 2**63 - 1


class Operands:
    """What is multiplied, on the device and in the scan's order: row p is the sample order[p].

    rows: (N, d), columns: (M, d) float16 of length one, filled up with zeros; the same tensor where all are compared
    with all. counts: N and M. order: (N,) int64. column_row: (M,) int64, the row of each column's sample. own_column:
    (N,) int32, the column of each row's sample, M where there is none. error: (N,) float32, how far a product may be
    from the similarity.
    """

    def __init__(self, rows: Rows, task: Task, device: torch.device) -> None:
        count = len(rows)
        generator = torch.Generator().manual_seed(0)
        self.order = torch.randperm(count, generator=generator).to(device)
        self._row_of = torch.empty_like(self.order)
        self._row_of[self.order] = torch.arange(count, device=device)
        self.norms = rows.norms.to(device)[self.order]
        self.rows = torch.zeros(_filled(count, 256), _filled(rows.dimension, 64), dtype=torch.float16, device=device)
        self.error = torch.empty(count, dtype=torch.float32, device=device)
        self._array = self._bring(rows)
        everyone = torch.arange(count, device=device)
        if task.columns is None:
            self.column_row, self.columns = everyone, self.rows
        else:
            self.column_row = self._row_of[torch.from_numpy(task.columns).to(device)].sort().values
            self.columns = self.rows.new_zeros(_filled(len(self.column_row), 256), self.rows.shape[1])
            self.columns[: len(self.column_row)] = self.rows[self.column_row]
        self.counts = count, len(self.column_row)
        self.own_column = torch.full((count,), self.counts[1], dtype=torch.int32, device=device)
        self.own_column[self.column_row] = torch.arange(self.counts[1], dtype=torch.int32, device=device)
        self.error += self.error[self.column_row].max() + 4 * ACCUMULATION * (rows.dimension + 1)

    def exact(self, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """Similarities of rows with columns as float32; the same bits whichever of two samples is the row."""
        return kernels.scores(self._array, self.norms, row, self.column_row[column])

    def by_sample(self, values: torch.Tensor) -> npt.NDArray[Any]:
        """The rows of `values` in the order of the samples."""
        return values[self._row_of].cpu().numpy()

    def _bring(self, rows: Rows) -> torch.Tensor:
        """The rows as they are, but for doubles, whose products could overflow: these of length one."""
        array: torch.Tensor | None = None
        for start in range(0, len(rows), BROUGHT):
            part = slice(start, min(start + BROUGHT, len(rows)))
            given = rows.array[part]
            tensor = given if isinstance(given, torch.Tensor) else torch.from_numpy(_native(given))
            place = self._row_of[part]
            raw = tensor.to(self.norms.device)
            unit = raw.double() / self.norms[place, None]
            if array is None:
                array = torch.empty((len(rows), rows.dimension), dtype=raw.dtype, device=raw.device)
            array[place] = unit if raw.dtype == torch.float64 else raw
            rounded = unit.half()
            self.rows[place, : rows.dimension] = rounded
            self.error[place] = torch.linalg.vector_norm(unit - rounded.double(), dim=1).float()
        assert array is not None  # there are rows
        if array.dtype == torch.float64:
            self.norms = torch.ones_like(self.norms)
        return array


class Candidates:
    """Each row's candidates for its k most similar partners in the band, with their exact similarities.

    best: (N, k) int64, best first. cut: (N,) float32 and more, what a product must reach to matter to the row, or
    to the column. high: what it must be below to matter at all.
    """

    def __init__(self, task: Task, operands: Operands) -> None:
        self._task, self._operands = task, operands
        count, device = operands.counts[0], operands.rows.device
        self.best = torch.full((count, task.k), NO_CANDIDATE, dtype=torch.int64, device=device)
        self.high = float(np.nextafter(np.float32(task.high + operands.error.max().item()), np.float32(np.inf)))
        self.cut = torch.full((len(operands.rows),), NEVER, dtype=torch.float32, device=device)
        self._lowest = (task.low - operands.error).clamp(min=ALWAYS)
        self._first_cut = self._lowest.clone()
        if task.k:
            self._seed()
            self.cut[:count] = self._first_cut

    def offer(self, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Makes candidates of pairs of a row and a column: for the row and, if all are compared with all, for both.

        Each pair may be offered once.
        """
        if not self._task.k:
            return
        waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        for row, column in pairs:
            similarity = self._operands.exact(row, column)
            partner = self._operands.column_row[column]
            waiting.append(self._better(row, partner, similarity))
            if self._task.columns is None:
                waiting.append(self._better(partner, row, similarity))
            if sum(len(row) for row, _ in waiting) > OFFERED:
                self._insert(waiting)
                waiting = []
        self._insert(waiting)
        self._raise_cuts()

    def absorb(self, candidates: torch.Tensor) -> None:
        for start in range(0, len(self.best), MERGED):
            part = slice(start, start + MERGED)
            both = torch.cat([self.best[part], candidates[part].to(self.best.device)], dim=1)
            self.best[part] = both.sort(dim=1).values[:, : self._task.k]
        self._raise_cuts()

    def finish(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Indices and similarities, (N, k) each."""
        if self._task.k:
            enough = self._worst() >= self._first_cut + self._operands.error
            for row in torch.nonzero(~enough & (self._first_cut > self._lowest)).flatten():
                self._repeat(row)
        none = self.best == NO_CANDIDATE
        indices = (self.best & 0xFFFFFFFF).masked_fill_(none, -1)
        similarities = _similarity(self.best).masked_fill_(none, -NEVER)
        return self._operands.by_sample(indices), self._operands.by_sample(similarities)

    def _raise_cuts(self) -> None:
        """Lets nothing through any more that cannot be better than a row's k-th candidate."""
        if self._task.k:
            own = self.cut[: len(self.best)]
            own.copy_(torch.maximum(own, self._worst() - self._operands.error))

    def _better(
        self, row: torch.Tensor, partner: torch.Tensor, similarity: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and candidate, where the similarity is in the band and better than the row's k-th."""
        exact = similarity.double()
        candidate = _candidate(similarity, self._operands.order[partner])
        inside = (exact >= self._task.low) & (exact < self._task.high) & (candidate < self.best[row, -1])
        return row[inside], candidate[inside]

    def _insert(self, waiting: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Merges candidates, in any order, into those of their rows."""
        if not waiting:
            return
        row, by = torch.sort(torch.cat([row for row, _ in waiting]))
        candidate = torch.cat([candidate for _, candidate in waiting])[by]
        while len(row):
            touched, group, size = torch.unique_consecutive(row, return_inverse=True, return_counts=True)
            number = torch.arange(len(row), device=row.device) - (size.cumsum(0) - size)[group]
            # What one row has more than others waits for another round, and half of it proves too bad by then.
            now = number < self._task.k
            table = candidate.new_full((len(touched), min(self._task.k, int(size.max()))), NO_CANDIDATE)
            table[group[now], number[now]] = candidate[now]
            for rows, added in zip(torch.split(touched, MERGED), torch.split(table, MERGED), strict=True):
                self.best[rows] = torch.cat([self.best[rows], added], dim=1).sort(dim=1).values[:, : self._task.k]
            later = ~now & (candidate < self.best[row, -1])
            row, candidate = row[later], candidate[later]

    def _repeat(self, row: torch.Tensor) -> None:
        """Finds a row's candidates by comparing it with every column."""
        self.best[row] = NO_CANDIDATE
        for column in torch.split(torch.arange(self._operands.counts[1], device=row.device), COMPARED):
            partner = self._operands.column_row[column]
            column, partner = column[partner != row], partner[partner != row]
            own = row.expand_as(partner)
            self._insert([self._better(own, partner, self._operands.exact(own, column))])

    def _worst(self) -> torch.Tensor:
        """(N,) float32, each row's k-th best similarity, minus infinity where there are fewer."""
        worst = self.best[:, -1]
        return _similarity(worst).masked_fill(worst == NO_CANDIDATE, -NEVER)

    def _seed(self) -> None:
        """Sets each row's first cut to a similarity that, by a random sample of the columns, more than k exceed."""
        columns = self._operands.counts[1]
        size = min(SAMPLE, columns)
        rank = seed_rank(self._task.k * size / columns)
        if rank > size // 2:
            return
        sample = self._operands.columns[:size]
        for start in range(0, len(self._first_cut), SEEDED):
            part = slice(start, min(start + SEEDED, len(self._first_cut)))
            product = torch.mm(self._operands.rows[part], sample.T)
            own = self._operands.own_column[part].long()
            known = torch.nonzero(own < size).flatten()
            product[known, own[known]] = -NEVER
            product.masked_fill_(product >= self._task.high, -NEVER)
            # By what errors may make of it, lower: else rows with many partners that are all alike would fail.
            cut = torch.topk(product, rank, dim=1).values[:, -1].float() - 2 * self._operands.error[part] - HALF_ULP
            self._first_cut[part] = torch.maximum(self._first_cut[part], cut)


def _candidate(similarity: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """int64, ascending as similarities descend, equal ones as indices ascend."""
    bits = (similarity + 0.0).view(torch.int32)  # no negative zero
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return ((~ascending).long() << 32) | index


def _similarity(candidate: torch.Tensor) -> torch.Tensor:
    ascending = ~(candidate >> 32).int()
    return (ascending ^ ((ascending >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy in memory, in this machine's byte order."""
    return np.array(array, array.dtype.newbyteorder("="))


def _filled(count: int, unit: int) -> int:
    return -(-count // unit) * unit
