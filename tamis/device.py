"""Where tensors are computed."""

import torch

from tamis.errors import InputError


def resolve_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"The device {device} is not available.", "Use cpu, or install a CUDA build of PyTorch.")
    return torch.device(device)
