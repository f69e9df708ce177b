"""Each sample's most similar others, by an inverted file: samples in lists of those that are near to one centre, of
which a sample looks into the few whose centres are nearest to it (Jegou, Douze and Schmid 2011).

Samples of one list look into much the same lists. So they do it together, in whole products, and only what a few lists
take is in memory: the rows lie list by list in an array that may be a file.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tamis.scan.highest import TILE, Highest, highest
from tamis.scan.memory import Arrays
from tamis.scan.nearest import assign, list_centres
from tamis.scan.rows import Rows
from tamis.scan.threads import in_parallel, threads

log = logging.getLogger("tamis.scan.alike")

Indices = npt.NDArray[np.int64]
# Called from several threads, in any order, with (n,) samples and (n, k) others, -1 where fewer are found.
Take = Callable[[Indices, Indices], None]

# Samples that are all compared, as that takes seconds; of more, those that measure the recall, and the share of their
# nearest that the lists must hold: for a recall of 0.95, as half precision costs a hundredth.
EXACT_UP_TO, CHECKED, HELD = 16_384, 1000, 0.97
# Lists to look into at least. Most of a sample's nearest are of its own class, in one list or two. Those of another,
# for which the search is made, are in the lists after.
LEAST_PROBES = 8
# Samples that look into lists together: of fewer, fewer ask for one list, and it is read more often.
TOGETHER = 8192


def alike(rows: Rows, k: int, seed: int, take: Take, arrays: Arrays) -> float:
    """Hands each sample's k most similar others by cosine similarity to `take`, most similar first; returns the recall.

    All are compared up to EXACT_UP_TO samples. Beyond, as many lists are looked into as hold the share HELD of what an
    exact search finds for CHECKED random samples; the recall is what is found of it.

    Costs O(N^1.5 d) where few lists will do. Memory: the rows in half precision, from `arrays`, and 24 bytes a sample.
    """
    count = len(rows)
    if count <= EXACT_UP_TO:
        unit = torch.cat([rows.unit(part) for part in rows.blocks()])
        Lists(np.arange(count), np.array([0, count]), unit, unit[:1], 1).search(k, take)
        return 1.0
    centres = list_centres(rows, seed)
    labels = np.concatenate([assign(rows.unit(part).numpy(), centres) for part in rows.blocks()])
    checked = np.sort(np.random.default_rng((seed, 6)).choice(count, min(CHECKED, count), replace=False))
    exact = _exact(rows, checked, k)
    probes = max(LEAST_PROBES, _probes(rows.unit(checked) @ torch.from_numpy(centres).T, labels[exact]))
    log.info("looking into %d of %d lists", probes, len(centres))
    found = np.empty_like(exact)

    def take_and_check(own: Indices, others: Indices) -> None:
        places = np.searchsorted(checked, own).clip(max=len(checked) - 1)
        asked = checked[places] == own
        found[places[asked]] = others[asked]
        take(own, others)

    _in_lists(rows, centres, labels, probes, arrays).search(k, take_and_check)
    hits = sum(len(np.intersect1d(*both)) for both in zip(found, exact, strict=True))
    return hits / exact.size


@dataclass(frozen=True, eq=False)
class Lists:
    """order: (N,) the samples, list by list. starts: (L + 1,) where each list begins there. unit: (N, d) their rows of
    length one, in that order. centres: (L, d) float32. probes: how many lists each sample looks into."""

    order: Indices
    starts: Indices
    unit: torch.Tensor
    centres: torch.Tensor
    probes: int

    def search(self, k: int, take: Take) -> None:
        def look(start: int, _: None) -> None:
            own = np.arange(start, min(start + TOGETHER, len(self.order)))
            found = self._nearest(own, k)
            take(self.order[own], np.where(found < 0, -1, self.order[found]))

        in_parallel(look, range(0, len(self.order), TOGETHER), threads())

    def _nearest(self, own: Indices, k: int) -> Indices:
        """(n, k) places in the order, for the samples at others."""
        queries = self.unit[own[0] : own[-1] + 1].float()
        lists = [(np.arange(len(self.centres)), self.centres)]
        looked = highest(queries, np.full(len(own), -1), lists, self.probes)[1]
        # The nearest list of each first: then little of the others need be taken up.
        looked[:, 1:] += len(self.centres)
        by_list = np.argsort(looked, axis=None, kind="stable")
        found = Highest(len(own), k)
        for group in np.split(by_list, np.flatnonzero(np.diff(looked.ravel()[by_list])) + 1):
            number, asking = looked.flat[group[0]] % len(self.centres), group // self.probes
            for start in range(self.starts[number], self.starts[number + 1], TILE):
                places = np.arange(start, min(start + TILE, self.starts[number + 1]))
                points = self.unit[places[0] : places[-1] + 1].float()
                found.take(queries[torch.from_numpy(asking)] @ points.T, asking, own[asking], places)
        return found.ordered()[1]


def _in_lists(
    rows: Rows, centres: npt.NDArray[np.float32], labels: npt.NDArray[np.int32], probes: int, arrays: Arrays
) -> Lists:
    order = np.argsort(labels, kind="stable")
    unit = torch.from_numpy(arrays.zeros((len(rows), rows.dimension), np.float16))

    def write(start: int, _: None) -> None:
        part = slice(start, start + TILE)
        unit[part] = rows.unit(order[part]).half()

    in_parallel(write, range(0, len(rows), TILE), threads())
    starts = np.searchsorted(labels[order], np.arange(len(centres) + 1))
    return Lists(order, starts, unit, torch.from_numpy(centres), probes)


def _exact(rows: Rows, checked: Indices, k: int) -> Indices:
    """(n, k) the most similar others of some samples."""
    exact, places = np.empty((len(checked), k), np.int64), threads()

    def search(part: Indices, _: None) -> None:
        tiles = ((np.arange(block.start, block.stop), rows.unit(block)) for block in rows.blocks())
        exact[part] = highest(rows.unit(checked[part]), checked[part], tiles, k)[1]

    in_parallel(search, np.array_split(np.arange(len(checked)), len(places)), places)
    return exact


def _probes(products: torch.Tensor, lists: npt.NDArray[np.int32]) -> int:
    """How many lists hold the share HELD of some samples' nearest. products: (n, L) of the samples with the centres.
    lists: (n, k) the list of each of the nearest."""
    ranks = [(each > each[own, None]).sum(1) for each, own in zip(products.numpy(), lists, strict=True)]
    return int(np.quantile(ranks, HELD, method="inverted_cdf")) + 1
