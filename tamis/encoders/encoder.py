"""An encoder: a network with its preprocessing; its bytes, and the fingerprint of its weights."""

import copy
import hashlib
import io
import json
from dataclasses import asdict, replace

import torch
from torch import nn

from tamis.encoders.networks import build_network
from tamis.encoders.program import Program
from tamis.encoders.spec import EncoderSpec

FORMAT = "tamis-encoder-1"


class Encoder(nn.Module):
    """(B, 3, S, S) float within 0 to 1 -> (B, dimension) float32, before any projection head or classifier.

    trunk: takes them normalised, and gives features or maps of them to be averaged; built here, or a Program.
    trained: how it was, if here: device, steps, batch size, loss and seed.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, spec: EncoderSpec, trunk: nn.Module, dimension: int) -> None:
        super().__init__()
        self.spec, self.trunk, self.dimension = spec, trunk, dimension
        self.trained: dict[str, str | int] = {}
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(spec.deviation).view(3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.trunk((x - self.mean) / self.deviation).float()
        return found.mean((2, 3)) if found.ndim == 4 else found


def build_encoder(spec: EncoderSpec, seed: int) -> Encoder:
    """An untrained encoder on the CPU. The same seed gives the same weights; torch's global generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(spec, *build_network(spec))


def with_views(encoder: Encoder, views: int) -> Encoder:
    """The same network and weights, for features averaged over so many views. Raises InputError for too many."""
    other = copy.copy(encoder)
    other.spec = replace(encoder.spec, views=views)
    return other


def encoder_bytes(encoder: Encoder) -> bytes:
    """The encoder as a file's content, for `load_encoder`; of a program the file it came from."""
    if isinstance(encoder.trunk, Program):
        return encoder.trunk.content
    state = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    sink = io.BytesIO()
    torch.save({"format": FORMAT, "spec": asdict(encoder.spec), "trained": encoder.trained, "state": state}, sink)
    return sink.getvalue()


def fingerprint(encoder: Encoder) -> str:
    """sha256 over the spec and each tensor's name, type, shape and bytes: independent of the file that holds them.

    Of a program, over the spec and all bytes of its file.
    """
    digest = hashlib.sha256(json.dumps(asdict(encoder.spec), sort_keys=True).encode())
    if isinstance(encoder.trunk, Program):
        digest.update(b"\n" + encoder.trunk.content)
        return digest.hexdigest()
    for name, value in sorted(encoder.state_dict().items()):
        array = value.detach().cpu().contiguous().numpy()
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
