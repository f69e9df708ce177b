"""What each training of an experiment came to: a row a run, kept as soon as it ended."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import ConflictError
from trainer.probe import Probe

FILE = "runs.parquet"
# Shares of the test images told right: by which probe, and at which share of the labels.
MEASURES = ("linear", "nearest", "linear_10", "nearest_10", "linear_1", "nearest_1")
SCHEMA = pa.schema(
    [
        pa.field("arm", pa.string(), nullable=False),
        pa.field("seed", pa.int32(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in (*MEASURES, "linear_balanced", "nearest_balanced")),
        pa.field("samples", pa.int64(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("loss", pa.float64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("trial", pa.string(), nullable=False),
        pa.field("encoder", pa.string(), nullable=False),
    ]
)


class Runs(Protocol):
    """Where the runs of one experiment are kept. settings: what all of them have in common, as JSON values."""

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def rows(self) -> list[dict[str, Any]]:
        """All there are, each with the columns of SCHEMA."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Keeps a run, wholly or not at all."""


@dataclass(frozen=True)
class FileRuns:
    """Runs in a folder's runs.parquet, which is complete after every one of them."""

    folder: Path
    settings: Mapping[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """All there are. Raises ConflictError where they are of other settings."""
        path = self.folder / FILE
        if not path.is_file():
            return []
        table = pq.read_table(path)
        if (table.schema.metadata or {}).get(b"tamis") != self._stated():
            raise ConflictError(f"{path} holds the runs of another experiment.", "Choose another folder with -o.")
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a run; whatever ends the process meanwhile, the table holds it whole or not at all."""
        table = pa.Table.from_pylist([*self.rows(), row], SCHEMA.with_metadata({"tamis": self._stated()}))
        partial = self.folder / f".{FILE}.partial"
        pq.write_table(table, partial)
        partial.replace(self.folder / FILE)

    def _stated(self) -> bytes:
        return json.dumps(self.settings, sort_keys=True).encode()


def measured(probe: Probe) -> dict[str, float]:
    """The columns of a run that its probe gives."""
    some, few = probe.fewer_labels["0.1"], probe.fewer_labels["0.01"]
    shares = {"": probe, "_10": some, "_1": few}
    return {
        **{f"linear{name}": found.accuracy for name, found in shares.items()},
        **{f"nearest{name}": found.nearest for name, found in shares.items()},
        "linear_balanced": probe.balanced,
        "nearest_balanced": probe.nearest_balanced,
    }
