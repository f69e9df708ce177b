"""What requests bring: their bodies, as OpenAPI describes them and as they are checked."""

from enum import IntEnum
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from service.keys import Scope
from tamis.curation.asked import STRATEGY, Duplicates, Score, Strategy, check_curation
from tamis.encoders.names import MAX_SIZE, MAX_VIEWS, MIN_SIZE, Architecture, encoder_forms
from tamis.images import THUMBNAIL_SIZES

# What a column of either database holds.
MAX_INTEGER = 2**63 - 1
Share = Annotated[float, Field(gt=0, lt=1)]
ImageSize = Literal["auto"] | Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)]
Epochs = Annotated[int, Field(ge=1, le=10_000)] | None
Steps = Annotated[int, Field(ge=1, le=10_000_000)] | None
Device = Literal["auto", "cpu", "cuda"]
Priority = Annotated[
    Literal["low", "normal", "high"], Field(description="A worker takes the highest first, and of equals the earliest.")
]
Length = TypeVar("Length", "NewCuration", "NewTraining")


def storable(text: str) -> str:
    """`text`, unless a database could not hold it."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds a character that is no text")
    return text


def named(text: str) -> str:
    """`text` without blanks around it, of printable characters."""
    if not text.strip().isprintable():
        raise ValueError("holds a character that cannot be printed")
    return text.strip()


Text = Annotated[str, AfterValidator(storable)]
Name = Annotated[str, AfterValidator(storable), AfterValidator(named)]


def one_length(asked: Length) -> Length:
    if asked.epochs is not None and asked.steps is not None:
        raise ValueError("epochs and steps both say how long to train: give one of them")
    return asked


class Request(BaseModel):
    """A request body. Unknown fields are refused: a misspelt one would silently mean its default."""

    model_config = ConfigDict(extra="forbid")


class Named(Request):
    name: Name = Field(min_length=1, max_length=200, pattern=r"\S")


class NewDataset(Named):
    priority: Priority = "normal"


class Rename(Named):
    pass


class Location(Request):
    uri: Text = Field(min_length=1, max_length=4096, description="file:///... under TAMIS_ALLOWED_ROOTS, or s3://...")


class NewUpload(Request):
    """What the headers that begin an upload say."""

    dataset: Text
    size: int
    metadata: Text


class NewCuration(Request):
    dataset: Text
    encoder: Text = Field("simclr", max_length=255, description=f"One of {', '.join(encoder_forms(server=True))}.")
    views: int = Field(1, ge=1, le=MAX_VIEWS, description="Views of each image whose features are averaged.")
    classes: Literal["auto"] | Annotated[int, Field(ge=2, lt=2**31)] = "auto"
    pos_high: Literal["auto"] | Share = "auto"
    pos_low: Share = 0.95
    neighbours: int = Field(64, ge=1, le=1024)
    score: Score = "blend"
    architecture: Architecture = Field("auto", description="Network of the simclr encoder.")
    image_size: ImageSize = Field("auto", description="Pixels of a side that the simclr encoder sees.")
    epochs: Epochs = Field(None, description="Training length of the simclr encoder.")
    steps: Steps = Field(None, description="The same in optimiser steps.")
    device: Device = Field("auto", description="auto is what the worker has.")
    seed: int = Field(0, ge=0, lt=2**31)
    priority: Priority = "normal"

    @model_validator(mode="after")
    def _one_length(self) -> "NewCuration":
        return one_length(self)

    @model_validator(mode="after")
    def _ordered(self) -> "NewCuration":
        check_curation(self.classes, self.pos_high, self.pos_low, self.neighbours, self.score)
        return self


class NewManifest(Request):
    strategy: Strategy = STRATEGY
    fraction: Literal["auto"] | Annotated[float, Field(ge=0, lt=1)] = "auto"
    duplicates: Duplicates = Field(
        "keep", description="exact drops all but the first of equal files, near those that look alike as well."
    )
    priority: Priority = "normal"


class ThumbnailSize(IntEnum):
    GRID, PAIR = THUMBNAIL_SIZES


# As trainer/arms.py has them.
Arm = Literal[
    "baseline",
    "remove",
    "random",
    "margin",
    "margin-all",
    "margin-random",
    "temperature",
    "temperature-all",
    "temperature-random",
    "combined",
    "combined-all",
    "combined-random",
    "auto",
    "auto-all",
    "auto-random",
    "debiased",
    "hard",
    "eliminated",
    "sas",
    "forgetting",
]

# As trainer/recipe.py has them, but for the one that learns from texts.
Method = Literal["simclr", "moco", "simsiam", "byol"]


class NewTraining(Request):
    """A training on a manifest; or an experiment, which trains every arm with every seed, on a curation: the one that
    is named, or the latest of a data set."""

    manifest: Text | None = None
    curation: Text | None = None
    dataset: Text | None = None
    arms: list[Arm] | None = Field(
        None, min_length=1, max_length=20, description="Of an experiment. Baselines and controls are added."
    )
    seeds: int | None = Field(None, ge=2, le=50, description="Runs of each arm of an experiment.")
    recipe: Literal["cifar10", "cifar100", "imagenet", "stl10", "tiny-imagenet"] | None = Field(
        None, description="How to train, as the literature has it for a data set, for what the request leaves out."
    )
    architecture: Architecture = "auto"
    image_size: ImageSize = "auto"
    epochs: Epochs = None
    steps: Steps = None
    device: Device = "auto"
    batch_size: int | None = Field(None, ge=4, le=65_536)
    method: Method = "simclr"
    loss: Literal["infonce", "spectral"] = "infonce"
    baseline: bool = Field(False, description="Train on every sample, ignoring the manifest's flags: the control arm.")
    flags: Literal["curated", "listed", "online"] = Field(
        "curated", description="What tells the pairs to treat: the band of the manifest, its list, or the batch."
    )
    seed: int = Field(0, ge=0, lt=2**31)
    priority: Priority = "normal"

    @model_validator(mode="after")
    def _together(self) -> "NewTraining":
        if self.method != "simclr" and self.loss != "infonce":
            raise ValueError(f"{self.method} does not learn by the loss {self.loss}: leave it out, or use simclr")
        if self.method == "moco" and self.flags != "curated" and not self.baseline:
            raise ValueError(f"the flags {self.flags} know the pairs of one batch: moco takes curated ones")
        if sum(given is not None for given in (self.manifest, self.curation, self.dataset)) != 1:
            raise ValueError("name a manifest to train on; or, for an experiment, a curation or a data set")
        strange = self.model_fields_set & (OF_EXPERIMENT if self.manifest else OF_ONE_TRAINING)
        if strange:
            what = "a training on a manifest" if self.manifest else "an experiment"
            raise ValueError(f"{', '.join(sorted(strange))}: of no use to {what}; leave it out")
        return one_length(self)


OF_EXPERIMENT = {"arms", "seeds"}
OF_ONE_TRAINING = {"baseline", "flags", "seed"}


class NewDecision(Request):
    sample: int = Field(ge=0, le=MAX_INTEGER)
    verdict: Literal["keep", "drop"]
    note: Text = Field("", max_length=2000)


class NewKey(Named):
    scope: Scope = Field(
        "admin", description="What it may: read; also send and start work; also delete and administer."
    )
    days: float | None = Field(None, gt=0, le=36_500, description="It expires after so many; never without.")
    quota_bytes: int | None = Field(
        None, ge=0, le=MAX_INTEGER, description="What its data sets and unfinished uploads may take together."
    )
