"""The options that several commands share: what each is called, its default, what it means, its group in `--help`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from tamis.commands.groups import DIFFICULTY, ENCODER, MANIFEST, ON_SERVER, RUNNING, TRAINING, WHAT
from tamis.curation.asked import STRATEGY, Duplicates, Score, Strategy, check_curation, check_selection
from tamis.device import check_device
from tamis.encoders.names import ARCHITECTURES, MAX_VIEWS, check_network, encoder_forms, parse_encoder
from tamis.errors import InputError
from trainer.augmentation import read_augmentation
from trainer.recipe import FlagSource, Loss, Method, Recipe, check_flag_source, check_texts
from trainer.recipes import OWN, Taught, taught

Result: TypeAlias = dict[str, Any] | None

SERVER = "http://127.0.0.1:8080"
MAX_SEED = 2**31 - 1
SOURCES = "Folder, zip, tar, WebDataset shards, Parquet, CIFAR, STL-10 or IDX file"


def number(low: int, high: int | None = None) -> Number:
    return Number(gte=low, lte=high)


def flag(text: str, group: Group = RUNNING) -> Parameter:
    """Of an option that is given or not, and takes no value."""
    return Parameter(help=text, negative="", show_default=False, group=group)


def auto_or(kind: Callable[[str], Any], letter: str, text: str) -> Parameter:
    """Of an option that takes a number or `auto`."""

    def convert(_: Any, tokens: Sequence[Token]) -> Any:
        word = tokens[0].value
        try:
            return word if word == "auto" else kind(word)
        except ValueError:
            raise ValueError(f"{word!r} is neither auto nor a number.") from None

    return Parameter(help=text, converter=convert, metavar=f"auto|{letter}", show_choices=False)


def _known_device(_: Any, value: str) -> None:
    try:
        check_device(value)
    except InputError as error:
        raise ValueError(error.hint) from error


Auto: TypeAlias = Literal["auto"]
Source = Annotated[str, Parameter(help=f"{SOURCES}, or s3://BUCKET/PREFIX.", group=WHAT)]
Out = Annotated[Path, Parameter(name=["--out", "-o"], metavar="DIR", help="Folder of the manifest.", group=WHAT)]
Test = Annotated[
    str | None,
    Parameter(help="Labelled images that no encoder sees, for the probe.", metavar="SOURCE", group=WHAT),
]
Seed = Annotated[int, Parameter(help="Of all chance.", metavar="S", validator=number(0, MAX_SEED), group=RUNNING)]
Force = Annotated[bool, flag("Replace a manifest that is there.")]
Quiet = Annotated[bool, flag("No progress on standard error.")]
Device = Annotated[
    str,
    Parameter(
        help="Where to compute; auto is the GPU where there is one.",
        metavar="auto|cpu|cuda",
        env_var="TAMIS_DEVICE",
        validator=_known_device,
        group=RUNNING,
    ),
]
# Where a server computes is no matter of this machine's TAMIS_DEVICE.
Priority = Annotated[
    Literal["low", "normal", "high"],
    Parameter(help="A worker takes the highest first, and of equals the earliest.", group=ON_SERVER),
]
ServerDevice = Annotated[
    Literal["auto", "cpu", "cuda"], Parameter(help="Where to compute; auto is what the worker has.", group=ON_SERVER)
]
Data = Annotated[
    Path | None,
    Parameter(
        help="Folder of database and objects.",
        metavar="DIR",
        env_var="TAMIS_DATA",
        show_default=lambda _: "tamis-data",
        group=RUNNING,
    ),
]
Cache = Annotated[
    Path | None,
    Parameter(
        help="Folder of what is made on the way, for the next time; may be removed.",
        metavar="DIR",
        show_default=lambda _: "TAMIS_CACHE, or tamis in the user's cache",
        group=RUNNING,
    ),
]
Id = Annotated[str, Parameter(help="As the list shows it.", group=WHAT)]


Network = Annotated[
    str,
    Parameter(
        help=f"Network to train: {', '.join(ARCHITECTURES)}, timm:NAME or torchvision:NAME. auto: small on a CPU and "
        "up to 40 pixels, else resnet18.",
        metavar="NAME",
    ),
]
ImageSize = Annotated[
    int | Auto, auto_or(int, "S", "Pixels of a side that it sees. auto: the images', at most 32 on a CPU, else 224.")
]
Epochs = Annotated[
    int | None, Parameter(help="Passes over the images; by default 600 steps, 400 of an encoder on a CPU.", metavar="E")
]
Steps = Annotated[int | None, Parameter(help="Steps of training, in place of --epochs.", metavar="N")]


OF_LESSON = ("method", "loss", "architecture", "image_size", "epochs", "steps", "batch_size")


@Parameter(name="*", group=ENCODER)
@dataclass(frozen=True)
class Encoding:
    """From images to embeddings; architecture to steps are of `simclr` alone."""

    encoder: Annotated[
        str,
        Parameter(
            help=f"{', '.join(encoder_forms())}. simclr is trained on the images. Embeddings are rows in the order of "
            "samples.parquet, or named by a Parquet column sample_id or path.",
            metavar="FORM",
        ),
    ] = "simclr"
    architecture: Network = "auto"
    image_size: ImageSize = "auto"
    epochs: Epochs = None
    steps: Steps = None
    views: Annotated[
        int, Parameter(help=f"Views of each image whose features are averaged, 1 to {MAX_VIEWS}.", metavar="V")
    ] = 1

    def judge(self, *, server: bool = False) -> None:
        """Raises InputError for an encoder that there is not, and for numbers out of range.

        server: whether it may be one that the server has, as well as one of this machine.
        """
        asked = parse_encoder(self.encoder, server=server and self.encoder == "embeddings")
        asked.check_options(
            self.views,
            architecture=self.architecture,
            image_size=self.image_size,
            epochs=self.epochs,
            steps=self.steps,
        )
        known_there = server and re.fullmatch("[0-9a-f]{64}", asked.file)
        if asked.file and not known_there and not Path(asked.file).is_file():
            raise InputError(f"There is no file {asked.file}.", f"Give the file that {asked.kind} is to take.")
        check_network(self.architecture, self.image_size, self.views)
        Recipe(epochs=self.epochs, steps=self.steps)


@Parameter(name="*", group=DIFFICULTY)
@dataclass(frozen=True)
class Difficulty:
    """Who is difficult."""

    classes: Annotated[int | Auto, auto_or(int, "K", "Number of classes, r + 1.")] = "auto"
    pos_high: Annotated[
        float | Auto, auto_or(float, "P", "Share of all pairs that are of one class. auto: 1 / classes.")
    ] = "auto"
    pos_low: Annotated[float, Parameter(help="Share of all pairs that are not wholly unlike.", metavar="P")] = 0.95
    neighbours: Annotated[int, Parameter(help="Difficult partners kept of each image.", metavar="K")] = 64
    score: Annotated[Score, Parameter(help="What an image's difficulty is.")] = "blend"

    def judge(self) -> None:
        check_curation(**asdict(self))


@Parameter(name="*", group=MANIFEST)
@dataclass(frozen=True)
class Treatment:
    """What is done about the difficult."""

    strategy: Annotated[
        Strategy, Parameter(help="Drop difficult images, treat difficult pairs in the loss, or auto: what pays.")
    ] = STRATEGY
    fraction: Annotated[float | Auto, auto_or(float, "F", "Share to drop. auto: what is difficult, 0% to 20%.")] = (
        "auto"
    )
    duplicates: Annotated[Duplicates, Parameter(help="Which to drop: none, equal files, or what looks alike too.")] = (
        "keep"
    )

    def judge(self) -> None:
        check_selection(**asdict(self))


@Parameter(name="*", group=TRAINING)
@dataclass(frozen=True)
class Lesson:
    """How any encoder is trained: what is not typed as the recipe has it, and what that leaves out as by default."""

    recipe: Annotated[
        str | None,
        Parameter(help=f"How to train, for what is not typed: {', '.join(OWN)}, or a TOML file.", metavar="NAME|FILE"),
    ] = None
    method: Annotated[
        Method | None,
        Parameter(
            help="SimCLR, MoCo v2, SimSiam or BYOL, which compare no images, or CLIP, against texts.",
            show_default=lambda _: "simclr",
        ),
    ] = None
    loss: Annotated[Loss | None, Parameter(help="What is learnt by.", show_default=lambda _: "infonce")] = None
    architecture: Annotated[Network | None, Parameter(show_default=lambda _: "auto")] = None
    image_size: Annotated[ImageSize | None, Parameter(show_default=lambda _: "auto")] = None
    epochs: Epochs = None
    steps: Steps = None
    batch_size: Annotated[int | None, Parameter(help="Images a step.", metavar="B", show_default=lambda _: "128")] = (
        None
    )
    augmentations: Annotated[
        Path | None,
        Parameter(
            help="TOML or JSON file of what views differ by, such as flip = 0.",
            metavar="FILE",
            show_default=lambda _: "SimCLR's",
        ),
    ] = None

    def taught(self) -> Taught:
        """Raises InputError for numbers out of range, and for files of no recipe or augmentations."""
        typed = {name: getattr(self, name) for name in OF_LESSON}
        if self.augmentations is not None:
            typed["augmentation"] = read_augmentation(self.augmentations)
        return taught(typed, self.recipe)


@Parameter(name="*", group=TRAINING)
@dataclass(frozen=True)
class Training(Lesson):
    """How an arm of a manifest is trained."""

    baseline: Annotated[bool, flag("Ignore the manifest's flags: the control arm.", TRAINING)] = False
    flags: Annotated[
        FlagSource, Parameter(help="What tells the pairs to treat: the band of the manifest, its list, or the batch.")
    ] = "curated"
    texts: Annotated[
        Path | None,
        Parameter(help="Of clip: .npy or Parquet of a text's embedding for each image.", metavar="FILE"),
    ] = None

    def judge(self) -> None:
        """Raises InputError for numbers out of range, and flags or texts that the method cannot use."""
        method = self.taught().recipe.method
        check_texts(method, self.texts is not None)
        if not self.baseline:
            check_flag_source(method, self.flags)


@Parameter(name="*", group=ON_SERVER)
@dataclass(frozen=True)
class Server:
    """Which server to ask."""

    server: Annotated[str, Parameter(help="Its address.", metavar="URL")] = SERVER
    api_key: Annotated[
        str | None,
        Parameter(
            help="From `tamis keys create`; a server on this machine asks for none.",
            metavar="KEY",
            env_var="TAMIS_API_KEY",
        ),
    ] = None

    def client(self) -> Any:
        from tamis.client.client import Client

        return Client(self.server, self.api_key)


def settings_at(data: Path | None, **overrides: Any) -> Any:
    """The settings of a server, with its folder where one is typed."""
    from tamis.settings import load_settings

    return load_settings(**({} if data is None else {"data": data}), **overrides)
