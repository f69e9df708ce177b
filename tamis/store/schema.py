"""The catalogue's tables. Portable over SQLite and PostgreSQL; `migrations/` brings a database to this state."""

import functools
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, object_session, relationship

STATES = ("empty", "queued", "running", "succeeded", "failed", "cancelled")
TERMINAL_STATES = ("succeeded", "failed", "cancelled")

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """`prefix_` and 26 characters in Crockford's base 32 that sort by time: 48 bits of milliseconds, 80 random."""
    number = int(time.time() * 1000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def made_at(row_id: str) -> datetime:
    """When `new_id` made an id; long ago for what it did not make."""
    try:
        digits = [_ALPHABET.index(letter) for letter in row_id.partition("_")[2]]
    except ValueError:
        digits = []
    milliseconds = functools.reduce(lambda number, digit: number << 5 | digit, digits, 0) >> 80
    return datetime.fromtimestamp(min(milliseconds / 1000, time.time()), UTC)


def now() -> datetime:
    return datetime.now(UTC)


class Timestamp(sa.TypeDecorator[datetime]):
    """UTC with its time zone, which SQLite would lose."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


class Base(DeclarativeBase):
    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy's own form
        datetime: Timestamp,
        dict[str, Any]: Json,
        int: sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
    }


class Job(Base):
    """What every row that stands for work has. `version` grows with each visible change: it numbers the events."""

    __abstract__ = True

    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(sa.Enum(*STATES, name="state", native_enum=False, create_constraint=True))
    stage: Mapped[str] = mapped_column(default="")
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    message: Mapped[str] = mapped_column(default="")
    version: Mapped[int] = mapped_column(default=1)
    error: Mapped[str | None]
    priority: Mapped[str] = mapped_column(default="normal", server_default="normal")
    # Of workers that held it, since it was queued.
    deaths: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    def requeue(self, message: str) -> None:
        """Ready for a worker, whatever became of an earlier try."""
        self.state, self.message, self.error = "queued", message, None
        self.stage, self.done, self.total, self.deaths = "", 0, 0, 0
        self.started_at = self.finished_at = None
        self.version = (self.version or 0) + 1
        self.note(message)

    def succeed(self, message: str) -> None:
        """Ended well; to be committed together with the result."""
        self.state, self.message, self.finished_at = "succeeded", message, now()
        self.version += 1
        self.note(message)

    def note(self, message: str) -> None:
        """A line of the job's log; none of a row that is not stored yet."""
        session = object_session(self)
        if session is not None:
            session.add(JobLine(job_id=self.id, state=self.state, stage=self.stage, message=message))


class JobLine(Base):
    """What became of a job, and when: append-only. It goes with the job's row."""

    __tablename__ = "job_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    stage: Mapped[str]
    message: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Dataset(Job):
    __tablename__ = "datasets"

    name: Mapped[str]
    # Of the API key that made it; none where none is needed.
    key_id: Mapped[str | None]
    upload_key: Mapped[str | None]
    upload_name: Mapped[str | None]
    source_uri: Mapped[str | None]
    samples: Mapped[int] = mapped_column(default=0)
    quarantined: Mapped[int] = mapped_column(default=0)
    bytes: Mapped[int] = mapped_column(default=0)
    fingerprint: Mapped[str | None]
    index_key: Mapped[str | None]
    quarantine_key: Mapped[str | None]

    curations: Mapped[list["Curation"]] = relationship(back_populates="dataset", passive_deletes="all")


class Shard(Base):
    __tablename__ = "shards"

    dataset_id: Mapped[str] = mapped_column(sa.ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[str]
    thumbnails_key: Mapped[str]
    first: Mapped[int]
    count: Mapped[int]


class Upload(Base):
    """An archive on its way here in parts. `received` counts the bytes that are kept, and never goes back.

    A finished one stays until it expires, for a client to which the last answer was lost.
    """

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(sa.ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    size: Mapped[int]
    received: Mapped[int] = mapped_column(default=0)
    # Of the whole, in hexadecimal, where the client told it.
    sha256: Mapped[str | None]
    # As the client sent it, for the client to know the upload again.
    sent_metadata: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)

    dataset: Mapped[Dataset] = relationship()


class UploadPart(Base):
    """One object of an unfinished upload's bytes, in a store where objects cannot grow."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[str]


class Embedding(Base):
    __tablename__ = "embeddings"
    __table_args__ = (sa.UniqueConstraint("dataset_id", "encoder_fingerprint"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(sa.ForeignKey("datasets.id", ondelete="CASCADE"))
    encoder: Mapped[str]
    encoder_fingerprint: Mapped[str]
    encoder_key: Mapped[str | None]
    dimension: Mapped[int]
    count: Mapped[int]
    key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class StoredEncoder(Base):
    """An encoder that was sent. Requests, and its place among the objects, name it by its fingerprint."""

    __tablename__ = "encoders"

    id: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(unique=True)
    # Of the file.
    name: Mapped[str]
    architecture: Mapped[str]
    image_size: Mapped[int]
    dimension: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Curation(Job):
    __tablename__ = "curations"

    name: Mapped[str | None]
    dataset_id: Mapped[str] = mapped_column(sa.ForeignKey("datasets.id"), index=True)
    embedding_id: Mapped[str | None] = mapped_column(sa.ForeignKey("embeddings.id"))
    parameters: Mapped[dict[str, Any]]
    result_key: Mapped[str | None]
    summary: Mapped[dict[str, Any] | None]
    # Of the samples' places on a map, which a job of its own finds afterwards.
    layout_key: Mapped[str | None]

    dataset: Mapped[Dataset] = relationship(back_populates="curations")


class ScanPart(Base):
    """How far a part of a curation's scan is, in tiles, where it is split; the curation's row shows the sum."""

    __tablename__ = "scan_parts"

    curation_id: Mapped[str] = mapped_column(sa.ForeignKey("curations.id", ondelete="CASCADE"), primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    done: Mapped[int]
    total: Mapped[int]


class Manifest(Job):
    __tablename__ = "manifests"

    name: Mapped[str | None]
    curation_id: Mapped[str] = mapped_column(sa.ForeignKey("curations.id"), index=True)
    parameters: Mapped[dict[str, Any]]
    key: Mapped[str | None]
    summary: Mapped[dict[str, Any] | None]

    curation: Mapped[Curation] = relationship()


class Decision(Base):
    """Append-only. A row with `undoes` takes an earlier one back."""

    __tablename__ = "decisions"
    __table_args__ = (sa.UniqueConstraint("curation_id", "sequence"), sa.Index(None, "curation_id", "sample"))

    id: Mapped[int] = mapped_column(primary_key=True)
    curation_id: Mapped[str] = mapped_column(sa.ForeignKey("curations.id"))
    sequence: Mapped[int]
    sample: Mapped[int]
    verdict: Mapped[str]
    note: Mapped[str]
    undoes: Mapped[int | None] = mapped_column(sa.ForeignKey("decisions.id"), unique=True)
    # The name of the key that it came with; empty where none is needed.
    by: Mapped[str] = mapped_column(default="", server_default="")
    # The same for all that one request decided.
    batch: Mapped[str | None] = mapped_column(index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Training(Job):
    """Of one manifest, or, where it has none, an experiment on a curation: many runs."""

    __tablename__ = "trainings"

    manifest_id: Mapped[str | None] = mapped_column(sa.ForeignKey("manifests.id"), index=True)
    curation_id: Mapped[str | None] = mapped_column(sa.ForeignKey("curations.id"), index=True)
    parameters: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]

    manifest: Mapped[Manifest | None] = relationship()
    curation: Mapped[Curation | None] = relationship()


class TrainingRun(Base):
    """A run of an experiment that has ended. outcome: what it came to, as `trainer/results.py` names it."""

    __tablename__ = "training_runs"

    training_id: Mapped[str] = mapped_column(sa.ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True)
    arm: Mapped[str] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    outcome: Mapped[dict[str, Any]]


class Metric(Base):
    """A value at a step of a training; of a run of an experiment under the name ARM/SEED/METRIC."""

    __tablename__ = "metrics"

    training_id: Mapped[str] = mapped_column(sa.ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float]


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    prefix: Mapped[str]
    scope: Mapped[str] = mapped_column(default="admin", server_default="admin")
    # What the data sets and unfinished uploads that it made may take together.
    quota_bytes: Mapped[int | None]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    @property
    def stands(self) -> bool:
        """Whether it was neither revoked nor has expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now())


class AuditLine(Base):
    """A request that changed something, or was to, and how it was answered: append-only."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    # Of the key that it came with, which may be gone; empty where none is needed.
    key_id: Mapped[str]
    by: Mapped[str]
    method: Mapped[str]
    path: Mapped[str]
    status: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)


# By what the ids of their rows begin with.
JOBS: dict[str, type[Job]] = {"ds": Dataset, "cu": Curation, "mf": Manifest, "tr": Training}


def model_of(row_id: str) -> type[Job] | None:
    """The table of a job, which its id tells; None where it is no job's."""
    return JOBS.get(row_id.partition("_")[0])


class WorkerLease(Base):
    """A worker is alive while its lease is fresh. `holder` changes when another worker claims what it left; it is empty
    where that was given up."""

    __tablename__ = "worker_leases"

    executor_id: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    queues: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    # For so long others wait for it to be renewed.
    seconds: Mapped[float] = mapped_column(default=15.0, server_default="15")
    # Bytes of its GPU's memory, of one that has used it.
    gpu_used: Mapped[int | None]
    gpu_total: Mapped[int | None]


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[str]
    resource_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
