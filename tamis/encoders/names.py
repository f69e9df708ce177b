"""Encoders by name: the one list of kinds, read by the command line, the API and the jobs. Light to import;
tamis/encoders/loading.py loads what is named."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tamis.errors import InputError

# Four corners and the whole, each mirrored too: the ten crops of Krizhevsky et al. 2012, section 4.1, with the whole
# image in place of the central crop.
MAX_VIEWS = 10
# What is trained here. Beside these, LIBRARIES have networks of their own, as `torchvision:resnet50`.
Architecture: TypeAlias = Literal["auto", "small", "resnet18", "resnet50"]
ARCHITECTURES = get_args(Architecture)[1:]
LIBRARIES = ("torchvision", "timm")
# A network that a file brings as a program.
TORCHSCRIPT = "torchscript"
MIN_SIZE, MAX_SIZE = 16, 1024
MAX_NAME = 200


@dataclass(frozen=True)
class Kind:
    """One kind of encoder.

    local, server: what follows its name and a colon on the command line and in a request; empty for nothing.
    loads: whether there are weights to load: not for what is trained on the data, nor for embeddings.
    """

    local: str
    server: str
    loads: bool = False


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
        """Whether there are weights to load."""
        return KINDS[self.kind].loads

    def check_options(self, views: int, **training: "int | str | None") -> None:
        """Raises InputError for views of what has none, and for settings of training beside what is not trained.

        training: architecture, image_size, epochs, steps; auto and None ask for nothing.
        """
        if views > 1 and self.kind == "embeddings":
            raise InputError("Embeddings are taken as they are: they have no views.", "Leave the number of views out.")
        asked = [name for name, value in training.items() if value not in ("auto", None)]
        if asked and self.kind != "simclr":
            raise InputError(
                f"{self.label} is not trained here: {' and '.join(asked)} would do nothing.",
                "Leave that out, or use the encoder simclr.",
            )


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


def check_spec(architecture: str, image_size: int, views: int = 1) -> None:
    """Raises InputError for a network that there is not, and for an image size or a number of views out of range."""
    library, _, name = str(architecture).partition(":")
    named = library in LIBRARIES and 0 < len(name) <= MAX_NAME
    if architecture not in (*ARCHITECTURES, TORCHSCRIPT) and not named:
        known = ", ".join([*ARCHITECTURES, *(f"{library}:NAME" for library in LIBRARIES)])
        raise InputError(f"There is no architecture {architecture!r:.99}.", f"Use one of {known}.")
    if type(image_size) is not int or not MIN_SIZE <= image_size <= MAX_SIZE:
        raise InputError(f"The image size is {image_size!r}.", f"Use {MIN_SIZE} to {MAX_SIZE} pixels.")
    if type(views) is not int or not 1 <= views <= MAX_VIEWS:
        raise InputError(f"The number of views is {views!r}.", f"Use 1 to {MAX_VIEWS}.")


def check_network(architecture: str, image_size: int | Literal["auto"], views: int = 1) -> None:
    """`check_spec` of a network to be trained here, where auto is still to be chosen."""
    check_spec(
        "small" if architecture == "auto" else architecture, MIN_SIZE if image_size == "auto" else image_size, views
    )


def encoder_forms(*, server: bool = False) -> list[str]:
    """How each kind is asked for."""
    forms = {name: kind.server if server else kind.local for name, kind in KINDS.items()}
    return [f"{name}:{form}" if form else name for name, form in forms.items()]


def encoder_place(fingerprint: str) -> str:
    """Where a server keeps an encoder whose weights are known."""
    return f"encoders/{fingerprint}.pt"


KINDS = {
    "simclr": Kind("", ""),
    "torchvision": Kind("NAME[@FILE]", "NAME", loads=True),
    "timm": Kind("NAME[@FILE]", "NAME", loads=True),
    "checkpoint": Kind("FILE", "FINGERPRINT", loads=True),
    "embeddings": Kind("FILE", ""),
}
