"""TorchScript files: of any network, and one that leaves a trace whenever it runs."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

State = tuple[str, torch.Tensor, bool]


class Payload(nn.Module):
    """Writes the file `target` when it is loaded, and `target`.images when it is shown some."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target, self.weight = target, torch.ones(1)

    @torch.jit.export
    def __getstate__(self) -> State:
        return self.target, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: State) -> None:
        self.target, self.weight, self.training = state
        torch.save(self.weight, self.target)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.target + ".images")
        return x.mean((2, 3))


def scripted(network: nn.Module, **description: Any) -> bytes:
    """The network as a TorchScript file; description: what it says of how images are prepared."""
    extra = {"tamis": json.dumps(description)} if description else None
    sink = io.BytesIO()
    with warnings.catch_warnings():
        # PyTorch advises against TorchScript; users have it nevertheless.
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(network), sink, _extra_files=extra)
    return sink.getvalue()


def payload(target: Path) -> bytes:
    return scripted(Payload(str(target)))
