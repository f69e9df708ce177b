"""The manifest: the contract between curation and training, a folder of two Parquet tables and one JSON file.

The same inputs give the same bytes, so a manifest is addressed by its content and can be compared with `cmp`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import InputError
from tamis.version import __version__

FORMAT_VERSION = 1
SAMPLES, PAIRS, DESCRIPTION = "samples.parquet", "pairs.parquet", "manifest.json"

REASONS = ("kept", "difficult", "duplicate", "decision", "undecodable")

SAMPLES_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("cluster", pa.int32(), nullable=False),
        pa.field("difficulty", pa.float32(), nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
PAIRS_SCHEMA = pa.schema(
    [
        pa.field("a", pa.string(), nullable=False),
        pa.field("b", pa.string(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
        pa.field("in_band", pa.bool_(), nullable=False),
        pa.field("margin", pa.float32(), nullable=False),
        pa.field("temperature", pa.float32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Manifest:
    """What to train on, and how each difficult pair is to be treated.

    samples: one row a sample, `SAMPLES_SCHEMA`, in the order of the data set.
    pairs: one row a pair of kept samples, `PAIRS_SCHEMA`: the difficult ones in their order, then what else is in the
        band. `margin` is added to the pair's similarity in the loss, `temperature` multiplies the base temperature;
        0 and 1, which change nothing, outside the band.
    description: provenance and parameters, JSON values only; `manifest.json` is this plus the tables' hashes.
    """

    samples: pa.Table
    pairs: pa.Table
    description: dict[str, Any]

    def write(self, directory: str | Path) -> Path:
        """Writes the three files into `directory` (made if absent), the JSON last; returns the directory."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            partial = folder / f".{name}.partial"
            partial.write_bytes(content)
            partial.replace(folder / name)
        return folder

    def files(self) -> dict[str, bytes]:
        """The bytes of each file by name. Equal manifests give equal bytes."""
        provenance = {"format_version": FORMAT_VERSION, "tamis_version": __version__, **self.description}
        tables = {
            SAMPLES: table_bytes(self.samples, SAMPLES_SCHEMA, provenance),
            PAIRS: table_bytes(self.pairs, PAIRS_SCHEMA, provenance),
        }
        hashes = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in tables.items()}
        return {**tables, DESCRIPTION: _json({**provenance, "tables": hashes}, indent=2)}


def read_manifest(directory: str | Path) -> Manifest:
    """Reads and checks a manifest folder. Raises InputError when a file is missing, altered or of another format."""
    folder = Path(directory)
    missing = [name for name in (DESCRIPTION, SAMPLES, PAIRS) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} is not a manifest folder: {', '.join(missing)} missing.",
            "Give the folder that `tamis curate` or `tamis manifest` wrote.",
        )
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        version = description.pop("format_version")
        hashes = {name: entry["sha256"] for name, entry in description.pop("tables").items()}
        description.pop("tamis_version", None)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{folder / DESCRIPTION} is not a manifest description ({error}).") from error
    if version != FORMAT_VERSION:
        raise InputError(f"{folder} has manifest format {version}; this version reads {FORMAT_VERSION}.")
    for name in (SAMPLES, PAIRS):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != hashes.get(name):
            raise InputError(
                f"{folder / name} does not match the hash in {DESCRIPTION}.", "Download or write the manifest again."
            )
    samples, pairs = pq.read_table(folder / SAMPLES), pq.read_table(folder / PAIRS)
    return Manifest(
        samples=samples.cast(SAMPLES_SCHEMA).replace_schema_metadata(),
        pairs=pairs.cast(PAIRS_SCHEMA).replace_schema_metadata(),
        description=description,
    )


def table_bytes(table: pa.Table, schema: pa.Schema, provenance: dict[str, Any]) -> bytes:
    """`table` cast to `schema` as Parquet bytes, with `provenance` under the key `tamis` of the file's metadata."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.cast(schema).combine_chunks().replace_schema_metadata({"tamis": _json(provenance)}),
        sink,
        compression="zstd",
    )
    return bytes(sink.getvalue())


def _json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, sort_keys=True, indent=indent, allow_nan=False, ensure_ascii=False).encode()
