"""From a result to a manifest: a strategy applied, with human decisions laid over it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tamis.curation.asked import STRATEGY
from tamis.manifest import Manifest
from worker.steps.curate import load_result
from worker.steps.ingest import Stored, read_index
from worker.steps.place import Place
from worker.steps.request import Request


@dataclass(frozen=True)
class Treatment:
    """What is done about the difficult; see `Curation.select`."""

    strategy: str = STRATEGY
    fraction: float | Literal["auto"] = "auto"
    duplicates: str = "keep"


def make_manifest(
    place: Place,
    result: str,
    dataset: Stored,
    request: Request,
    encoder: Mapping[str, Any],
    treatment: Treatment,
    decisions: Mapping[int, bool] | None = None,
) -> Manifest:
    """The manifest of the result under the key `result`. encoder: as `describe_encoder` says."""
    return load_result(place, result).select(
        treatment.strategy,
        treatment.fraction,
        duplicates=treatment.duplicates,
        samples=with_uris(read_index(place, dataset.index), dataset),
        provenance={"dataset": dataset.fingerprint, "encoder": dict(encoder), "request": request.as_json()},
        decisions=decisions,
    )


def store_manifest(place: Place, manifest: Manifest) -> tuple[str, dict[str, Any]]:
    """Stores the files; returns their key, and the figures that lists show."""
    files = manifest.files()
    counts = manifest.description["counts"]
    return place.put_files("manifests", files), {
        **{name: counts[name] for name in ("samples", "kept", "pairs", "equal_files", "near_duplicates")},
        "files": {name: len(content) for name, content in files.items()},
    }


def with_uris(index: pa.Table, dataset: Stored) -> pa.Table:
    """The index, where an image of an upload, which has no place of its own, is where it is among the objects:
    `tamis:shards/HASH.parquet#ROW`."""
    keys = np.array([shard.key for shard in dataset.shards], dtype=object)
    places = zip(index["uri"].to_pylist(), keys[index["shard"].to_numpy()], index["row"].to_numpy(), strict=True)
    uris = pa.array([uri or f"tamis:{key}#{row}" for uri, key, row in places], pa.string())
    at = index.column_names.index("uri")
    return index.set_column(at, index.schema.field(at), uris)
