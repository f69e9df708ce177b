"""Encoders by name: the one list of kinds, read by the command line, the API and the jobs. Light to import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tamis.errors import InputError

if TYPE_CHECKING:
    from tamis.encoders import Encoder

# Four corners and the whole, each mirrored too: the ten crops of Krizhevsky et al. 2012, section 4.1, with the whole
# image in place of the central crop.
MAX_VIEWS = 10
# What a file's name or a fingerprint leads to.
Read = Callable[[str], bytes | Path]


@dataclass(frozen=True)
class Kind:
    """One kind of encoder.

    local, server: what follows its name and a colon on the command line and in a request; empty for nothing.
    load: gives the encoder, and is told whether it may be TorchScript; None for what is trained on the data, and for
        embeddings, which need none.
    check: raises InputError for a name that no network has.
    """

    local: str
    server: str
    load: Callable[[EncoderName, Read, bool], Encoder] | None = None
    check: Callable[[EncoderName], object] | None = None


@dataclass(frozen=True)
class EncoderName:
    """An encoder as it was asked for: `simclr`, `torchvision:resnet18@weights.pth`, `checkpoint:encoder.pt`.

    name: the network's, for a library's. file: a path, or on a server the fingerprint of an encoder that was sent.
    """

    kind: str
    name: str = ""
    file: str = ""

    @property
    def label(self) -> str:
        """What manifests say; the fingerprint beside it tells files apart."""
        return f"{self.kind}:{self.name}" if self.name else self.kind

    @property
    def loads(self) -> bool:
        """Whether there are weights to load: not for what is trained on the data, nor for embeddings."""
        return KINDS[self.kind].load is not None

    def check(self, views: int) -> None:
        """Raises InputError for what is known to be wrong before any weights are looked for."""
        if views > 1 and self.kind == "embeddings":
            raise InputError("Embeddings are taken as they are: they have no views.", "Leave the number of views out.")
        check = KINDS[self.kind].check
        if check is not None:
            check(self)

    def load(self, read: Read, *, allow_torchscript: bool = False) -> Encoder:
        """The encoder, on the CPU. Raises InputError when it cannot be had."""
        load = KINDS[self.kind].load
        assert load is not None, f"{self.kind} has no weights to load"
        return load(self, read, allow_torchscript)


def parse_encoder(text: str, *, server: bool = False) -> EncoderName:
    """What a command line, or with `server` a request, asks for. Raises InputError that lists the forms."""
    kind, _, rest = text.partition(":")
    known = KINDS.get(kind)
    form = "" if known is None else known.server if server else known.local
    if known is None or bool(rest) != bool(form):
        raise InputError(f"There is no encoder {text!r}.", f"Use {', '.join(encoder_forms(server=server))}.")
    if not form.startswith("NAME"):
        return EncoderName(kind, file=rest)
    name, _, file = rest.partition("@")
    if "@" in rest and (server or not file or not name):
        raise InputError(f"There is no encoder {text!r}.", f"Use {kind}:{form}.")
    return EncoderName(kind, name, file)


def encoder_forms(*, server: bool = False) -> list[str]:
    """How each kind is asked for."""
    forms = {name: kind.server if server else kind.local for name, kind in KINDS.items()}
    return [f"{name}:{form}" if form else name for name, form in forms.items()]


def encoder_place(fingerprint: str) -> str:
    """Where a server keeps an encoder whose weights are known."""
    return f"encoders/{fingerprint}.pt"


def _load_checkpoint(asked: EncoderName, read: Read, allow_torchscript: bool) -> Encoder:
    from tamis.encoders import load_encoder

    return load_encoder(read(asked.file), allow_torchscript=allow_torchscript)


def _load_from_library(asked: EncoderName, read: Read, _: bool) -> Encoder:
    from tamis.encoders import load_encoder, pretrained

    return load_encoder(read(asked.file), asked.label) if asked.file else pretrained(asked.label)


def _check_torchvision(asked: EncoderName) -> object:
    from tamis.encoders.networks import torchvision_weights

    return torchvision_weights(asked.name)


KINDS = {
    "simclr": Kind("", ""),
    "torchvision": Kind("NAME[@FILE]", "NAME", _load_from_library, _check_torchvision),
    "timm": Kind("NAME[@FILE]", "NAME", _load_from_library),
    "checkpoint": Kind("FILE", "FINGERPRINT", _load_checkpoint),
    "embeddings": Kind("FILE", ""),
}
