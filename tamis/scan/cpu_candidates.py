"""What each sample keeps of its candidates on a CPU: compiled loops over plain arrays, which release the GIL."""

from typing import NamedTuple

import numpy as np

from tamis.scan.cpu_kernels import LOW_HALF, Array, compiled, compiled_sum
from tamis.scan.rows import Rows

# Products of rows of such lengths add up in float32 without leaving its range.
SAFE_NORMS = 1e-15, 1e15


class Exact(NamedTuple):
    """What similarities are computed from exactly.

    array: (N, d) floats, or uint16 patterns that `decode` (65536,) maps to float32; `decode` is empty for floats.
    norms: (N,) float64. wide: whether a sum of products may leave float32's range, and is added up in float64.
    """

    array: Array
    decode: Array
    norms: Array
    wide: bool


def exact_of(rows: Rows) -> Exact:
    norms = rows.norms.numpy()
    return Exact(*rows.plain(), norms, wide=not (SAFE_NORMS[0] < norms.min() and norms.max() < SAFE_NORMS[1]))


class Best(NamedTuple):
    """Each row's candidates for its k most similar partners below `high`.

    partners: (N, places) int32 and values: (N, places) float32, of which the first size[i] are used. size: (N,) int32.
    cut: (N,) float32, what a value must reach. error: (N,) float32, how far a value may be from the exact similarity;
    `rounding` is how much of that is the rounding of the value itself, at 0.5 or more.
    What is used together lies together in memory: see `best_of`.
    """

    k: int
    high: float
    rounding: float
    partners: Array
    values: Array
    size: Array
    cut: Array
    error: Array


def best_of(k: int, high: float, rounding: float, candidates: Array, low: float, error: Array) -> Best:
    """No candidates yet, and cuts that let nothing through that may lie below `low`.

    candidates: (N, places, 2) int32, in which partners and values are kept side by side.
    """
    state = np.zeros((len(error), 4), np.int32)
    best = Best(
        k,
        high,
        rounding,
        partners=candidates[:, :, 0],
        values=candidates.view(np.float32)[:, :, 1],
        size=state[:, 0],
        cut=state.view(np.float32)[:, 1],
        error=state.view(np.float32)[:, 2],
    )
    best.error[:] = error
    best.cut[:] = np.float32(low) - error
    return best


@compiled_sum
def _four_products(exact: Exact, i: int, j: Array) -> tuple[float, float, float, float]:
    """Dot products of row i with four others: at once, so that the wait for one row's memory is not idle."""
    one, decode = exact.array[i], exact.decode
    row0, row1, row2, row3 = exact.array[j[0]], exact.array[j[1]], exact.array[j[2]], exact.array[j[3]]
    if exact.wide:
        wide0, wide1, wide2, wide3 = 0.0, 0.0, 0.0, 0.0
        for d in range(len(one)):
            value = np.float64(one[d])
            wide0 += value * np.float64(row0[d])
            wide1 += value * np.float64(row1[d])
            wide2 += value * np.float64(row2[d])
            wide3 += value * np.float64(row3[d])
        return wide0, wide1, wide2, wide3
    sum0, sum1, sum2, sum3 = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    if len(decode):
        for d in range(len(one)):
            own = decode[np.intp(one[d])]
            sum0 += own * decode[np.intp(row0[d])]
            sum1 += own * decode[np.intp(row1[d])]
            sum2 += own * decode[np.intp(row2[d])]
            sum3 += own * decode[np.intp(row3[d])]
    else:
        for d in range(len(one)):
            own = np.float32(one[d])
            sum0 += own * np.float32(row0[d])
            sum1 += own * np.float32(row1[d])
            sum2 += own * np.float32(row2[d])
            sum3 += own * np.float32(row3[d])
    return float(sum0), float(sum1), float(sum2), float(sum3)


