"""From scores and pairs to a manifest: what is dropped, what is treated, and the reason written beside each sample."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.curation.asked import REMOVING
from tamis.curation.difficulty import most_difficult
from tamis.curation.duplicates import NEAR, duplicate_counts, duplicates_to_drop, equal_files, repeating
from tamis.errors import InputError
from tamis.manifest import PAIRS_SCHEMA, SAMPLES_SCHEMA, Manifest

SampleTable: TypeAlias = pa.Table

# One margin, and one factor on the temperature, for all pairs of the band, by what was measured with two seeds an arm:
# half the temperature there gains 0.4 and 1.1 points of a linear probe and 0.5 and 2.7 of 20 nearest neighbours, on ten
# kinds of clothes and on 62 kinds of glyphs, over the best of several temperatures for all pairs; a factor of 0.7 gains
# less. A margin of 0.2 changes little: 0.8 points of the neighbours on glyphs and none of the probe.
MARGIN, TEMPERATURE = 0.2, 0.5
# Bytes of strings in one chunk, whose places there are 32-bit integers.
CHUNK = 2**30


@dataclass(frozen=True, eq=False)
class Band:
    """Which pairs the loss treats, and how: those whose product of `features` is in sim_low <= s < sim_high.

    features: (N, d) float16, see `band_features`. margin: added to the similarity. temperature: factor.
    """

    features: npt.NDArray[np.float16]
    sim_low: float
    sim_high: float
    margin: float
    temperature: float


def treatment_of(strategy: str, classes: int) -> tuple[float, float] | None:
    """Margin and temperature factor of the pairs in the band; None where the loss treats none.

    `auto` needs no labels for its choice: a factor on the temperature, for it is what pays; and of one class nothing,
    for then no pair is between two classes.
    """
    if classes == 1:
        return None
    treatments = {
        "margin": (MARGIN, 1.0),
        "temperature": (0.0, TEMPERATURE),
        "combined": (MARGIN, TEMPERATURE),
        "auto": (0.0, TEMPERATURE),
    }
    return treatments.get(strategy)


def make_manifest(
    *,
    cluster: npt.NDArray[np.int32],
    difficulty: npt.NDArray[np.float32],
    pairs: pa.Table,
    band: Band | None,
    strategy: str,
    fraction: float,
    samples: SampleTable | None,
    decisions: Mapping[int, bool],
    duplicates: str,
    near: npt.NDArray[np.int64] | None,
    description: Mapping[str, Any],
) -> Manifest:
    """Applies a strategy; see `Curation.select`.

    pairs: a, b, similarity, in_band. band: None where no pair is treated.
    """
    count = len(cluster)
    table = _numbered(count) if samples is None else samples
    if table.num_rows != count:
        raise InputError(f"The table has {table.num_rows} rows for {count} samples.", "Give one row a sample.")
    beyond = [index for index in decisions if not 0 <= index < count]
    if beyond:
        raise InputError(f"There is no sample {beyond[0]}.", f"There are {count}, counted from 0.")
    removes = strategy in REMOVING
    equal = equal_files(table["sha256"])
    repeats = duplicates_to_drop(duplicates, equal, near)
    # Of what is left without duplicates: else a share of all might be all that is left.
    dropped = most_difficult(difficulty, fraction, ~repeats) if removes else np.zeros(count, bool)
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
                "duplicate_of": _repeated(table["sample_id"], equal, near),
            }
        ).cast(SAMPLES_SCHEMA),
        pairs=_treated(table["sample_id"], pairs.filter(pa.array(chosen)), band),
        description={
            **description,
            **({} if band is None else {"band": _described(band)}),
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
        features=None if band is None else band.features,
    )


def _treated(names: pa.ChunkedArray, pairs: pa.Table, band: Band | None) -> pa.Table:
    in_band = pairs["in_band"].to_numpy()
    margin, temperature = (0.0, 1.0) if band is None else (band.margin, band.temperature)
    return pa.table(
        {
            "a": _named(names, pairs["a"]),
            "b": _named(names, pairs["b"]),
            "similarity": pairs["similarity"],
            "in_band": in_band,
            "margin": np.where(in_band, margin, 0.0).astype(np.float32),
            "temperature": np.where(in_band, temperature, 1.0).astype(np.float32),
        }
    ).cast(PAIRS_SCHEMA)


def _repeated(
    names: pa.ChunkedArray, equal: npt.NDArray[np.int64], near: npt.NDArray[np.int64] | None
) -> pa.ChunkedArray:
    """The name of the earlier sample that each repeats: of an equal file, or else of one nearly the same."""
    first = equal if near is None else np.where(repeating(equal), equal, near)
    return names.take(pa.array(first, mask=~repeating(first)))


def _named(names: pa.ChunkedArray, numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    """The names of the numbered samples, in chunks of strings that Arrow can hold: names repeat, and come to more."""
    longest = pc.max(pc.binary_length(names)).as_py()
    step = max(1, CHUNK // max(1, longest))
    parts = (names.take(numbers.slice(start, step)) for start in range(0, len(numbers), step))
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.string())


def _described(band: Band) -> dict[str, float]:
    return {name: getattr(band, name) for name in ("sim_low", "sim_high", "margin", "temperature")}


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
