"""Where tensors are computed. Light to import: PyTorch is loaded once it is asked."""

import re
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tamis.errors import InputError

if TYPE_CHECKING:
    import torch


def check_device(device: str) -> str:
    """The name of a device, be it there or not: auto, cpu, cuda, or cuda:N. Raises InputError for another."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InputError(f"There is no device {device!r}.", "Use auto, cpu or cuda.")
    return device


def resolve_device(device: str) -> "torch.device":
    """`auto` is the GPU where there is one. Raises InputError for one that is not there."""
    import torch

    if check_device(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"The device {device} is not available.", "Use cpu, or install a CUDA build of PyTorch.")
    if (number := device.partition(":")[2]) and int(number) >= (there := torch.cuda.device_count()):
        raise InputError(f"There is no device {device}: {there} are there, counted from 0.", "Use cuda for the first.")
    return torch.device(device)


def memory_of_gpu() -> tuple[int, int] | None:
    """Bytes of the GPU's memory that are used, by whomever, and all; None unless this process has used one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    free, total = torch.cuda.mem_get_info()
    return total - free, total


def repeatable_convolutions() -> "AbstractContextManager[None]":
    """A context in which cuDNN computes the same bits every time."""
    import torch

    # What is not said is switched off, cuDNN itself too: then convolutions take some ten times as long.
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)


def has_bf16(device: "torch.device") -> bool:
    """Whether the device computes bf16 in hardware: a GPU, or a CPU with AVX512-BF16 or AMX; elsewhere it is slower."""
    import torch

    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
