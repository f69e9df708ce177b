"""Which samples repeat an earlier one: equal files, and images that the encoder cannot tell apart."""

import logging
from math import sqrt

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy.spatial import cKDTree

from tamis.curation.space import leading_directions
from tamis.errors import InputError
from tamis.scan.rows import Rows

log = logging.getLogger("tamis.curation.duplicates")

# Cosine similarity from which two samples are near duplicates. With features of SimCLR trained for two epochs on 12,000
# images of Fashion-MNIST, 97% of copies saved as JPEG (quality 75) reach it, and so do 69 images that only look alike.
NEAR = 0.999

# What is compared with what, all at once, and for how many that is worth it.
_BLOCK = 2048
_MOST = 2**18
_DIRECTIONS = 12
_SCOUT = 4096
# Samples whose neighbours are looked for at once.
_AT_ONCE = 2**16
# By how much float32 may be off.
_SLACK = 1e-4


def equal_files(sha256: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """(N,) int64: for each sample the first with the same file: itself where none is earlier, or where its hash is not
    known ("")."""
    codes = sha256.combine_chunks().dictionary_encode()
    # Codes are given in the order in which hashes come, so the first of each is where it is met.
    numbers = codes.indices.to_numpy()
    _, first = np.unique(numbers, return_index=True)
    own = np.arange(len(numbers))
    unknown = codes.dictionary.index("").as_py()
    return np.where(numbers == unknown, own, first[numbers])


def near_duplicates(rows: Rows, similarity: float = NEAR) -> npt.NDArray[np.int64] | None:
    """(N,) int64: for each sample the first whose cosine similarity to it is at least `similarity`, among those that
    are no duplicates themselves; itself where there is none.

    What is left out so has its like among what is kept, and a chain of small steps, as in a video, is not taken for one
    image. Compared are, exactly, the samples that have a neighbour in the embeddings' leading directions; None where
    these are too many. Memory: 160 bytes a sample.
    """
    first = np.arange(len(rows))
    candidates = _with_a_neighbour(rows, sqrt(2 - 2 * similarity) + _SLACK)
    if len(candidates) > _MOST:
        log.info("near duplicates are not looked for: %d samples are too close to others", len(candidates))
        return None
    kept = np.empty(0, np.int64)
    for start in range(0, len(candidates), _BLOCK):
        chosen = candidates[start : start + _BLOCK]
        unit = rows.unit(chosen)
        for place in range(0, len(kept), _BLOCK):
            earlier = kept[place : place + _BLOCK]
            alike = (unit @ rows.unit(earlier).T >= similarity).numpy()
            found = alike.any(axis=1) & (first[chosen] == chosen)
            first[chosen[found]] = earlier[alike[found].argmax(axis=1)]
        alike = np.tril((unit @ unit.T >= similarity).numpy(), -1)
        for row in np.flatnonzero(alike.any(axis=1) & (first[chosen] == chosen)):
            before = np.flatnonzero(alike[row] & (first[chosen] == chosen))
            if len(before):
                first[chosen[row]] = chosen[before[0]]
        kept = np.r_[kept, chosen[first[chosen] == chosen]]
    return first


def duplicate_counts(equal: npt.NDArray[np.int64], near: npt.NDArray[np.int64] | None) -> dict[str, int | None]:
    """How many samples repeat another one, by `equal_files` and by `near_duplicates`; None where it was not looked."""
    return {
        "equal_files": int(repeating(equal).sum()),
        "near_duplicates": None if near is None else int(repeating(near).sum()),
    }


def repeating(first: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(N,) bool: the samples that repeat another one, by `equal_files` or `near_duplicates`."""
    repeats: npt.NDArray[np.bool_] = first != np.arange(len(first))
    return repeats


def duplicates_to_drop(
    what: str, equal: npt.NDArray[np.int64], near: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.bool_]:
    """(N,) bool: the samples that repeat an earlier one, by `equal_files` alone or by `near_duplicates` as well.

    what: one of DUPLICATES in asked.py. Raises InputError for near duplicates that were not looked for.
    """
    copies = repeating(equal)
    if what == "keep":
        return np.zeros_like(copies)
    if what == "exact":
        return copies
    if near is None:
        raise InputError(
            "Near duplicates were not looked for: too many samples are close to others.",
            "Drop exact duplicates, or use an encoder that tells the images apart.",
        )
    return copies | repeating(near)


def _with_a_neighbour(rows: Rows, reach: float) -> npt.NDArray[np.int64]:
    """Samples that have another one within `reach` in the leading directions, ascending. Projected, two samples are
    never further apart than they are, so all that have one within reach in full are among these."""
    scout = rows.unit(np.linspace(0, len(rows) - 1, min(len(rows), _SCOUT)).astype(np.int64)).to(torch.float64)
    leading = leading_directions(scout - scout.mean(dim=0), _DIRECTIONS)[1].to(torch.float32)
    tree = cKDTree(torch.cat([rows.unit(part) @ leading for part in rows.blocks()]).numpy())
    found = []
    for start in range(0, len(rows), _AT_ONCE):
        distance, _ = tree.query(tree.data[start : start + _AT_ONCE], 2, distance_upper_bound=reach, workers=-1)
        found.append(start + np.flatnonzero(np.isfinite(distance[:, 1])))
    return np.concatenate(found)
