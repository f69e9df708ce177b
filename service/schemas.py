"""What the API answers, as OpenAPI describes it."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

State = Literal["empty", "queued", "running", "succeeded", "failed", "cancelled"]

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
    priority: Literal["low", "normal", "high"]
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
    manifest: str | None = Field(description="None of an experiment.")
    curation: str
    dataset: str
    dataset_name: str
    parameters: dict[str, Any]
    result: dict[str, Any] | None


class TrainingRunView(BaseModel):
    """A run of an experiment. Accuracies are shares of the test images."""

    arm: str
    seed: int
    linear: float
    nearest: float
    samples: int
    steps: int
    loss: float
    seconds: float


class TrainingRuns(BaseModel):
    items: list[TrainingRunView]


class Curve(BaseModel):
    steps: list[int]
    values: list[float]


class Curves(BaseModel):
    curves: dict[str, Curve]


class JobView(JobFields):
    kind: Literal["ingest", "curation", "manifest", "training"]
    dataset: str
    dataset_name: str
    url: str | None


class JobLine(BaseModel):
    """What became of a job."""

    state: State
    stage: str
    message: str
    created_at: datetime


class EncoderView(BaseModel):
    id: str
    encoder: str = Field(description="What POST /curations takes.")
    fingerprint: str
    name: str
    architecture: str
    image_size: int
    dimension: int
    created_at: datetime


class MadeKey(BaseModel):
    id: str
    key: str = Field(description="To be sent as `Authorization: Bearer KEY`. It is told this once.")


class KeyView(BaseModel):
    id: str
    name: str
    prefix: str
    scope: str
    stands: bool = Field(description="Neither revoked nor expired.")
    bytes: int = Field(description="Of the data sets and unfinished uploads that it has made.")
    quota_bytes: int | None
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


class AuditView(BaseModel):
    key: str = Field(description="The id of the key that it came with; empty where none is needed.")
    by: str = Field(description="What that is called.")
    method: str
    path: str
    status: int = Field(description="How it was answered.")
    created_at: datetime


class SettingView(BaseModel):
    value: str
    default: bool
    description: str


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
