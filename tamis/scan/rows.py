"""Checked embeddings: read in blocks from wherever they are, and brought to length one as they are read."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tamis.errors import InputError

Embeddings: TypeAlias = "npt.NDArray[Any] | torch.Tensor"

MIN_SAMPLES = 4
BLOCK = 4096


def as_rows(embeddings: "Embeddings | Rows") -> "Rows":
    """Checks and measures embeddings, unless that was done before."""
    return embeddings if isinstance(embeddings, Rows) else Rows(embeddings)


class Rows:
    """(N, d) embeddings that can be compared by cosine similarity.

    Raises InputError for another shape or dtype, for fewer than 4 rows, for rows that are zero or not finite (naming
    them), and when all rows point the same way.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        array = embeddings.detach() if isinstance(embeddings, torch.Tensor) else np.asanyarray(embeddings)
        if array.ndim != 2 or array.shape[1] == 0:
            raise InputError(f"The embeddings have shape {tuple(array.shape)}.", "Give an (N, d) array.")
        floats = array.is_floating_point() if isinstance(array, torch.Tensor) else array.dtype.kind == "f"
        if not floats:
            raise InputError(f"The embeddings are of type {array.dtype}.", "Give floats.")
        if len(array) < MIN_SAMPLES:
            raise InputError(f"There are {len(array)} samples.", f"At least {MIN_SAMPLES} are needed to compare pairs.")
        self.array = _as_known(array)
        self.dimension = int(array.shape[1])
        self.norms = torch.cat([torch.linalg.vector_norm(self._raw(part), dim=1) for part in self.blocks()])
        self._check()

    def __len__(self) -> int:
        return len(self.array)

    def blocks(self) -> Iterator[slice]:
        for start in range(0, len(self), BLOCK):
            yield slice(start, min(start + BLOCK, len(self)))

    def unit(self, which: "slice | npt.NDArray[np.int64]") -> torch.Tensor:
        """The chosen rows as (n, d) float32 of length one, on the CPU."""
        return (self._raw(which) / self.norms[which, None]).to(torch.float32)

    def plain(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """The array as it is, for compiled loops: floats, or the uint16 patterns of a 16-bit type and, for all of them,
        the float32 each stands for."""
        kind, array = torch.float16, self.array
        if isinstance(array, torch.Tensor):
            kind, tensor = array.dtype, array.cpu()
            # NumPy has no bfloat16.
            array = (tensor if tensor.element_size() > 2 else tensor.view(torch.int16)).numpy()
        if array.itemsize > 2:
            return np.asarray(array), np.empty(0, np.float32)
        patterns = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
        return np.asarray(array).view(np.uint16), patterns.view(kind).float().numpy()

    def _raw(self, which: "slice | npt.NDArray[np.int64]") -> torch.Tensor:
        # float64, so that neither a norm nor a quotient can overflow or lose what float32 rows hold.
        chosen = self.array[which]
        tensor = chosen if isinstance(chosen, torch.Tensor) else torch.from_numpy(np.array(chosen, np.float64))
        return tensor.cpu().to(torch.float64)

    def _check(self) -> None:
        bad = torch.nonzero(~torch.isfinite(self.norms) | (self.norms == 0)).flatten()
        if len(bad):
            named = ", ".join(str(int(row)) for row in bad[:5]) + (", ..." if len(bad) > 5 else "")
            raise InputError(
                f"{len(bad)} of {len(self)} rows are zero, NaN or infinite: {named}.",
                "Leave these samples out, or embed them again.",
            )
        first = self.unit(slice(0, 1))
        if all(torch.equal(block := self.unit(part), first.expand_as(block)) for part in self.blocks()):
            raise InputError(
                "All embeddings point the same way.", "The encoder has collapsed: train or choose another."
            )


def _as_known(array: Embeddings) -> Embeddings:
    """The same numbers in a type that compiled loops know: neither longer than 64 bits nor shorter than 16, and in this
    machine's order of bytes."""
    if isinstance(array, torch.Tensor):
        return array.half() if array.element_size() < 2 else array
    if array.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
