"""Several processes that train one encoder together, as torchrun starts them, each on its share of every batch.

What they learn is what one process learns of the whole batch: every loss is of all samples, normalisations take the
statistics of all, and what chance decides is drawn for all.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from tamis.device import resolve_device
from tamis.errors import InputError


@dataclass(frozen=True)
class Processes:
    """rank: the number of this one, from 0, of `size`. One alone needs no process group."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes and tells what all came to."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Of a batch of so many samples, those of this process: all shares are equally large.

        Raises InputError where they cannot be.
        """
        each, over = divmod(count, self.size)
        if over or not each:
            fitting = max(1, each) * self.size
            raise InputError(
                f"{count} images a step cannot be shared evenly by {self.size} processes.",
                f"Use a batch size of {fitting}, or another number of processes.",
            )
        return slice(self.rank * each, (self.rank + 1) * each)

    def joined(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of all processes, in the order of their shares, from those of each, equally many.

        Gradients go to the own rows alone. A loss of all rows, which every process computes, so gives each of them its
        part of the gradient, and `averaging` puts the parts together.
        """
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(self.size)]
        distributed.all_gather(parts, rows.detach().contiguous())
        parts[self.rank] = rows
        return torch.cat(parts)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Of a scalar of each process; gradients as those of `joined`."""
        return self.joined(value[None]).mean()

    def averaging(self, module: nn.Module) -> nn.Module:
        """The module whose parameters' gradients are, after each backward pass, the mean over processes."""
        return module if self.size == 1 else DistributedDataParallel(module)

    def statistics(self) -> AbstractContextManager[Any]:
        """A context in which batch normalisations take the mean and variance of all processes' samples."""
        return nullcontext() if self.size == 1 else _JointStatistics(self.size)

    def as_first(self, find: Callable[[], bytes | None]) -> bytes | None:
        """What the first process finds, in all of them."""
        if self.size == 1:
            return find()
        told = [find() if self.first else None]
        distributed.broadcast_object_list(told, 0)
        return told[0]


ALONE = Processes()


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """Those that torchrun's environment tells of, each on its own GPU, or all on the CPU; without it, one alone.

    Raises InputError for a GPU that is named by its number, or is not there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    local = int(os.environ["LOCAL_RANK"])
    on_gpu = resolve_device(device).type == "cuda"
    if ":" in device:
        raise InputError(f"{size} processes cannot all use {device}.", "Use cuda, for each has a GPU of its own then.")
    if on_gpu:
        torch.cuda.set_device(resolve_device(f"cuda:{local}"))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


class _JointStatistics(TorchFunctionMode):
    """Takes the place of batch normalisation wherever a network calls for it, those of other libraries too."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        called = self._normalised if function is functional.batch_norm else function
        return called(*args, **(kwargs or {}))

    def _normalised(
        self,
        rows: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if not training:
            return functional.batch_norm(rows, running_mean, running_var, weight, bias, False, momentum, eps)
        if rows.is_cuda:
            group = distributed.group.WORLD
            given = rows, weight, bias, running_mean, running_var, eps, momentum, group, self._size
            synchronised: torch.Tensor = SyncBatchNorm.apply(*given)
            return synchronised
        # What torch has for GPUs refuses a CPU.
        reduced = [0, *range(2, rows.ndim)]
        exact = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        mean = self._mean(exact.mean(reduced, keepdim=True))
        variance = self._mean((exact - mean).square().mean(reduced, keepdim=True))
        if running_mean is not None and running_var is not None:
            count = self._size * rows.numel() // rows.shape[1]
            with torch.no_grad():
                running_mean.lerp_(mean.flatten(), momentum)
                running_var.lerp_(variance.flatten() * (count / (count - 1)), momentum)
        normal = (exact - mean) * (variance + eps).rsqrt()
        if weight is not None and bias is not None:
            along = (-1, *[1] * (rows.ndim - 2))
            normal = normal * weight.view(along) + bias.view(along)
        return normal.to(rows.dtype)

    def _mean(self, value: torch.Tensor) -> torch.Tensor:
        """Over processes, with gradients to all of them."""
        total: torch.Tensor = _Sum.apply(value)
        return total / self._size


class _Sum(torch.autograd.Function):
    """Over processes, of values and of gradients alike."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> Any:
        return _Sum.apply(*gradients)
