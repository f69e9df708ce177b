"""Pairs worth a person's eyes: alike, and yet of two classes, by all that can be known without labels.

Of each sample's nearest partners, whatever band they are in, those that have few neighbours in common and differ in the
components that raw similarity neglects. docs/detection.md compares the order with others.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.curation.blends import WHITENING
from tamis.curation.kept import Kept
from tamis.curation.space import Whitened, sampled
from tamis.scan.alike import alike
from tamis.scan.cpu_candidates import Exact, cosines, exact_of
from tamis.scan.cpu_kernels import Array, compiled, compiled_sum
from tamis.scan.highest import QUERIES, highest
from tamis.scan.memory import Arrays, memory_budget
from tamis.scan.rows import Rows
from tamis.scan.threads import in_parallel, threads

Indices = npt.NDArray[np.int64]

# A sample's neighbourhood is half as many samples of a random reference as a class has there: so few, and no more.
REFERENCE, LARGEST, SMALLEST = 4096, 128, 8
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
    """Of each sample's k most similar partners those worth keeping (see `kept.py`), the most difficult pair first.

    difficulty: the similarity's sixth power, times the share of the one's neighbourhood that is not the other's, times
    half of one less their cosine similarity in half-whitened components. classes: r + 1, from which a neighbourhood's
    size follows; of one class no pair is difficult.

    Memory: 18 bytes for each pair kept, and twice that while they are put in order. What a sample takes beside that, in
    components, neighbourhood and row, lies in files beyond the budget.
    """
    if classes == 1:
        nothing = np.empty(0, np.int64), np.empty(0, np.float32)
        return DifficultPairs(nothing[0], nothing[0], nothing[1], nothing[1], 1.0)
    kept, recall = _found(rows, k, classes, seed)
    return DifficultPairs(*kept.ordered(), recall)


def _found(rows: Rows, k: int, classes: int, seed: int) -> tuple[Kept, float]:
    """The pairs, and the recall of the search: what it takes in memory is let go before they are put in order."""
    count = len(rows)
    k = min(k, count - 1)
    arrays, exact, kept = Arrays(memory_budget()), exact_of(rows), Kept(count, k)
    components, neighbourhood = _described(rows, classes, seed, arrays)

    def take(own: Indices, partners: Indices) -> None:
        similarity, difficulty = np.zeros(partners.shape, np.float32), np.full(partners.shape, -1, np.float32)
        _score(exact, components, neighbourhood, own, partners, similarity, difficulty)
        kept.add(own, partners, similarity, difficulty)

    return kept, alike(rows, k, seed, take, arrays)


def _described(
    rows: Rows, classes: int, seed: int, arrays: Arrays
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]:
    """(N, c) half-whitened components of length one, and (N, size) the samples of the reference nearest to each."""
    space, count = Whitened(rows, WHITENING, seed), len(rows)
    chosen = sampled(count, min(REFERENCE, 2 * LARGEST * classes), np.random.default_rng((seed, 5)))
    size = min(max(SMALLEST, round(len(chosen) / (2 * classes))), LARGEST, max(1, len(chosen) // 2))
    reference, numbers = space(rows, chosen), np.arange(len(chosen))
    components = arrays.zeros((count, reference.shape[1]), np.float32)
    neighbourhood = arrays.zeros((count, size), np.uint16)

    def describe(start: int, _: None) -> None:
        part = slice(start, min(start + QUERIES, count))
        own = space(rows, part)
        components[part] = own.numpy()
        # A sample of the reference is near to itself, too.
        neighbourhood[part] = highest(own, np.full(len(own), -1), [(numbers, reference)], size)[1]

    in_parallel(describe, range(0, count, QUERIES), threads())
    return components, neighbourhood


@compiled
def _score(
    exact: Exact,
    components: Array,
    neighbourhood: Array,
    own: Array,
    partners: Array,
    similarity: Array,
    difficulty: Array,
) -> None:
    """Fills in the (n, k) similarity and difficulty of partners, up to the first that is -1: the same bits from both
    sides of a pair."""
    size = neighbourhood.shape[1]
    near = np.zeros(REFERENCE, np.bool_)
    for row in range(len(own)):
        sample, number = own[row], 0
        while number < partners.shape[1] and partners[row, number] >= 0:
            number += 1
        if number:
            cosines(exact, sample, partners[row, :number], similarity[row, :number])
        for place in neighbourhood[sample]:
            near[place] = True
        for column in range(number):
            partner, shared = partners[row, column], 0
            for place in neighbourhood[partner]:
                shared += near[place]
            unlike = (1 - _product(components[sample], components[partner])) / 2
            likeness = max(similarity[row, column], 0.0) ** LIKENESS
            difficulty[row, column] = likeness * (1 - shared / size) * min(max(unlike, 0.0), 1.0)
        for place in neighbourhood[sample]:
            near[place] = False


@compiled_sum
def _product(one: Array, other: Array) -> float:
    total = np.float32(0)
    for place in range(len(one)):
        total += one[place] * other[place]
    return float(total)
