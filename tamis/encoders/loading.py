"""From an encoder's name to the encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tamis.encoders.encoder import Encoder
from tamis.encoders.files import load_encoder
from tamis.encoders.names import EncoderName
from tamis.encoders.networks import torchvision_weights
from tamis.encoders.pretrained import pretrained

# What a file's name or a fingerprint leads to.
Read: TypeAlias = Callable[[str], bytes | Path]


def check_network(asked: EncoderName) -> None:
    """Raises InputError for a name that no network has, before any weights are looked for."""
    if asked.kind == "torchvision":
        torchvision_weights(asked.name)


def load_named(asked: EncoderName, read: Read, *, allow_torchscript: bool = False) -> Encoder:
    """The encoder, on the CPU, of a kind that `loads`. Raises InputError when it cannot be had."""
    if asked.kind == "checkpoint":
        return load_encoder(read(asked.file), allow_torchscript=allow_torchscript)
    if asked.file:
        return load_encoder(read(asked.file), asked.label)
    return pretrained(asked.label)
