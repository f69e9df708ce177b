"""The compiled loops of the CPU pair scan. Everything here works on plain arrays and releases the GIL.

A bf16 similarity is handled as its 16-bit pattern. Patterns are put in the order of their values by flipping the lower
bits of negative ones; the result is called a key.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

LOW_HALF = 2**32 - 1

Array: TypeAlias = npt.NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    return cast(Function, njit(nogil=True, cache=True)(function))


def compiled_sum(function: Function) -> Function:
    """Lets additions be reordered, which makes them vectors."""
    return cast(Function, njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})(function))


@compiled
def tally_bf16(
    tile: Array,
    first: int,
    counts: Array,
    row_window: Array,
    column_window: Array,
    profile_of: Array,
    row_profile: Array,
    column_profile: Array,
    flags: Array,
    hit_row: Array,
    hit_column: Array,
) -> int:
    """Counts a tile's patterns and lists where a key lies in its row's or its column's window.

    tile: (m, n) uint16 patterns; of row i the columns from i + first on are looked at. counts: (65536,) int32.
    *_window: (2, m) and (2, n) int16, the lowest key and the number of keys. profile_of: (65536,) uint8, the profile
    bin of each pattern; empty for no profiles. Returns the number of hits.
    """
    hits = 0
    row_span, column_span = row_window[1].view(np.uint16), column_window[1].view(np.uint16)
    for i in range(tile.shape[0]):
        # Slices that begin at 0 and loops that do one thing each: what the compiler turns into vector instructions.
        start = max(0, i + first)
        row, flag = tile[i, start:], flags[start:]
        others_low, others_span = column_window[0, start:], column_span[start:]
        low, span = row_window[0, i], row_span[i]
        for j in range(len(row)):
            bits = np.int16(row[j])
            key = np.int16(bits ^ np.int16((bits >> np.int16(15)) & np.int16(0x7FFF)))
            mine = np.uint8(np.uint16(key - low) < span)
            flag[j] = mine | np.uint8(np.uint16(key - others_low[j]) < others_span[j])
        found = np.uint8(0)
        for j in range(len(row)):
            found |= flag[j]
        if len(profile_of):
            mine_profile, other_profile = row_profile[i], column_profile[start:]
            for j in range(len(row)):
                counts[row[j]] += 1
                place = profile_of[row[j]]
                mine_profile[place] += 1
                other_profile[j, place] += 1
        else:
            for j in range(len(row)):
                counts[row[j]] += 1
        if found:
            hits = _list_flags(i, start, flags[: start + len(row)], hits, hit_row, hit_column)
    return hits


@compiled
def tally_f32(
    tile: Array,
    first: int,
    counts: Array,
    row_window: Array,
    column_window: Array,
    profile_of: Array,
    row_profile: Array,
    column_profile: Array,
    flags: Array,
    hit_row: Array,
    hit_column: Array,
) -> int:
    """As `tally_bf16` on float32 similarities: counts (bins,) over [-1, 1], windows (2, m) and (2, n) float32 of the
    lowest similarity and the first too high."""
    hits = 0
    middle = len(counts) // 2
    for i in range(tile.shape[0]):
        start = max(0, i + first)
        row, flag = tile[i, start:], flags[start:]
        others_low, others_high = column_window[0, start:], column_window[1, start:]
        low, high = row_window[0, i], row_window[1, i]
        for j in range(len(row)):
            mine = np.uint8(low <= row[j]) & np.uint8(row[j] < high)
            flag[j] = mine | (np.uint8(others_low[j] <= row[j]) & np.uint8(row[j] < others_high[j]))
        found = np.uint8(0)
        for j in range(len(row)):
            found |= flag[j]
        mine_profile, other_profile = row_profile[i], column_profile[start:]
        for j in range(len(row)):
            # Multiplying by a power of two and flooring are exact in float32; adding one first would not be.
            place = min(max(int(np.floor(row[j] * np.float32(middle))) + middle, 0), 2 * middle - 1)
            counts[place] += 1
            if len(profile_of):
                mine_profile[profile_of[place]] += 1
                other_profile[j, profile_of[place]] += 1
        if found:
            hits = _list_flags(i, start, flags[: start + len(row)], hits, hit_row, hit_column)
    return hits


@compiled
def _list_flags(i: int, start: int, flags: Array, hits: int, hit_row: Array, hit_column: Array) -> int:
    """Appends the places from `start` on where a flag is set, looking at eight at a time; returns the new count."""
    words = flags[: len(flags) // 8 * 8].view(np.uint64)
    for word in range(start // 8, len(words)):
        if words[word]:
            for j in range(max(start, 8 * word), 8 * word + 8):
                if flags[j]:
                    hit_row[hits], hit_column[hits] = i, j
                    hits += 1
    for j in range(max(start, 8 * len(words)), len(flags)):
        if flags[j]:
            hit_row[hits], hit_column[hits] = i, j
            hits += 1
    return hits


@compiled
def seed_cuts(tile: Array, row_ids: Array, column_ids: Array, high: float, rank: int, cut: Array) -> None:
    """Raises cut[i] to the rank-th largest similarity below `high` of row i with other samples."""
    best = np.empty(rank, np.float32)  # ascending
    for i in range(tile.shape[0]):
        best[:] = cut[i]
        for j in range(tile.shape[1]):
            if best[0] < tile[i, j] < high and row_ids[i] != column_ids[j]:
                place = 0
                while place + 1 < rank and best[place + 1] < tile[i, j]:
                    best[place] = best[place + 1]
                    place += 1
                best[place] = tile[i, j]
        cut[i] = best[0]
