"""Checkpoint files of any origin to encoders; only tensors and plain values are read, and no code in them is run, but
for TorchScript where it is allowed."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tamis.encoders.encoder import FORMAT, Encoder, build_encoder
from tamis.encoders.matching import State, match
from tamis.encoders.names import TORCHSCRIPT
from tamis.encoders.networks import library_spec, outline
from tamis.encoders.program import Program
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError

# Recognised by the names and shapes of their weights.
RECOGNISED = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d"),
    *("vit_b_16", "convnext_tiny"),
)
# ResNets with a 3 x 3 stem are trained on CIFAR, and images are shown to them as CIFAR's.
CIFAR = {"image_size": 32, "mean": (0.4914, 0.4822, 0.4465), "deviation": (0.247, 0.2435, 0.2616)}
PLAIN = ("resnet18", "resnet50")
# Where training programs put the weights within what they save.
NESTED = ("state_dict", "model_state_dict", "model", "teacher")
ZIP = b"PK\x03\x04"
# Entries of what a file may tell of its training.
MAX_TOLD = 20
HINT = (
    "Give an encoder.pt of Tamis, or a state dict of a torchvision or timm network as .pt, .pth or .safetensors; "
    "torchvision:NAME@FILE and timm:NAME@FILE say which network it is."
)


def load_encoder(content: bytes | Path, architecture: str | None = None, *, allow_torchscript: bool = False) -> Encoder:
    """The encoder in a file or its content, on the CPU, in evaluation mode.

    Takes what `encoder_bytes` wrote, and state dicts by torch or safetensors, alone or in a training's checkpoint;
    prefixes are found, and heads left out. architecture: which network it is, as `torchvision:vit_b_16`; without it the
    metadata of a safetensors file say so (`tamis`: the fields of an EncoderSpec as JSON), or the weights do.
    Pickled objects are refused, and TorchScript unless it is allowed: see `Program`. Images are prepared for it as for
    torchvision's networks, or as its extra file `tamis` says, with the same fields.
    Raises InputError that names what is missing or not expected.
    """
    spec = None if architecture is None else library_spec(architecture)
    name = "The checkpoint"
    try:
        if isinstance(content, Path):
            name = str(content)
            content = content.read_bytes()
        return _encoder(content, spec, allow_torchscript).eval()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.", HINT) from error
    except InputError as error:
        raise InputError(f"{name}: {error.message}", error.hint or HINT) from error
    except (AttributeError, KeyError, TypeError, IndexError, RuntimeError, ValueError) as error:
        raise InputError(f"{name} holds something else than an encoder.", HINT) from error


def _encoder(content: bytes, spec: EncoderSpec | None, allow_torchscript: bool) -> Encoder:
    entries = _entries(content)
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        return _program(content, spec, allow_torchscript)
    if sum(entry.file_size for entry in entries) > len(content):
        raise InputError("It is compressed, as torch.save leaves no file.", "Save it once more with torch.save().")
    if _is_safetensors(content):
        described, weights = _safetensors(content)
        if spec is None and described is not None:
            spec = _spec(json.loads(described))
    else:
        stored = _torch(content)
        if isinstance(stored, Mapping) and isinstance(stored.get("format"), str):
            return _own(stored, len(content))
        weights = _weights(stored)
    return _filled(_recognised(weights) if spec is None else spec, weights, len(content))


def _filled(spec: EncoderSpec, weights: State, size: int) -> Encoder:
    """The encoder with a file's weights: made only once they fit, and may all be among the file's `size` bytes, for a
    tensor can repeat one byte in any shape."""
    network = outline(spec)
    found = match(weights, network)
    if found.problems:
        raise InputError(f"It does not fit {spec.architecture}: {'; '.join(found.problems)}.")
    elements = sum(value.numel() for value in network.state_dict().values())
    if elements > size:
        raise InputError(f"It cannot hold the {elements} weights of {spec.architecture} in {size} bytes.")
    encoder = build_encoder(spec, 0)
    encoder.trunk.load_state_dict(found.weights)
    return encoder


def _own(stored: Mapping[str, Any], size: int) -> Encoder:
    if stored["format"] != FORMAT:
        raise InputError(f"Its format is {stored['format']!r:.99}; this version reads {FORMAT!r}.")
    encoder = _filled(_spec(stored["spec"]), stored["state"], size)
    encoder.trained = _trained(stored.get("trained", {}))
    return encoder


def _program(content: bytes, named: EncoderSpec | None, allowed: bool) -> Encoder:
    if not allowed:
        raise InputError(
            "It is TorchScript: a program, which would run here with the rights of this process.",
            "Save the model's state_dict() instead, or, if you trust the file, set TAMIS_ALLOW_TORCHSCRIPT=true "
            "where it is loaded: for the command, or for the server and its workers.",
        )
    if named is not None:
        raise InputError("It is TorchScript, which brings its own network.", "Name it without one: checkpoint:FILE.")
    program = Program(content)
    if program.description is None:
        spec = replace(library_spec("torchvision:resnet18"), architecture=TORCHSCRIPT)
    else:
        spec = _spec({**json.loads(program.description), "architecture": TORCHSCRIPT})
    return Encoder(spec, program, program.dimension(spec.image_size))


def _spec(fields: Mapping[str, Any]) -> EncoderSpec:
    # JSON knows no tuples.
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return EncoderSpec(**plain)


def _trained(told: Any) -> dict[str, str | int]:
    if not isinstance(told, dict) or len(told) > MAX_TOLD:
        raise ValueError("how it was trained is no short table")
    if not all(isinstance(name, str) and isinstance(value, str | int) for name, value in told.items()):
        raise ValueError("how it was trained is told in other values than text and whole numbers")
    return told


def _torch(content: bytes) -> Any:
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a damaged file makes it stumble over
        raise InputError("It is not an encoder checkpoint, or holds more than tensors and plain values.") from error


def _entries(content: bytes) -> list[zipfile.ZipInfo]:
    """Of the zip archive that torch.save and TorchScript write; none where torch would not look for one."""
    if not content.startswith(ZIP):
        return []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.infolist()
    except zipfile.BadZipFile as error:
        raise InputError(f"It is a damaged archive ({error}).") from error


def _is_safetensors(content: bytes) -> bool:
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content) - 8


def _safetensors(content: bytes) -> tuple[str | None, State]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise InputError(
            "It is a safetensors file, and safetensors is not installed.",
            "Install it with `pip install 'tamis[safetensors]'`.",
        ) from error
    try:
        weights: State = load(content)
    except SafetensorError as error:
        raise InputError(f"It is a damaged safetensors file ({error}).") from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header.get("__metadata__", {}).get("tamis"), weights


def _weights(stored: Any) -> State:
    for name in NESTED:
        if isinstance(stored.get(name), Mapping):
            stored = stored[name]
    weights = {name: value for name, value in stored.items() if isinstance(value, torch.Tensor)}
    if not weights:
        raise InputError("It holds no weights by name.")
    return weights


def _recognised(state: State) -> EncoderSpec:
    """The spec of the network that the weights fit; what fits almost is named, with what is wrong."""
    fits = [(match(state, network), spec) for network, spec in _known()]
    best, spec = min(fits, key=lambda fit: fit[0].wrong)
    if not best.problems:
        return spec
    if best.found:
        raise InputError(f"It is most like {spec.architecture}, but {'; '.join(best.problems)}.")
    raise InputError(
        f"Its weights are of no network that Tamis recognises: {', '.join(list(state)[:3])}...",
        f"Say which it is with torchvision:NAME@FILE or timm:NAME@FILE. Recognised are {', '.join(RECOGNISED)}.",
    )


@cache
def _known() -> list[tuple[nn.Module, EncoderSpec]]:
    """Networks without memory for their weights, and how images are shown to each."""
    specs = [library_spec(f"torchvision:{name}") for name in RECOGNISED]
    specs += [EncoderSpec(name, **CIFAR) for name in PLAIN]  # type: ignore[arg-type]  # of several types
    return [(outline(spec), spec) for spec in specs]
