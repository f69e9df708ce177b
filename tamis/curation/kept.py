"""The pairs to keep, where all that are found would not fit into memory."""

import threading

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# As many pairs, or one a sample where that is more. A person looks at the first of them, and at a sample's own.
KEPT = 2**24
PAIR = np.dtype([("key", np.int64), ("similarity", np.float32), ("difficulty", np.float32)])


class Kept:
    """Of N samples' k partners each: all, up to KEPT; else half of KEPT for each sample's own most difficult, of which
    there is at least one, and half for the most difficult of the rest.

    Which are kept does not depend on the order in which the samples come.
    """

    def __init__(self, count: int, k: int) -> None:
        self._count = count
        self._few = k if count * k <= KEPT else max(1, KEPT // 2 // count)
        self._of_each: list[npt.NDArray[np.void]] = []
        self._rest: list[npt.NDArray[np.void]] = []
        self._waiting, self._least = 0, np.float32(0)
        self._lock = threading.Lock()

    def add(self, own: Indices, partners: Indices, similarity: Floats, difficulty: Floats) -> None:
        """Takes up what (n,) samples have for partners, (n, k) each, of equally difficult ones the earlier first; where
        difficulty is below zero there is none."""
        pairs = np.empty(partners.shape, PAIR)
        pairs["key"] = np.minimum(own[:, None], partners) * self._count + np.maximum(own[:, None], partners)
        pairs["similarity"], pairs["difficulty"] = similarity, difficulty
        if self._few < partners.shape[1]:
            pairs = np.take_along_axis(pairs, np.argsort(-difficulty, axis=1, kind="stable"), axis=1)
        first, rest = (part[part["difficulty"] >= 0] for part in np.split(pairs, [self._few], axis=1))
        with self._lock:
            self._of_each.append(first)
            rest = rest[rest["difficulty"] >= self._least]
            self._rest.append(rest)
            self._waiting += len(rest)
            if self._waiting > 3 * KEPT // 4:
                self._shorten()

    def ordered(self) -> tuple[Indices, Indices, Floats, Floats]:
        """a, b, similarity, difficulty of each pair once: a < b, the most difficult first, then by a and b."""
        self._shorten()
        parts, self._of_each, self._rest = self._of_each + self._rest, [], []
        pairs = _distinct(parts)
        pairs = pairs[np.argsort(-pairs["difficulty"], kind="stable")]
        a, b = np.divmod(pairs["key"], self._count)
        return a, b, pairs["similarity"].copy(), pairs["difficulty"].copy()

    def _shorten(self) -> None:
        pairs = _distinct(self._rest)
        # Stable, so that of equally difficult ones the earlier stay, whenever that is done.
        pairs = pairs[np.argsort(-pairs["difficulty"], kind="stable")[: KEPT // 2]]
        self._rest, self._waiting = [pairs], len(pairs)
        if len(pairs) == KEPT // 2:
            self._least = pairs["difficulty"][-1]


def _distinct(parts: list[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """Each pair once, ascending by key. The parts are let go, which may be most of what is in memory."""
    pairs = np.concatenate([*parts, np.empty(0, PAIR)])
    parts.clear()
    order = np.argsort(pairs["key"], kind="stable")
    keys = pairs["key"][order]
    distinct: npt.NDArray[np.void] = pairs[order[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]]
    return distinct
