"""Which of the pairs that are found are kept, where they are too many."""

import numpy as np
import numpy.typing as npt
import pytest

from tamis.curation import kept as module
from tamis.curation.kept import Kept

COUNT, K = 60, 10


def partners(seed: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Ten others of each of 60 samples, and how difficult each pair is: the same from both sides, often equally so."""
    random = np.random.default_rng(seed)
    found = np.stack([random.permutation(np.delete(np.arange(COUNT), own))[:K] for own in range(COUNT)])
    difficulty = random.integers(20, size=(COUNT, COUNT)).astype(np.float32) / 20
    difficulty = np.maximum(difficulty, difficulty.T)
    return found, np.take_along_axis(difficulty, found, 1)


def of(kept: Kept, order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.generic]]:
    found, difficulty = partners()
    for start in range(0, COUNT, size):
        own = order[start : start + size]
        kept.add(own, found[own], difficulty[own] + 1, difficulty[own])
    return list(kept.ordered())


def test_up_to_their_number_all_are_kept_once_the_most_difficult_first() -> None:
    a, b, similarity, difficulty = of(Kept(COUNT, K), np.arange(COUNT), 7)
    found, _ = partners()
    expected = {(min(own, other), max(own, other)) for own in range(COUNT) for other in found[own]}
    assert set(zip(a, b, strict=True)) == expected
    assert len(a) == len(expected)
    np.testing.assert_array_equal(np.lexsort((b, a, -difficulty)), np.arange(len(a)))
    np.testing.assert_array_equal(similarity, difficulty + 1)


def test_beyond_it_each_samples_own_and_the_most_difficult_of_the_rest_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = list(zip(*of(Kept(COUNT, K), np.arange(COUNT), 7), strict=True))
    monkeypatch.setattr(module, "KEPT", 2 * 2 * COUNT)
    kept = list(zip(*of(Kept(COUNT, K), np.arange(COUNT), 7), strict=True))
    assert len(kept) <= 2 * 2 * COUNT
    assert kept == [pair for pair in everything if pair in set(kept)]
    # As many as half of the places have are never left out: the first of all.
    assert kept[: 2 * COUNT] == everything[: 2 * COUNT]
    found, difficulty = partners()
    pairs = {(a, b) for a, b, _, _ in kept}
    for own in range(COUNT):
        best = found[own][np.argsort(-difficulty[own], kind="stable")[:2]]
        assert {(min(own, other), max(own, other)) for other in best} <= pairs


def test_what_is_kept_does_not_depend_on_the_order_in_which_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 40)
    once = of(Kept(COUNT, K), np.arange(COUNT), 1)
    assert len(set(once[0]) | set(once[1])) == COUNT
    for seed, size in ((0, 1), (1, 7), (2, 60)):
        again = of(Kept(COUNT, K), np.random.default_rng(seed).permutation(COUNT), size)
        for one, other in zip(once, again, strict=True):
            np.testing.assert_array_equal(one, other)


def test_where_no_partner_was_found_no_pair_is_kept() -> None:
    kept = Kept(4, 2)
    kept.add(np.array([0]), np.array([[3, -1]]), np.zeros((1, 2), np.float32), np.array([[0.5, -1]], np.float32))
    assert [each.tolist() for each in kept.ordered()] == [[0], [3], [0.0], [0.5]]
    assert all(len(each) == 0 for each in Kept(4, 2).ordered())
