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


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes bf16 in hardware: a GPU, or a CPU with AVX512-BF16 or AMX; elsewhere it is slower."""
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
