"""The number of classes, and the clusters, of points whose classes are known."""

import os
import sys

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import adjusted_rand_score
from threaded import with_threads

from tamis import InputError
from tamis.curation.classes import estimate_classes
from tamis.curation.peaks import density_peaks
from tamis.scan.nearest import assign, kmeans, nearest

Points = npt.NDArray[np.float32]


def mixture(
    classes: int, count: int, *, times: float = 1.0, dimension: int = 64, seed: int = 0
) -> tuple[Points, npt.NDArray[np.int64]]:
    """Points of classes about random directions, and their classes; the largest is `times` as large as the smallest."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    sizes = np.geomspace(1, times, classes)
    labels = random.choice(classes, count, p=sizes / sizes.sum())
    noise = random.standard_normal((count, dimension)) / np.sqrt(dimension)
    return (centres[labels] + noise).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("classes", "count", "times"), [(2, 2000, 1), (2, 4000, 20), (10, 3000, 1), (10, 4000, 20), (100, 10_000, 1)]
)
def test_as_many_classes_are_found_as_there_are_and_the_same_samples_are_in_them(
    classes: int, count: int, times: float, seed: int
) -> None:
    points, labels = mixture(classes, count, times=times, seed=seed)
    found = estimate_classes(points, seed=seed)
    assert classes / 1.25 <= found.classes <= classes * 1.25
    assert found.criteria["at_least"] <= found.classes <= found.criteria["at_most"]
    assert adjusted_rand_score(labels, found.labels) > 0.9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dimension", [8, 32, 256])
def test_noise_is_one_class(dimension: int, seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal((2000, dimension)).astype(np.float32)
    found = estimate_classes(noise, seed=seed)
    assert found.classes == 1
    assert set(found.labels) == {0}


def test_copies_are_no_classes() -> None:
    points, _ = mixture(3, 600)
    # Ten of them fifty times each: as near to each other as a computer can say.
    again = np.concatenate([points, np.repeat(points[:10], 50, 0)])
    assert estimate_classes(again).classes == estimate_classes(points).classes == 3


@pytest.mark.parametrize("count", [4, 5, 9])
def test_few_samples_are_enough(count: int) -> None:
    found = estimate_classes(np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32))
    assert 1 <= found.classes < count
    assert len(found.labels) == count


def test_peaks_are_the_densest_points_of_their_classes() -> None:
    points, labels = mixture(5, 1000)
    places = density_peaks(points).places
    assert sorted(labels[places]) == list(range(5))


def test_neighbours_are_those_of_a_plain_search_and_never_the_point_itself() -> None:
    points = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    # More copies of one point than neighbours are asked for.
    points[50:70] = points[0]
    distances, found = nearest(points, 10)
    plain = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=2)
    np.fill_diagonal(plain, np.inf)
    assert (found != np.arange(200)[:, None]).all()
    np.testing.assert_allclose(distances, np.sort(plain, axis=1)[:, :10], atol=1e-3)
    np.testing.assert_allclose(np.take_along_axis(plain, found, 1), distances, atol=1e-3)


def test_as_many_clusters_as_samples_are_possible_and_more_are_refused() -> None:
    points = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    for classes in (2, 20, 40):
        assert len(set(estimate_classes(points, classes).labels)) == classes
    with pytest.raises(InputError, match="41"):
        estimate_classes(points, 41)
    with pytest.raises(InputError, match="Fewer than 30 samples differ"):
        estimate_classes(np.repeat(points[:20], 2, 0), 30)


def test_no_cluster_is_empty_where_samples_crowd_at_one_place() -> None:
    points = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    points[40:] = points[0] + 1e-3 * points[40:]
    centres = kmeans(points, 30, 0)
    assert set(assign(points, centres)) == set(range(30))


def test_what_faiss_is_told_of_the_processor_no_other_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    kmeans(points, 3, 0)
    assert "OPENBLAS_CORETYPE" not in os.environ
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    kmeans(points, 3, 0)
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"


CLUSTERED = """
from tamis.curation.classes import estimate_classes
points = np.random.default_rng(0).standard_normal((3000, 64)).astype(np.float32)
points[:1500, 0] += 6

def result():
    found = [estimate_classes(points, classes) for classes in ("auto", 50, 100)]
    return b"".join(each.labels.tobytes() + bytes(str(each.criteria), "ascii") for each in found)
"""


def test_the_clusters_are_the_same_whatever_the_number_of_threads() -> None:
    first, *others = with_threads(CLUSTERED, 1, 2, 3)
    assert first != b""
    assert others == [first, first]


def test_without_faiss_it_is_said_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'tamis\[cpu\]'"):
        estimate_classes(mixture(2, 100)[0])
