"""What crosses the network: request bodies and answers, as OpenAPI describes them."""

from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from service.verdicts import Which
from tamis.curation.asked import STRATEGY, Duplicates, Score, Strategy, check_curation
from tamis.encoders.names import MAX_SIZE, MAX_VIEWS, MIN_SIZE, Architecture, encoder_forms
from tamis.ingest.images import THUMBNAIL_SIZES

State = Literal["empty", "queued", "running", "succeeded", "failed", "cancelled"]
# What a column of either database holds.
MAX_INTEGER = 2**63 - 1
Finite = Annotated[float, Field(allow_inf_nan=False)]
Similarity = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Portion = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
ImageSize = Literal["auto"] | Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)]
Epochs = Annotated[int, Field(ge=1, le=10_000)] | None
Steps = Annotated[int, Field(ge=1, le=10_000_000)] | None
Device = Literal["auto", "cpu", "cuda"]
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


def _numbers(value: Any) -> Any:
    """Of a query, what commas part in its one value."""
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    return one.split(",") if isinstance(one, str) else value


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
    pass


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


class ThumbnailSize(IntEnum):
    GRID, PAIR = THUMBNAIL_SIZES


class NewTraining(Request):
    manifest: Text
    recipe: Literal["cifar10", "cifar100", "imagenet", "stl10", "tiny-imagenet"] | None = Field(
        None, description="How to train, as the literature has it for a data set, for what the request leaves out."
    )
    architecture: Architecture = "auto"
    image_size: ImageSize = "auto"
    epochs: Epochs = None
    steps: Steps = None
    device: Device = "auto"
    batch_size: int | None = Field(None, ge=4, le=65_536)
    method: Literal["simclr", "moco", "simsiam"] = "simclr"
    loss: Literal["infonce", "spectral"] = "infonce"
    baseline: bool = Field(False, description="Train on every sample, ignoring the manifest's flags: the control arm.")
    flags: Literal["curated", "listed", "online"] = Field(
        "curated", description="What tells the pairs to treat: the band of the manifest, its list, or the batch."
    )
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _together(self) -> "NewTraining":
        if self.method != "simclr" and self.loss != "infonce":
            raise ValueError(f"{self.method} does not learn by the loss {self.loss}: leave it out, or use simclr")
        if self.method == "moco" and self.flags != "curated" and not self.baseline:
            raise ValueError(f"the flags {self.flags} know the pairs of one batch: moco takes curated ones")
        return one_length(self)


class NewDecision(Request):
    sample: int = Field(ge=0, le=MAX_INTEGER)
    verdict: Literal["keep", "drop"]
    note: Text = Field("", max_length=2000)


T = TypeVar("T")


class Progress(BaseModel):
    stage: str
    done: int
    total: int
    message: str


class JobFields(BaseModel):
    id: str
    state: State
    progress: Progress
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class DatasetView(JobFields):
    name: str
    samples: int
    quarantined: int
    bytes: int
    fingerprint: str | None


class UploadView(BaseModel):
    id: str
    dataset: str
    dataset_name: str
    name: str
    size: int
    received: int
    sha256: str | None
    metadata: dict[str, str]
    created_at: datetime
    expires_at: datetime


class CurationView(JobFields):
    name: str | None
    dataset: str
    dataset_name: str
    parameters: dict[str, Any]
    result: dict[str, Any] | None


class ManifestView(JobFields):
    name: str | None
    curation: str
    parameters: dict[str, Any]
    result: dict[str, Any] | None
    files: dict[str, str] = Field(description="Address of each file, once succeeded.")


class TrainingView(JobFields):
    manifest: str
    parameters: dict[str, Any]
    result: dict[str, Any] | None


class JobView(JobFields):
    kind: Literal["ingest", "curation", "manifest", "training"]
    dataset: str
    dataset_name: str
    url: str | None


class EncoderView(BaseModel):
    id: str
    encoder: str = Field(description="What POST /curations takes.")
    fingerprint: str
    name: str
    architecture: str
    image_size: int
    dimension: int
    created_at: datetime


class SampleFilter(Request):
    """Samples of a curation. What is left out is no condition."""

    cluster: int | None = Field(None, ge=0, le=MAX_INTEGER)
    label: Text | None = Field(None, max_length=1000)
    decision: Which | None = None
    difficulty_low: Finite | None = Field(None, description="At least so difficult.")
    difficulty_high: Finite | None = Field(None, description="Less difficult than this.")


