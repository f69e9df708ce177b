"""The pair scan on a GPU: one kernel multiplies tiles on the matrix units, counts every similarity and lists the few
that may belong among a sample's best; these are compared again exactly.

Products are of float16 and add up in float32, so that counts are exact at every edge of the histogram. A profile costs
two additions in the device's memory a pair, several times what all the rest does.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tamis.errors import InputError
from tamis.progress import Progress
from tamis.scan import gpu_kernels as kernels
from tamis.scan.gpu_candidates import Candidates, Operands
from tamis.scan.rows import Rows
from tamis.scan.task import Found, Shape, Task

Tile: TypeAlias = tuple[int, int]

# Words of hits that there is room for, a row and in all, and how many are compared again at a time.
HITS_A_ROW, HITS, COMPARED = 64, 2**26, 2**20
# Bytes for a word of hits, with those to sort and merge what comes of it.
HIT_BYTES = 150
# Squares at a time: so few that no counter overflows, so many that merging what they found costs little beside them.
GROUP = 1024
# More counters do not fit into a thread block's memory.
SHARED_BINS = 8192


# Compiled for sm_90 it spills hardly any registers. Two thread blocks on a processor: one counts, one multiplies.
LARGE_SHAPE = Shape(128, 128, 64, 4, 3, 2)
# The additions of a profile need more registers.
PROFILE_SHAPE = Shape(128, 128, 64, 8, 3, 1)
# Thread blocks of other GPUs than the data centres', which have these compute capabilities, lack the memory for that.
SMALL_SHAPE, LARGE = Shape(64, 64, 32, 4, 2, 2), {(8, 0), (9, 0), (10, 0), (10, 3)}


class Scan:
    """Accumulates tiles. Neither their order nor how they are shared out among several scans changes the result."""

    def __init__(self, rows: Rows, task: Task, device: torch.device, shape: Shape, *, hits: int = HITS) -> None:
        """hits: words of hits that there is room for; where more are found, the work is done again in parts.

        Raises InputError for a shape that this GPU has no room for.
        """
        if shape != SMALL_SHAPE and _capability(device) not in LARGE:
            raise InputError("The scan was planned for a larger GPU.", "Give workers that scan GPUs of one kind.")
        self._task, self._device, self._shape = task, device, shape
        self._operands = Operands(rows, task, device)
        self._candidates = Candidates(task, self._operands)
        slots = task.bins + 2 * kernels.margin(task.bins)
        self._counts = torch.zeros(slots, dtype=torch.int64, device=device)
        bins = 0 if task.profile_of_bin is None else int(task.profile_of_bin.max()) + 1
        self._profile = torch.zeros((len(rows), bins), dtype=torch.int32, device=device)
        self._profile_of = _with_margins(task, device)
        self._room = max(shape.rows * shape.columns // 32, min(hits, HITS_A_ROW * len(rows)))
        self._hit_place = torch.empty(self._room, dtype=torch.int64, device=device)
        self._hit_word = torch.empty(self._room, dtype=torch.int32, device=device)
        self._group = 1

    def tiles(self) -> list[Tile]:
        """All work: the first row and column of each square. Each round of squares meets every row equally often."""
        down, across = (-(-count // self._shape.block) for count in self._operands.counts)
        if self._task.columns is not None:
            squares = [(row, (row + turn) % across) for turn in range(across) for row in range(down)]
        else:
            squares = [(row, (row + turn) % down) for turn in range(down // 2 + 1) for row in range(down)]
            squares = list(dict.fromkeys((min(square), max(square)) for square in squares))
        return [(row * self._shape.block, column * self._shape.block) for row, column in squares]

    def run(self, tiles: Sequence[Tile], progress: Progress | None = None) -> None:
        """Adds tiles. What `progress` raises ends the scan."""
        done = 0
        while done < len(tiles):
            group = tiles[done : done + self._group]
            blocks = torch.tensor(group, dtype=torch.int32, device=self._device)
            words = self._add(blocks, 0, len(group) * _tiles_a_block(self._shape), counting=True)
            done += len(group)
            # As many as would fill half of the room, if hits went on like this.
            fitting = len(group) * self._room // (2 * max(words, 1))
            self._group = max(1, min(fitting, 4 * self._group, GROUP))
            if progress is not None:
                progress(done, len(tiles))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """What the tiles added so far came to: to be kept, or absorbed by another scan of the same task."""
        state = {"counts": self._counts, "profile": self._profile, "candidates": self._candidates.best}
        return {name: tensor.cpu().numpy() for name, tensor in state.items()}

    def absorb(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Adds the tiles of a scan whose `state` this is; no tile may be in both."""
        self._counts += torch.from_numpy(state["counts"]).to(self._device)
        self._profile += torch.from_numpy(state["profile"]).to(self._device)
        self._candidates.absorb(torch.from_numpy(state["candidates"]))

    def finish(self) -> Found:
        indices, similarities = self._candidates.finish()
        margin = kernels.margin(self._task.bins)
        counts = self._counts.cpu().numpy()
        inside = counts[margin:-margin].copy()
        inside[0] += counts[1:margin].sum()
        inside[-1] += counts[-margin:].sum()
        return Found(indices, similarities, inside, self._operands.by_sample(self._profile))

    def _add(self, blocks: torch.Tensor, first: int, last: int, *, counting: bool) -> int:
        """Adds the blocks' tiles from `first` to before `last`; returns how many words of hits there were."""
        words = self._multiply(blocks, first, last, counting)
        if words <= self._room:
            parts = (slice(start, min(start + COMPARED, words)) for start in range(0, words, COMPARED))
            self._candidates.offer(self._pairs(self._hit_place[part], self._hit_word[part]) for part in parts)
        else:
            middle = (first + last) // 2
            self._add(blocks, first, middle, counting=False)
            self._add(blocks, middle, last, counting=False)
        return words

    def _multiply(self, blocks: torch.Tensor, first: int, last: int, counting: bool) -> int:
        operands, task, shape = self._operands, self._task, self._shape
        hit_count = torch.zeros(1, dtype=torch.int64, device=self._device)
        shared = self._device.type == "cuda" and task.bins <= SHARED_BINS
        declare, count = kernels.shared_counting(task.bins) if shared else ("", "")
        kernels.scan_tiles[(min(last - first, shape.resident * _processors(self._device)),)](
            kernels.TensorDescriptor.from_tensor(operands.rows, [shape.rows, shape.depth]),
            kernels.TensorDescriptor.from_tensor(operands.columns, [shape.columns, shape.depth]),
            self._candidates.cut,
            self._candidates.cut,
            operands.own_column,
            blocks,
            self._counts,
            self._profile,
            self._profile_of,
            hit_count,
            self._hit_place,
            self._hit_word,
            first,
            last,
            *operands.counts,
            operands.rows.shape[1],
            self._candidates.high,
            self._room,
            BINS=task.bins,
            MARGIN=kernels.margin(task.bins),
            PROFILE=self._profile.shape[1],
            SYMMETRIC=task.columns is None,
            COUNTING=counting,
            DECLARE=declare,
            COUNT=count,
            BLOCK=shape.block,
            BM=shape.rows,
            BN=shape.columns,
            BK=shape.depth,
            num_warps=shape.warps,
            num_stages=shape.stages,
        )
        return int(hit_count)

    def _pairs(self, place: torch.Tensor, word: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and column of every hit."""
        bit = torch.arange(32, device=self._device, dtype=torch.int32)
        which, column = torch.nonzero((word[:, None] >> bit) & 1, as_tuple=True)
        words_in_row = -(-self._operands.counts[1] // self._shape.block) * (self._shape.block // 32)
        row = place[which] // words_in_row
        return row, place[which] % words_in_row * 32 + column


def shape_for(device: torch.device, *, profile: bool) -> Shape:
    """The shape to scan in: it follows from the kind of GPU and the task alone.

    The order in which a product adds up may be the shape's, and a pair at the edge of a bin then falls on one side or
    the other, so that equal scans need equal shapes.
    """
    if _capability(device) not in LARGE:
        return SMALL_SHAPE
    return PROFILE_SHAPE if profile else LARGE_SHAPE


def memory_needed(rows: Rows, numbers: int) -> int:
    """Bytes on the device for a scan whose result has so many numbers a sample; about."""
    held = len(rows) * (rows.dimension * (2 + rows.array.dtype.itemsize) + 8 * numbers)
    return held + min(HITS, HITS_A_ROW * len(rows)) * HIT_BYTES + 2**31


def memory_free(device: torch.device) -> int:
    """Bytes on the GPU that PyTorch may take, those included that it keeps for itself."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def memory_of(device: torch.device) -> int:
    """Bytes that the GPU has."""
    return int(torch.cuda.get_device_properties(device).total_memory)


def _capability(device: torch.device) -> tuple[int, int]:
    """The GPU's compute capability; in the interpreter that of one which has room for every shape."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _tiles_a_block(shape: Shape) -> int:
    return shape.block**2 // (shape.rows * shape.columns)


def _with_margins(task: Task, device: torch.device) -> torch.Tensor:
    """(bins + 2 margins,) int32, which bin of the profile each of the histogram's counts belongs to."""
    plain = np.zeros(task.bins, np.uint8) if task.profile_of_bin is None else task.profile_of_bin
    return torch.from_numpy(np.pad(plain, kernels.margin(task.bins), "edge").astype(np.int32)).to(device)
