"""From scores and pairs to a manifest: what is dropped, what is treated, and the reason written beside each sample."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.curation.difficulty import most_difficult
from tamis.curation.duplicates import NEAR, duplicate_counts, duplicates_to_drop, equal_files
from tamis.errors import InputError
from tamis.manifest import PAIRS_SCHEMA, SAMPLES_SCHEMA, Manifest

SampleTable: TypeAlias = pa.Table

# Measured at small scale, margins above and temperatures below these cost accuracy.
MAX_MARGIN = 0.1
MIN_TEMPERATURE = 0.7


def make_manifest(
    *,
    cluster: npt.NDArray[np.int32],
    difficulty: npt.NDArray[np.float32],
    pairs: pa.Table,
    beta: float,
    strategy: str,
    fraction: float,
    samples: SampleTable | None,
    decisions: Mapping[int, bool],
    duplicates: str,
    near: npt.NDArray[np.int64] | None,
    description: Mapping[str, Any],
) -> Manifest:
    """Applies a strategy; see `Curation.select`.

    pairs: a, b, similarity, in_band. A pair in the band of similarity s gets the margin s - beta (at most 0.1) and the
    temperature factor beta / s (at least 0.7): what turns its similarity into the beta of an ordinary cross-class pair,
    held to what did not hurt.
    """
    count = len(cluster)
    table = _numbered(count) if samples is None else samples
    if table.num_rows != count:
        raise InputError(f"The table has {table.num_rows} rows for {count} samples.", "Give one row a sample.")
    beyond = [index for index in decisions if not 0 <= index < count]
    if beyond:
        raise InputError(f"There is no sample {beyond[0]}.", f"There are {count}, counted from 0.")
    removes, treats = strategy in ("remove", "combined"), strategy != "remove"
    dropped = most_difficult(difficulty, fraction) if removes else np.zeros(count, bool)
    equal = equal_files(table["sha256"])
    repeats = duplicates_to_drop(duplicates, equal, near)
    keep = ~(dropped | repeats)
    reason = np.select([repeats, dropped], ["duplicate", "difficult"], "kept").astype(object)
    for index, kept in decisions.items():
        if keep[index] != kept:
            keep[index], reason[index] = kept, "decision"
    chosen = keep[pairs["a"].to_numpy()] & keep[pairs["b"].to_numpy()]
    return Manifest(
        samples=pa.table(
            {
                **{name: table[name] for name in ("sample_id", "sha256", "uri", "width", "height", "label")},
                "cluster": cluster,
                "difficulty": difficulty,
                "keep": keep,
                "weight": keep.astype(np.float32),
                "reason": pa.array(reason, pa.string()),
            }
        ).cast(SAMPLES_SCHEMA),
        pairs=_treated(table["sample_id"], pairs.filter(pa.array(chosen)), beta, strategy if treats else "none"),
        description={
            **description,
            "strategy": strategy,
            "fraction": fraction,
            "duplicates": {"dropped": duplicates, "near_similarity": NEAR},
            "counts": {
                "samples": count,
                "kept": int(keep.sum()),
                "dropped_difficult": int((reason == "difficult").sum()),
                "dropped_duplicate": int((reason == "duplicate").sum()),
                **duplicate_counts(equal, near),
                "decisions": int((reason == "decision").sum()),
                "pairs": int(chosen.sum()),
            },
        },
    )


def _treated(names: pa.ChunkedArray, pairs: pa.Table, beta: float, strategy: str) -> pa.Table:
    similarity, in_band = pairs["similarity"].to_numpy(), pairs["in_band"].to_numpy()
    base = 0.0 if np.isnan(beta) else beta
    margin = np.zeros_like(similarity)
    temperature = np.ones_like(similarity)
    if strategy in ("margin", "combined"):
        margin = np.clip(similarity - base, 0.0, MAX_MARGIN)
    if strategy in ("temperature", "combined"):
        ratio = np.divide(base, similarity, out=np.ones_like(similarity), where=similarity > base)
        temperature = np.clip(ratio, MIN_TEMPERATURE, 1.0)
    return pa.table(
        {
            "a": names.take(pairs["a"]),
            "b": names.take(pairs["b"]),
            "similarity": similarity,
            "in_band": in_band,
            "margin": np.where(in_band, margin, 0.0).astype(np.float32),
            "temperature": np.where(in_band, temperature, 1.0).astype(np.float32),
        }
    ).cast(PAIRS_SCHEMA)


def _numbered(count: int) -> pa.Table:
    """What stands for samples of which only embeddings are known: the row number, and no image."""
    return pa.table(
        {
            "sample_id": [str(index) for index in range(count)],
            "sha256": [""] * count,
            "uri": [""] * count,
            "width": pa.array(np.zeros(count, np.int32)),
            "height": pa.array(np.zeros(count, np.int32)),
            "label": pa.nulls(count, pa.string()),
        }
    )