@compiled
def cosines(exact: Exact, i: int, partners: Array, similarity: Array) -> None:
    """similarity[p]: that of row i with partners[p] as float32; the same bits from both sides of a pair, whatever power
    of two the rows are scaled by."""
    chosen = np.empty(4, np.int64)
    last = len(partners) - 1
    for start in range(0, len(partners), 4):
        # The last four may repeat a partner: one that stood alone would be added up in another order.
        for place in range(4):
            chosen[place] = partners[min(start + place, last)]
        products = _four_products(exact, i, chosen)
        for place in range(min(4, len(partners) - start)):
            product = products[place] / (exact.norms[i] * exact.norms[chosen[place]])
            similarity[start + place] = np.float32(min(max(product, -1.0), 1.0))


@compiled
def windows_bf16(best: Best, start: int, stop: int) -> Array:
    """(2, n) int16 windows of keys for `tally_bf16`: one wider on both sides than the rows' ends, cut off to bf16, so
    that no rounding can leave anything out."""
    windows = np.empty((2, stop - start), np.int16)
    ends = np.empty(2, np.float32)
    bits = ends.view(np.int32)
    for row in range(stop - start):
        ends[0], ends[1] = best.cut[start + row], best.high + best.error[start + row]
        low, high = np.int32(bits[0] >> 16), np.int32(bits[1] >> 16)
        low = (low ^ ((low >> 15) & 0x7FFF)) - 1
        high = (high ^ ((high >> 15) & 0x7FFF)) + 2
        windows[0, row] = low
        span = int(high) - int(low)
        windows[1, row] = np.int16(span if span > 0 else 0)
    return windows


@compiled
def push_hits(
    tile: Array,
    value_of: Array,
    hits: int,
    hit_row: Array,
    hit_column: Array,
    row_start: int,
    column_ids: Array,
    both: bool,
    best: Best,
    exact: Exact,
) -> None:
    """Adds a tile's hits to the candidates of their rows, and with `both` to those of their columns.

    value_of: (65536,) float32, the value of each pattern; empty where the tile holds values.
    """
    partners, values, size, cut, error = best.partners, best.values, best.size, best.cut, best.error
    last = partners.shape[1] - 1
    for hit in range(hits):
        i, j = row_start + hit_row[hit], column_ids[hit_column[hit]]
        raw = tile[hit_row[hit], hit_column[hit]]
        value = value_of[np.intp(raw)] if len(value_of) else np.float32(raw)
        for _ in range(2 if both else 1):
            if i != j and cut[i] <= value < best.high + error[i]:
                place = size[i]
                partners[i, place], values[i, place] = j, value
                size[i] = place + 1
                if place == last:
                    _make_room(i, best, exact)
            i, j = j, i


@compiled
def push_all(size: Array, partners: Array, values: Array, best: Best, exact: Exact) -> None:
    """Adds size[i] candidates to each row i, which stand one row after another in `partners` and `values`."""
    place = 0
    for i in range(len(size)):
        for _ in range(size[i]):
            if values[place] >= best.cut[i]:
                best.partners[i, best.size[i]], best.values[i, best.size[i]] = partners[place], values[place]
                best.size[i] += 1
                if best.size[i] == best.partners.shape[1]:
                    _make_room(i, best, exact)
            place += 1


@compiled
def finish_rows(
    start: int,
    stop: int,
    low: float,
    first_cut: Array,
    best: Best,
    exact: Exact,
    indices: Array,
    similarities: Array,
    failed: Array,
) -> None:
    """Writes each row's best k in the band; marks rows whose first cut may have been too high."""
    for i in range(start, stop):
        _compress(i, best)
        _settle(i, best, exact)
        found = 0
        while found < best.size[i] and best.values[i, found] >= low:
            indices[i, found], similarities[i, found] = best.partners[i, found], best.values[i, found]
            found += 1
        enough = found == best.k and similarities[i, found - 1] >= first_cut[i] + best.error[i]
        failed[i] = not (enough or first_cut[i] <= low - best.error[i])


