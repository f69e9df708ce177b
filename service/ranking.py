"""Which samples of a curation a request means, and pages of them by difficulty."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from service.cursors import place_of_page
from service.filters import SampleFilter
from service.pairs import describe_samples
from service.results import Result


def matching_samples(result: Result, wanted: SampleFilter) -> npt.NDArray[np.bool_]:
    """(N,) whether the filter means a sample."""
    columns = result.columns
    kept = np.ones(result.samples, bool)
    if wanted.cluster is not None:
        kept &= columns.cluster == wanted.cluster
    if wanted.label is not None:
        kept &= np.asarray(pc.fill_null(pc.equal(result.index["label"], wanted.label), False))
    if wanted.difficulty_low is not None:
        kept &= columns.sample_difficulty >= np.float32(wanted.difficulty_low)
    if wanted.difficulty_high is not None:
        kept &= columns.sample_difficulty < np.float32(wanted.difficulty_high)
    if wanted.decision is not None:
        kept &= result.verdicts.mask(wanted.decision, result.samples) == (wanted.decision != "undecided")
    return kept


def ranked_page(result: Result, wanted: SampleFilter, sort: str, offset: int, limit: int) -> dict[str, Any]:
    """One page as {items, total, offset, next, previous}."""
    kept = matching_samples(result, wanted)
    order = np.arange(result.samples) if sort == "index" else np.asarray(result.columns.by_difficulty)
    ordered = order[kept[order]]
    if sort == "difficulty":
        ordered = ordered[::-1]
    return {
        "items": describe_samples(result, ordered[offset : offset + limit]),
        **place_of_page(offset, limit, len(ordered)),
    }
