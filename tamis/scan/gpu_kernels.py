"""The Triton kernels of the GPU pair scan. What they call rows and columns are numbered in the scan's own order."""

import struct

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor as TensorDescriptor

# Columns whose hits share one word.
WORD = tl.constexpr(32)
# Pairs that a thread block compares exactly, and dimensions at a time.
PAIRS, INTERPRETED_PAIRS, DEPTH = 16, 4096, 64
# Counters cleared or read at a time.
STRIDE = tl.constexpr(1024)

# Triton has no word for counters in a thread block's own memory, which alone is fast enough to count every pair. They
# are declared once for the whole kernel. Adding 3 * 2^22 and a whole number, rounding down, leaves the floor of the
# product in the sum's lower bits.
_DECLARE = ".shared .align {alignment} .b8 tamis_counts[{bytes}];\nmov.u32 $0, tamis_counts;"
# What follows them in that memory are blocks that the copy and matrix units want to begin at a multiple of this.
_ALIGNMENT = 1024
_COUNT = """{{
.reg .f32 place;
.reg .b32 address;
fma.rm.f32 place, $1, {scale}, {shift};
mov.b32 address, place;
shl.b32 address, address, 2;
add.u32 address, address, $2;
red.shared.add.u32 [address], 1;
mov.b32 $0, 0;
}}"""
_SHIFT = 3 * 2.0**22
# The shift's own bits, where the address is made of them.
SHIFTED = tl.constexpr(0x4B400000 * 4 % 2**32)
CLEAR = tl.constexpr("mov.b32 $0, 0;\nst.shared.u32 [$1], $0;")
READ = tl.constexpr("ld.shared.u32 $0, [$1];")


