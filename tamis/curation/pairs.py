"""Pairs worth a person's eyes: alike, and yet of two classes, by all that can be known without labels.

Of each sample's nearest partners, whatever band they are in, those that have few neighbours in common and differ in the
components that raw similarity neglects. docs/detection.md compares the order with others.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.curation.blends import WHITENING
from tamis.curation.space import Whitened, sampled
from tamis.scan.memory import Arrays, memory_budget
from tamis.scan.nearest import alike
from tamis.scan.rows import Rows

Indices = npt.NDArray[np.int64]

# A sample's neighbourhood is half as many samples of a random reference as a class has there: so few, and no more.
REFERENCE, LARGEST, SMALLEST = 4096, 128, 8
PAIRS_AT_ONCE = 2**16
# The power of the similarity: with less the first pairs are of two classes more often, and look less alike.
LIKENESS = 6


@dataclass(frozen=True)
class DifficultPairs:
    """a, b: (P,) int64, a < b, each pair once. similarity: (P,) float32. difficulty: (P,) float32 within 0 to 1,
    descending. recall: of each sample's nearest partners, the share that was found."""

    a: Indices
    b: Indices
    similarity: npt.NDArray[np.float32]
    difficulty: npt.NDArray[np.float32]
    recall: float


def difficult_pairs(rows: Rows, k: int, classes: int, seed: int = 0) -> DifficultPairs:
    """Each sample's k most similar partners, the most difficult pair first.

    difficulty: the similarity's sixth power, times the share of the one's neighbourhood that is not the other's, times
    half of one less their cosine similarity in half-whitened components. classes: r + 1, from which a neighbourhood's
    size follows; of one class no pair is difficult.
    """
    if classes == 1:
        nothing = np.empty(0, np.int64), np.empty(0, np.float32)
        return DifficultPairs(nothing[0], nothing[0], nothing[1], nothing[1], 1.0)
    count = len(rows)
    found, recall = alike(rows, min(k, count - 1), seed)
    own = np.repeat(np.arange(count), found.shape[1])
    there = found.ravel() >= 0
    own, partner = own[there], found.ravel()[there]
    keys = np.unique(np.minimum(own, partner) * count + np.maximum(own, partner))
    a, b = keys // count, keys % count
    # Bringing rows to length one for each pair would cost more than comparing them.
    unit = Arrays(memory_budget()).zeros((count, rows.dimension), np.float32)
    for part in rows.blocks():
        unit[part] = rows.unit(part).numpy()
    space = Whitened(rows, WHITENING, seed)
    components = np.concatenate([space(rows, part).numpy() for part in rows.blocks()])
    neighbourhood, size = _neighbourhoods(components, classes, seed)
    similarity, difficulty = np.empty(len(a), np.float32), np.empty(len(a), np.float32)
    for start in range(0, len(a), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        one, other = a[part], b[part]
        similarity[part] = np.clip(np.einsum("pd,pd->p", unit[one], unit[other]), -1, 1)
        shared = np.bitwise_count(neighbourhood[one] & neighbourhood[other]).sum(1, dtype=np.int64)
        unlike = (1 - np.einsum("pd,pd->p", components[one], components[other])) / 2
        difficulty[part] = np.clip(similarity[part], 0, 1) ** LIKENESS * (1 - shared / size) * np.clip(unlike, 0, 1)
    order = np.lexsort((b, a, -difficulty))
    return DifficultPairs(a[order], b[order], similarity[order], difficulty[order], recall)


def _neighbourhoods(components: npt.NDArray[np.float32], classes: int, seed: int) -> tuple[npt.NDArray[np.uint64], int]:
    """(N, words): a bit for each sample of the reference, set where it is among the nearest to the sample; and how many
    are set for each."""
    size = min(REFERENCE, 2 * LARGEST * classes)
    chosen = sampled(len(components), size, np.random.default_rng((seed, 5)))
    nearest = min(max(SMALLEST, round(len(chosen) / (2 * classes))), LARGEST, max(1, len(chosen) // 2))
    reference = components[chosen]
    bits = np.zeros((len(components), -(-len(chosen) // 64) * 8), np.uint8)
    for start in range(0, len(components), REFERENCE):
        part = slice(start, start + REFERENCE)
        products = components[part] @ reference.T
        near = np.zeros((len(products), bits.shape[1] * 8), bool)
        np.put_along_axis(near, np.argpartition(-products, nearest - 1, axis=1)[:, :nearest], True, axis=1)
        bits[part] = np.packbits(near, axis=1)
    return bits.view(np.uint64), nearest