@compiled
def exact_row(
    i: int, column_ids: Array, low: float, best: Best, exact: Exact, indices: Array, similarities: Array
) -> None:
    """The row's best k in the band, by comparing it with every column."""
    similarity = np.empty(len(column_ids), np.float32)
    cosines(exact, i, column_ids, similarity)
    found = 0
    for place in np.argsort(-similarity, kind="mergesort"):
        if found < best.k and low <= similarity[place] < best.high and column_ids[place] != i:
            indices[i, found], similarities[i, found] = column_ids[place], similarity[place]
            found += 1


@compiled
def _make_room(i: int, best: Best, exact: Exact) -> None:
    """Leaves places free in a full row."""
    _compress(i, best)
    if best.size[i] > best.partners.shape[1] - max(1, best.k // 2):
        # Too many are too close to tell apart at this precision.
        _settle(i, best, exact)
        if best.size[i] == best.k:
            best.cut[i] = max(best.cut[i], best.values[i, best.k - 1] - best.error[i])


@compiled
def _compress(i: int, best: Best) -> None:
    """Raises the row's cut to what its k-th best candidate allows, and drops what falls below."""
    error = best.error[i]
    sure = np.empty(best.size[i], np.float32)
    found = 0
    for place in range(best.size[i]):
        # Nearer to the band's upper end, a candidate may prove to lie outside.
        if best.values[i, place] < best.high - error:
            sure[found] = best.values[i, place]
            found += 1
    if found < best.k:
        return
    # A true member of the best k may look worse by one error, and the k-th best better by one.
    worst = _kth_highest(best.k, sure[:found])
    if worst > 0.1:
        # The smaller a value, the less it is rounded; all that matter here lie between the new cut and `worst`.
        error -= best.rounding * max(0.0, 1.0 - 2.0 * worst)
    best.cut[i] = max(best.cut[i], worst - 2 * error)
    kept = 0
    for place in range(best.size[i]):
        if best.values[i, place] >= best.cut[i]:
            best.partners[i, kept], best.values[i, kept] = best.partners[i, place], best.values[i, place]
            kept += 1
    best.size[i] = kept


@compiled
def _kth_highest(k: int, values: Array) -> float:
    """The k-th highest of float32 values, bit by bit: for hundreds of them as fast as `np.partition`, which takes
    longer to compile than all else here."""
    bits = values.view(np.int32)
    # Numbers in the order of the values.
    ordered = np.empty(len(values), np.int32)
    for place in range(len(values)):
        ordered[place] = bits[place] ^ ((bits[place] >> 31) & 0x7FFFFFFF)
    # The highest that k of them reach.
    reached = np.int64(-(2**31))
    for bit in range(31, -1, -1):
        tried = np.int32(reached + (np.int64(1) << bit))
        count = 0
        for place in range(len(ordered)):
            count += ordered[place] >= tried
        if count >= k:
            reached = np.int64(tried)
    ordered[0] = np.int32(reached) ^ ((np.int32(reached) >> 31) & 0x7FFFFFFF)
    highest: float = ordered.view(np.float32)[0]
    return highest


@compiled
def _settle(i: int, best: Best, exact: Exact) -> None:
    """Replaces the row's candidates by the k with the highest exact similarity below `high`, best first."""
    count = best.size[i]
    similarity = np.empty(count, np.float32)
    cosines(exact, i, best.partners[i, :count], similarity)
    bits = similarity.view(np.int32)
    # One number that sorts by similarity, then by lower partner: a float's bits ordered as its value, above the rest.
    keys = np.empty(count, np.int64)
    for place in range(count):
        ordered = bits[place] ^ ((bits[place] >> 31) & 0x7FFFFFFF)
        keys[place] = (np.int64(ordered) << 32) | (LOW_HALF - best.partners[i, place])
    keys = np.sort(keys)
    kept = 0
    for place in range(count - 1, -1, -1):
        ordered = np.int32(keys[place] >> 32)
        bits[0] = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
        if similarity[0] < best.high and kept < best.k:
            best.partners[i, kept], best.values[i, kept] = LOW_HALF - (keys[place] & LOW_HALF), similarity[0]
            kept += 1
    best.size[i] = kept
