"""The manifest: the contract between curation and training, a folder of two Parquet tables and one JSON file, and of
features where pairs are treated in the loss.

The same inputs give the same bytes, so a manifest is addressed by its content and can be compared with `cmp`.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis.errors import InputError
from tamis.shown import facts
from tamis.version import __version__

FORMAT_VERSION = 2
# The first had no features.
READ_VERSIONS = (1, 2)
SAMPLES, PAIRS, FEATURES, DESCRIPTION = "samples.parquet", "pairs.parquet", "features.npy", "manifest.json"

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
        pa.field("duplicate_of", pa.string()),
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

    samples: one row a sample, `SAMPLES_SCHEMA`, in the order of the data set. `duplicate_of`: the earlier sample which
        it repeats, by its file or by its features, dropped for that or not.
    pairs: one row a pair of kept samples, `PAIRS_SCHEMA`: the difficult ones in their order, then what else is in the
        band. `margin` is added to the pair's similarity in the loss, `temperature` multiplies the base temperature;
        0 and 1, which change nothing, outside the band.
    description: provenance and parameters, JSON values only; `manifest.json` is this plus the tables' hashes. `band`,
        where pairs are treated: `sim_low` and `sim_high`, between which the product of two rows of `features` lies if
        the two samples are a difficult pair, and the `margin` and `temperature` of all such pairs.
    features: (N, d) float16 of length one, a row a sample, where pairs are treated.
    """

    samples: pa.Table
    pairs: pa.Table
    description: dict[str, Any]
    features: npt.NDArray[np.float16] | None = None

    def write(self, directory: str | Path) -> Path:
        """Writes the files into `directory` (made if absent), the JSON last; returns the directory.

        Features of an earlier manifest there are removed.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            partial = folder / f".{name}.partial"
            partial.write_bytes(content)
            partial.replace(folder / name)
        if self.features is None:
            (folder / FEATURES).unlink(missing_ok=True)
        return folder

    def files(self) -> dict[str, bytes]:
        """The bytes of each file by name. Equal manifests give equal bytes."""
        provenance = {"format_version": FORMAT_VERSION, "tamis_version": __version__, **self.description}
        tables = {
            SAMPLES: table_bytes(_with_all_columns(self.samples), SAMPLES_SCHEMA, provenance),
            PAIRS: table_bytes(self.pairs, PAIRS_SCHEMA, provenance),
            **({} if self.features is None else {FEATURES: npy_bytes(self.features)}),
        }
        hashes = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in tables.items()}
        return {**tables, DESCRIPTION: _json({**provenance, "tables": hashes}, indent=2)}

    def _repr_html_(self) -> str:
        counts, told = self.description.get("counts", {}), self.description
        band = told.get("band")
        return facts(
            f"Manifest of {counts.get('kept', 0):,} of {self.samples.num_rows:,} samples",
            {
                "strategy": told.get("strategy"),
                "dropped as difficult": f"{counts['dropped_difficult']:,}" if "dropped_difficult" in counts else None,
                "dropped as duplicates": f"{counts['dropped_duplicate']:,}" if "dropped_duplicate" in counts else None,
                "difficult pairs listed": f"{self.pairs.num_rows:,}",
                "pairs in the band": band and f"margin {band['margin']:g}, temperature times {band['temperature']:g}",
                "classes": told.get("classes"),
                "encoder": told.get("encoder"),
            },
        )


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
    if version not in READ_VERSIONS:
        raise InputError(f"{folder} has manifest format {version}; this version reads up to {FORMAT_VERSION}.")
    for name in (SAMPLES, PAIRS, FEATURES)[: 3 if FEATURES in hashes else 2]:
        file = folder / name
        if not file.is_file():
            raise InputError(f"{file} is missing.", "Download or write the manifest again.")
        if hashlib.sha256(file.read_bytes()).hexdigest() != hashes.get(name):
            raise InputError(
                f"{file} does not match the hash in {DESCRIPTION}.", "Download or write the manifest again."
            )
    samples, pairs = pq.read_table(folder / SAMPLES), pq.read_table(folder / PAIRS)
    return Manifest(
        samples=_with_all_columns(samples).cast(SAMPLES_SCHEMA).replace_schema_metadata(),
        pairs=pairs.cast(PAIRS_SCHEMA).replace_schema_metadata(),
        description=description,
        features=_features(folder / FEATURES, samples.num_rows) if FEATURES in hashes else None,
    )


def usable(manifest: Manifest) -> pa.Table:
    """The manifest's samples that can be decoded, whether kept or not: what is trained and judged on."""
    return manifest.samples.filter(pc.not_equal(manifest.samples["reason"], "undecodable"))


def _with_all_columns(samples: pa.Table) -> pa.Table:
    """The first releases knew no `duplicate_of`, and who writes a manifest by hand need not."""
    if "duplicate_of" in samples.column_names:
        return samples
    return samples.append_column("duplicate_of", pa.nulls(len(samples), pa.string()))


def table_bytes(table: pa.Table, schema: pa.Schema, provenance: dict[str, Any]) -> bytes:
    """`table` cast to `schema` as Parquet bytes, with `provenance` under the key `tamis` of the file's metadata."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.cast(schema).combine_chunks().replace_schema_metadata({"tamis": _json(provenance)}),
        sink,
        compression="zstd",
    )
    return bytes(sink.getvalue())


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """The array as the content of an .npy file."""
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def array_of(content: bytes) -> npt.NDArray[Any]:
    """The array whose `npy_bytes` these are."""
    array: npt.NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _features(file: Path, samples: int) -> npt.NDArray[np.float16]:
    try:
        features: npt.NDArray[np.float16] = np.load(file, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{file} holds no array ({error}).", "Write the manifest again.") from error
    if features.dtype != np.float16 or features.ndim != 2 or len(features) != samples:
        raise InputError(
            f"{file} holds {features.dtype} of shape {features.shape} for {samples} samples.",
            "It is to hold float16, a row a sample: write the manifest again.",
        )
    if not np.isfinite(features).all():
        raise InputError(f"{file} holds values that are not finite.", "Write the manifest again.")
    return features


def _json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, sort_keys=True, indent=indent, allow_nan=False, ensure_ascii=False).encode()