def margin(bins: int) -> int:
    """Places on either side of a histogram over [-1, 1], for what rounding carries out and for what is no pair."""
    return max(8, bins // 64)


def shared_counting(bins: int) -> tuple[str, str]:
    """The instructions that declare counters in a thread block's memory, and that count one similarity."""
    scale, shift = _literal(bins / 2), _literal(_SHIFT + bins // 2 + margin(bins))
    size = 4 * (bins + 2 * margin(bins))
    declare = _DECLARE.format(alignment=_ALIGNMENT, bytes=-(-size // _ALIGNMENT) * _ALIGNMENT)
    return declare, _COUNT.format(scale=scale, shift=shift)


def scores(array: torch.Tensor, norms: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(n,) float32, cosine similarities of pairs of rows, the same bits in whatever order and company.

    array: (N, d) floats on the device. norms: (N,) float64. first, second: (n,) int64, rows.
    """
    result = torch.empty(len(first), dtype=torch.float32, device=array.device)
    first, second = first.contiguous(), second.contiguous()
    pairs = PAIRS if array.is_cuda else INTERPRETED_PAIRS
    if len(first):
        grid = (triton.cdiv(len(first), pairs),)
        score_pairs[grid](array, norms, first, second, result, len(first), array.shape[1], pairs, DEPTH)
    return result


@triton.jit(do_not_specialize=["first_tile", "last_tile", "row_count", "column_count", "capacity"])  # type: ignore[untyped-decorator]
def scan_tiles(
    rows: tl.tensor_descriptor,
    columns: tl.tensor_descriptor,
    row_cut: tl.tensor,
    column_cut: tl.tensor,
    own_column: tl.tensor,
    blocks: tl.tensor,
    counts: tl.tensor,
    profile: tl.tensor,
    profile_of: tl.tensor,
    hit_count: tl.tensor,
    hit_place: tl.tensor,
    hit_word: tl.tensor,
    first_tile: tl.tensor,
    last_tile: tl.tensor,
    row_count: tl.tensor,
    column_count: tl.tensor,
    dimension: tl.tensor,
    high: tl.tensor,
    capacity: tl.tensor,
    BINS: tl.constexpr,
    MARGIN: tl.constexpr,
    PROFILE: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    COUNTING: tl.constexpr,
    DECLARE: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
) -> None:
    """Multiplies tiles, counts every similarity and lists those that may belong among a sample's best.

    rows, columns: float16, in blocks of (BM, BK) and (BN, BK); `dimension`, a multiple of BK, long.
    row_cut, column_cut: float32, what a similarity must reach to matter to the row or, if SYMMETRIC, the column. high:
    what it must be below.
    own_column: (row_count,) int32, the column that is the row's own sample; with SYMMETRIC, only columns beyond the
    row count.
    blocks: (B, 2) int32, first row and first column of squares of BLOCK, a multiple of BM and BN. The tiles of all
    squares are numbered one square after another; those from first_tile to before last_tile are done.
    counts: (BINS + 2 MARGIN,) int64, of all pairs, if COUNTING; the first one is of what is no pair.
    profile: (row_count, PROFILE) int32, of each row, if COUNTING and PROFILE; profile_of: of each count, where.
    hit_count: (1,) int64, the words listed, or that would have been, had there been room for more than `capacity`.
    hit_word: (capacity,) int32, a bit for each of WORD columns of a row. hit_place: (capacity,) int64, the word's
    place among all words of the matrix, columns filled up to a multiple of BLOCK.
    DECLARE, COUNT: as of `shared_counting`; if empty, all blocks count in `counts` itself, which is slow.
    """
    SIZE: tl.constexpr = BINS + 2 * MARGIN
    NO_PAIR: tl.constexpr = -1.0 - 2 * MARGIN / BINS
    DOWN: tl.constexpr = BLOCK // BM
    TILES: tl.constexpr = DOWN * (BLOCK // BN)
    WORDS: tl.constexpr = BM * (BN // WORD)
    SHARED: tl.constexpr = COUNTING and DECLARE != ""
    words_in_row = tl.cdiv(column_count, BLOCK) * (BLOCK // WORD)
    if SHARED:
        base = tl.inline_asm_elementwise(DECLARE, "=r,r", [tl.program_id(0)], dtype=tl.int32, is_pure=False, pack=1)
        for start in tl.static_range(0, SIZE, STRIDE):
            counter = base + 4 * tl.minimum(start + tl.arange(0, STRIDE), SIZE - 1)
            tl.inline_asm_elementwise(CLEAR, "=r,r", [counter], dtype=tl.int32, is_pure=False, pack=1)
        tl.debug_barrier()
        shifted_base = base - SHIFTED
    for tile in tl.range(first_tile + tl.program_id(0), last_tile, tl.num_programs(0)):
        block, inside = tile // TILES, tile % TILES
        row_start = tl.load(blocks + 2 * block) + inside % DOWN * BM
        column_start = tl.load(blocks + 2 * block + 1) + inside // DOWN * BN
        wanted = (row_start < row_count) & (column_start < column_count)
        if SYMMETRIC:
            wanted = wanted & (column_start + BN - 1 > row_start)
        if wanted:
            similarity = tl.zeros((BM, BN), tl.float32)
            for k in tl.range(0, dimension, BK):
                similarity = tl.dot(rows.load([row_start, k]), columns.load([column_start, k]).T, similarity)
            row = row_start + tl.arange(0, BM)
            column = column_start + tl.arange(0, BN)
            if SYMMETRIC:
                if (column_start < row_start + BM) | (column_start + BN > column_count):
                    pair = (column[None, :] > row[:, None]) & (column[None, :] < column_count)
                    similarity = tl.where(pair, similarity, NO_PAIR)
            else:
                own = tl.load(own_column + row, mask=row < row_count, other=-1)
                pair = (column[None, :] != own[:, None]) & (column[None, :] < column_count)
                similarity = tl.where(pair & (row < row_count)[:, None], similarity, NO_PAIR)
            if SHARED:
                operands = [similarity, shifted_base]
                tl.inline_asm_elementwise(COUNT, "=r,f,r", operands, dtype=tl.int32, is_pure=False, pack=1)
            if COUNTING and (PROFILE or not SHARED):
                # Multiplying by a power of two and flooring are exact in float32; adding one first would not be.
                place = tl.floor(similarity * (BINS // 2)).to(tl.int32) + (BINS // 2 + MARGIN)
                if not SHARED:
                    tl.atomic_add(counts + place, 1, sem="relaxed")
                if PROFILE:
                    pair = similarity != NO_PAIR
                    which = tl.load(profile_of + place)
                    of_row = profile + row.to(tl.int64)[:, None] * PROFILE + which
                    tl.atomic_add(of_row, 1, mask=pair, sem="relaxed")
                    if SYMMETRIC:
                        of_column = profile + column.to(tl.int64)[None, :] * PROFILE + which
                        tl.atomic_add(of_column, 1, mask=pair, sem="relaxed")
            cut = tl.load(row_cut + row)[:, None]
            if SYMMETRIC:
                cut = tl.minimum(cut, tl.load(column_cut + column)[None, :])
            hit = (similarity >= cut) & (similarity < high)
            bits = tl.where(hit, 1 << (column % WORD)[None, :], 0)
            word = tl.reshape(tl.sum(tl.reshape(bits, (BM, BN // WORD, WORD)), axis=2), (WORDS,))
            listed = (word != 0).to(tl.int32)
            total = tl.sum(listed)
            if total > 0:
                slot = tl.atomic_add(hit_count, total.to(tl.int64), sem="relaxed") + tl.cumsum(listed) - listed
                number = tl.arange(0, WORDS)
                of_matrix = (row_start + number // (BN // WORD)).to(tl.int64) * words_in_row
                of_matrix += column_start // WORD + number % (BN // WORD)
                room = (word != 0) & (slot < capacity)
                tl.store(hit_place + slot, of_matrix, mask=room)
                tl.store(hit_word + slot, word, mask=room)
    if SHARED:
        tl.debug_barrier()
        for start in tl.static_range(0, SIZE, STRIDE):
            at = start + tl.arange(0, STRIDE)
            counter = base + 4 * tl.minimum(at, SIZE - 1)
            seen = tl.inline_asm_elementwise(READ, "=r,r", [counter], dtype=tl.int32, is_pure=False, pack=1)
            # Beyond 2^31 it looks negative.
            tl.atomic_add(counts + at, seen.to(tl.int64) & 0xFFFFFFFF, mask=at < SIZE, sem="relaxed")


@triton.jit(do_not_specialize=["count"])  # type: ignore[untyped-decorator]
def score_pairs(
    array: tl.tensor,
    norms: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    scores: tl.tensor,
    count: tl.tensor,
    dimension: tl.tensor,
    PAIRS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """Cosine similarities of pairs of rows, added up in float64 in an order that is always the same.

    array: (N, dimension) floats. norms: (N,) float64. first, second: (count,) int64, rows. scores: (count,) float32.
    """
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    one = tl.load(first + pair, mask=pair < count, other=0)
    other = tl.load(second + pair, mask=pair < count, other=0)
    total = tl.zeros((PAIRS,), tl.float64)
    for start in tl.range(0, dimension, DEPTH):
        place = start + tl.arange(0, DEPTH)
        inside = (place < dimension)[None, :]
        left = tl.load(array + one[:, None] * dimension + place[None, :], mask=inside, other=0.0)
        right = tl.load(array + other[:, None] * dimension + place[None, :], mask=inside, other=0.0)
        if left.dtype == tl.bfloat16:
            left, right = left.to(tl.float32), right.to(tl.float32)
        total += tl.sum(left.to(tl.float64) * right.to(tl.float64), axis=1)
    cosine = total / (tl.load(norms + one) * tl.load(norms + other))
    cosine = tl.minimum(tl.maximum(cosine, -1.0), 1.0)
    tl.store(scores + pair, cosine.to(tl.float32), mask=pair < count)


def _literal(value: float) -> str:
    """A float32 as PTX writes it, exactly."""
    return f"0f{struct.unpack('<I', struct.pack('<f', value))[0]:08X}"
