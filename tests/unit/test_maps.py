"""Where samples are drawn, and what stands for a cluster."""

import numpy as np
import pytest
from samples import digit_embeddings
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from tamis.curation import neighbour_map as module
from tamis.curation.clusters import arranged, cluster_middles, medoids
from tamis.curation.layout import principal_plane
from tamis.curation.neighbour_map import neighbour_map

COUNT = 400


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    embedded = digit_embeddings(COUNT)
    return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


def test_the_plane_is_that_of_the_principal_components(features: np.ndarray) -> None:
    plane, expected = principal_plane(features), PCA(2).fit_transform(features)
    for axis in range(2):
        assert abs(np.corrcoef(plane[:, axis], expected[:, axis])[0, 1]) > 0.9999
    assert np.array_equal(principal_plane(features.astype(np.float16)), principal_plane(features.astype(np.float16)))


@pytest.mark.parametrize("dimensions", [1, 2])
def test_features_of_few_dimensions_have_a_plane_and_a_map(features: np.ndarray, dimensions: int) -> None:
    few = features[:, 20 : 20 + dimensions] + 0.1
    for places in (principal_plane(few), neighbour_map(few / np.linalg.norm(few, axis=1, keepdims=True))):
        assert places.shape == (COUNT, 2)
        assert np.isfinite(places).all()


def test_a_map_keeps_neighbours_together_and_is_the_same_twice(features: np.ndarray) -> None:
    places = neighbour_map(features)
    assert trustworthiness(features, places, n_neighbors=5) > 0.97
    assert np.array_equal(places, neighbour_map(features))


def test_beyond_a_number_the_rest_lie_beside_what_they_are_like(
    features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAID", 300)
    assert trustworthiness(features, neighbour_map(features), n_neighbors=5) > 0.9


@pytest.mark.parametrize("count", [1, 2, 7, 8, 12])
def test_few_samples_have_a_map(features: np.ndarray, count: int) -> None:
    assert np.isfinite(neighbour_map(features[:count])).all()


def test_samples_all_alike_have_a_map() -> None:
    assert np.isfinite(neighbour_map(np.tile([[0.6, 0.8]], (30, 1)))).all()


def test_a_medoid_is_nearest_to_its_clusters_middle(features: np.ndarray) -> None:
    cluster = (np.arange(COUNT) % 5).astype(np.int32)
    cluster[cluster == 3] = 2
    middles = cluster_middles(features, cluster, 5)
    found = medoids(features, cluster, middles)
    assert found[3] == -1
    for each in (0, 1, 2, 4):
        inside = np.flatnonzero(cluster == each)
        middle = features[inside].mean(0)
        assert found[each] == inside[(features[inside] @ middle).argmax()]


def test_clusters_that_are_alike_stand_side_by_side() -> None:
    angles = np.array([0.0, 2.0, 0.1, 2.1, 4.0])
    order = arranged(np.stack([np.cos(angles), np.sin(angles)], axis=1)).tolist()
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1
    assert arranged(np.ones((2, 3))).tolist() == [0, 1]