class PairFilter(Request):
    """Listed pairs of a curation. What is left out is no condition."""

    sim_low: Similarity | None = Field(None, description="At least so similar.")
    sim_high: Similarity | None = Field(None, description="Less similar than this.")
    pos_low: Portion | None = Field(None, description="In place of sim_low: the share of all pairs above it.")
    pos_high: Portion | None = Field(None, description="In place of sim_high: the share of all pairs above it.")
    cluster_a: int | None = Field(None, ge=0, le=MAX_INTEGER, description="With a sample in this cluster.")
    cluster_b: int | None = Field(None, ge=0, le=MAX_INTEGER, description="And one in this.")
    sample: int | None = Field(None, ge=0, le=MAX_INTEGER, description="With this sample.")
    apart: bool | None = Field(None, description="Of two clusters, or of one.")
    decision: Which | None = Field(
        None, description="With a sample that was so decided; undecided: with none that was."
    )
    hardest: int | None = Field(None, ge=0, le=MAX_INTEGER, description="Of all listed pairs so many, the hardest.")
    box: Annotated[tuple[Finite, Finite, Finite, Finite] | None, BeforeValidator(_numbers)] = Field(
        None, description="With a sample that the map draws there: x from, y from, x to, y to; in a query with commas."
    )

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        for end in ("low", "high"):
            if getattr(self, f"sim_{end}") is not None and getattr(self, f"pos_{end}") is not None:
                raise ValueError(f"sim_{end} and pos_{end} both say where the cut ends: give one of them")
        return self


class PagePlace(Request):
    """Which part of a list: from `cursor` on, or from row `offset`, which may be anywhere."""

    cursor: str | None = Field(None, max_length=500, description="`next` of the page before.")
    offset: int | None = Field(None, ge=0, le=MAX_INTEGER)
    limit: int = Field(100, ge=1, le=500)

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.cursor is not None and self.offset is not None:
            raise ValueError("cursor and offset both say where the page begins: give one of them")
        return self


class PairsAsked(PairFilter, PagePlace):
    sort: Literal["-difficulty", "-similarity", "similarity"] = "-difficulty"


class SamplesAsked(SampleFilter, PagePlace):
    sort: Literal["-difficulty", "difficulty", "index"] = "-difficulty"


class BulkDecision(Request):
    """One verdict on all samples that a filter means."""

    verdict: Literal["keep", "drop"]
    samples: SampleFilter | None = None
    pairs: PairFilter | None = None
    of_pairs: Literal["more_difficult", "both"] = Field(
        "more_difficult", description="Of each pair, the more difficult sample, or both."
    )
    note: Text = Field("", max_length=2000)
    dry_run: bool = Field(False, description="Counts, and changes nothing.")

    @model_validator(mode="after")
    def _one_filter(self) -> "BulkDecision":
        if (self.samples is None) == (self.pairs is None):
            raise ValueError("samples and pairs both say which samples: give one of them")
        return self


class BulkDone(BaseModel):
    """matched: samples that the filter means. changed: those of them on which another verdict, or none, stood."""

    matched: int
    changed: int
    batch: str | None = Field(description="What POST /decisions/batches/{batch}/undo takes; null of a dry run.")


class Undone(BaseModel):
    undone: int


class DecisionView(BaseModel):
    id: int
    sample: int
    verdict: str
    note: str
    by: str = Field(description="The name of the key that it came with; empty where none is needed.")
    batch: str | None
    undone: bool
    created_at: datetime


class Standing(BaseModel):
    id: int
    verdict: str


class SampleView(BaseModel):
    """A sample as a curation sees it."""

    index: int
    sample_id: str
    label: str | None
    width: int
    height: int
    cluster: int
    difficulty: float
    decision: Standing | None


class PairView(BaseModel):
    similarity: float
    in_band: bool
    difficulty: float
    a: SampleView
    b: SampleView


class Offsets(BaseModel):
    total: int
    offset: int
    next: str | None
    previous: str | None


class PairPage(Offsets):
    items: list[PairView]


class SamplePage(Offsets):
    items: list[SampleView]


class PairRank(BaseModel):
    """row: of the list sorted by -similarity, its first of this similarity or less. below: of the `total` pairs of all
    samples, those surely less similar."""

    row: int
    listed: int
    below: int
    total: int


class Confusion(BaseModel):
    clusters: int
    arranged: list[int]
    pairs: int
    cells: list[tuple[int, int, int]]
    left_out: int = Field(description="Pairs of clusters that are not among the cells.")


class Cluster(BaseModel):
    cluster: int
    samples: int
    difficulty: float
    medoid: int | None
    pairs_inside: int
    pairs_outside: int


class Clusters(BaseModel):
    items: list[Cluster]


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: str | None
