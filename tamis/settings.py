"""The one settings class: every field is an environment variable with the prefix TAMIS_."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tamis.device import check_device, resolve_device
from tamis.errors import InputError, SettingsError

GIB = 2**30
# Where containers are given files of secrets: `tamis_database_password` there is as TAMIS_DATABASE_PASSWORD.
SECRETS = Path("/run/secrets")


class Settings(BaseSettings):
    """How the programs find each other and how much they may use."""

    model_config = SettingsConfigDict(
        env_prefix="TAMIS_", frozen=True, extra="forbid", secrets_dir=SECRETS if SECRETS.is_dir() else None
    )

    data: Path = Field(Path("tamis-data"), description="Folder of the embedded database, objects, scratch and cache.")
    database_url: str = Field(
        "", description="sqlite:///FILE or postgresql+psycopg://...; a file in TAMIS_DATA if empty."
    )
    database_password: str | None = Field(
        None, repr=False, description="Password of the database, where its address names a user and none."
    )
    object_store: str = Field("", description="A folder or s3://BUCKET/PREFIX; a folder in TAMIS_DATA if empty.")
    s3_endpoint: str | None = Field(None, description="Address of an S3-compatible server; keys in the AWS variables.")
    s3_secret: str | None = Field(
        None, repr=False, description="Secret key of the S3 store, where AWS_SECRET_ACCESS_KEY is not set."
    )
    cache: Path | None = Field(
        None, description="Folder of what `tamis curate` keeps between its runs; `tamis` in the user's cache if empty."
    )
    allowed_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Folders the server may read in place, separated as in PATH or as a JSON list."
    )
    allow_torchscript: bool = Field(
        False, description="Whether a checkpoint may be TorchScript, a program that runs with the process's rights."
    )
    memory_budget: int = Field(GIB, ge=2**26, description="Bytes a computation may take for its blocks.")
    device: str = Field("auto", description="auto, cpu or cuda.")
    max_upload_bytes: int = Field(50 * GIB, ge=1, description="The largest upload taken.")
    quota_bytes: int | None = Field(
        None, ge=0, description="What data sets and unfinished uploads may take together; no limit if empty."
    )
    upload_seconds: float = Field(
        7 * 86_400, gt=0, description="An unfinished upload that nothing was added to for so long is dropped."
    )
    requests_per_minute: int = Field(
        12_000, ge=1, description="What a key may send, where keys are asked for; then 429 tells when to go on."
    )
    log_format: Literal["text", "json"] = Field("text", description="Of the log: text, or json, an object a line.")
    log_requests: bool = Field(False, description="Whether the log has a line for each request.")
    lease_seconds: float = Field(15.0, gt=0, description="A worker silent for so long is taken for dead.")
    cpu_jobs: int = Field(
        2,
        ge=1,
        le=64,
        description="Jobs of queue cpu that a worker runs at once; curations wait there for their parts.",
    )
    gpu_jobs: int = Field(1, ge=1, le=64, description="The same of queue gpu: encoders, shards to embed.")
    train_jobs: int = Field(1, ge=1, le=64, description="The same of queue train: trainings and experiments.")
    api_key: str | None = Field(None, description="The key that the command line sends to a server.")
    worker_id: str | None = Field(None, description="A worker's name that stays over restarts.")

    @field_validator("allowed_roots", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [part for part in value.split(os.pathsep) if part]

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("use sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        return check_device(value)

    def require_device(self) -> None:
        """Raises SettingsError for a device that is not there; loads PyTorch where it takes that to know."""
        if self.device in ("auto", "cpu"):
            return
        try:
            resolve_device(self.device)
        except InputError as error:
            raise SettingsError(f"TAMIS_DEVICE: {error.message}", error.hint) from error

    @property
    def database(self) -> str:
        """The database's address, the default filled in."""
        return self.database_url or f"sqlite:///{self.data.resolve() / 'tamis.sqlite'}"

    @property
    def objects(self) -> str:
        """The object store's folder or address, the default filled in."""
        return self.object_store or str(self.data.resolve() / "objects")


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment. Raises SettingsError naming the variable that is wrong."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"TAMIS_{str(first['loc'][0]).upper()}" if first["loc"] else "The settings"
        raise SettingsError(
            f"{name}: {first['msg'].removeprefix('Value error, ').rstrip('.')}.", "docs/settings.md lists the settings."
        ) from error
