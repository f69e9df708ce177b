"""Each sample's most similar others, by an inverted file: samples in lists of those that are near to one centre, of
which only the lists near to a sample's own are looked into (Jegou, Douze and Schmid 2011).

All samples of a list look into the same lists. So what is multiplied are whole blocks, and only what a few lists take
is in memory: the rows lie list by list in an array that may be a file.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tamis.scan.highest import QUERIES, TILE, highest
from tamis.scan.memory import Arrays
from tamis.scan.nearest import assign, list_centres
from tamis.scan.rows import Rows
from tamis.scan.threads import in_parallel, threads

log = logging.getLogger("tamis.scan.alike")

Indices = npt.NDArray[np.int64]
# Called from several threads, in any order, with (n,) samples and (n, k) others, -1 where fewer are found.
Take = Callable[[Indices, Indices], None]

# Samples that are all compared, as that takes seconds; and of more, the samples that measure the recall, and what it
# must reach.
EXACT_UP_TO, CHECKED, RECALL = 16_384, 1000, 0.95


def alike(rows: Rows, k: int, seed: int, take: Take, arrays: Arrays) -> float:
    """Hands each sample's k most similar others by cosine similarity to `take`, most similar first; returns the recall.

    All are compared up to EXACT_UP_TO samples. Beyond, as many lists are looked into as hold the share RECALL of what
    an exact search finds for CHECKED random samples; the recall is what they hold.

    Costs O(N^1.5 d) where a few lists will do. Memory: the rows in half precision, from `arrays`, and 24 bytes a
    sample.
    """
    count = len(rows)
    if count <= EXACT_UP_TO:
        unit = torch.cat([rows.unit(part) for part in rows.blocks()])
        whole = Lists(np.arange(count), np.array([0, count]), np.zeros((1, 1), np.int64), unit)
        whole.search(k, take)
        return 1.0
    centres = list_centres(rows, seed)
    labels = np.concatenate([assign(rows.unit(part).numpy(), centres) for part in rows.blocks()])
    ranks = _ranks(rows, k, centres, labels, seed)
    probes = int(ranks[int(np.ceil(RECALL * len(ranks))) - 1]) + 1
    recall = float(np.mean(ranks < probes))
    log.info("looking into %d of %d lists for a recall of %.3f", probes, len(centres), recall)
    _in_lists(rows, centres, labels, probes, arrays).search(k, take)
    return recall


@dataclass(frozen=True, eq=False)
class Lists:
    """order: (N,) the samples, list by list. starts: (L + 1,) where each list begins there. looked: (L, P) the lists
    that each list's samples look into. unit: (N, d) their rows of length one, in that order."""

    order: Indices
    starts: Indices
    looked: Indices
    unit: torch.Tensor

    def search(self, k: int, take: Take) -> None:
        pieces = [
            (number, start)
            for number in range(len(self.looked))
            for start in range(int(self.starts[number]), int(self.starts[number + 1]), QUERIES)
        ]

        def look(piece: tuple[int, int], _: None) -> None:
            number, start = piece
            own = np.arange(start, min(start + QUERIES, self.starts[number + 1]))
            queries = self.unit[start : start + len(own)].float()
            found = highest(queries, own, self._tiles(number), k)[1]
            take(self.order[own], np.where(found < 0, -1, self.order[found]))

        in_parallel(look, pieces, threads())

    def _tiles(self, number: int) -> Iterator[tuple[Indices, torch.Tensor]]:
        """What a list's samples are compared with: places in the order, and the rows there."""
        bounds = ((self.starts[each], self.starts[each + 1]) for each in self.looked[number])
        places = np.concatenate([np.arange(*bound) for bound in bounds])
        for start in range(0, len(places), TILE):
            part = places[start : start + TILE]
            yield part, self.unit[torch.from_numpy(part)].float()


def _in_lists(rows: Rows, centres: npt.NDArray[np.float32], labels: Indices, probes: int, arrays: Arrays) -> Lists:
    order = np.argsort(labels, kind="stable")
    unit = torch.from_numpy(arrays.zeros((len(rows), rows.dimension), np.float16))

    def write(start: int, _: None) -> None:
        part = slice(start, start + TILE)
        unit[part] = rows.unit(order[part]).half()

    in_parallel(write, range(0, len(rows), TILE), threads())
    starts = np.searchsorted(labels[order], np.arange(len(centres) + 1))
    looked = np.stack([_order_of_lists(centres, number)[:probes] for number in range(len(centres))])
    return Lists(order, starts, looked, unit)


def _ranks(rows: Rows, k: int, centres: npt.NDArray[np.float32], labels: Indices, seed: int) -> Indices:
    """Ascending, for each of the k nearest of CHECKED samples the rank of its list among the sample's."""
    checked = np.sort(np.random.default_rng((seed, 6)).choice(len(rows), CHECKED, replace=False))
    places = threads()
    ranks: list[Indices] = []

    def check(part: Indices, _: None) -> None:
        tiles = ((np.arange(block.start, block.stop), rows.unit(block)) for block in rows.blocks())
        found = highest(rows.unit(part), part, tiles, k)[1]
        for sample, others in zip(part, found, strict=True):
            rank = np.empty(len(centres), np.int64)
            rank[_order_of_lists(centres, int(labels[sample]))] = np.arange(len(centres))
            ranks.append(rank[labels[others]])

    in_parallel(check, np.array_split(checked, len(places)), places)
    return np.sort(np.concatenate(ranks))


def _order_of_lists(centres: npt.NDArray[np.float32], number: int) -> Indices:
    """The lists, the nearest to one first; it is the first itself."""
    products = centres @ centres[number]
    products[number] = np.inf
    return np.argsort(-products, kind="stable")
