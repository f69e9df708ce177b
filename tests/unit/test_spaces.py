"""The directions along which embeddings reach furthest, whether there are more samples or more dimensions."""

import time

import numpy as np
import pytest
import torch

import tamis
from tamis.curation.space import Whitened, leading_directions
from tamis.scan.rows import Rows


def points(count: int, dimension: int) -> torch.Tensor:
    """Of two tight directions among the rest."""
    random = np.random.default_rng(0)
    scales = np.r_[9.0, 4.0, np.ones(dimension - 2)]
    return torch.from_numpy(random.normal(size=(count, dimension)) * scales)


@pytest.mark.parametrize(("count", "dimension"), [(30, 29), (30, 30), (30, 31), (30, 200), (5, 40)])
@pytest.mark.parametrize("centred", [False, True])
def test_the_directions_are_those_of_singular_values(count: int, dimension: int, centred: bool) -> None:
    some = points(count, dimension)
    some = some - some.mean(0) if centred else some
    squares, directions = leading_directions(some, 12)
    # Centred points span one direction less than there are of them.
    found = min(12, dimension, count - (centred and count < dimension))
    assert directions.shape == (dimension, found)
    _, values, expected = torch.linalg.svd(some, full_matrices=False)
    assert torch.allclose(squares.flip(0), values[:found].square(), atol=1e-9)
    assert torch.allclose(directions.T @ directions, torch.eye(found, dtype=torch.float64), atol=1e-9)
    same = (directions.flip(1) * expected[:found].T).sum(0).abs()
    assert torch.allclose(same, torch.ones_like(same), atol=1e-7)


def test_components_of_few_samples_tell_their_distances() -> None:
    rows = Rows(points(20, 300))
    plain = Whitened(rows, 0.0, 0).components(rows, slice(0, 20))
    assert plain.shape == (20, 19)
    assert torch.allclose(
        torch.cdist(plain, plain), torch.cdist(rows.unit(slice(0, 20)), rows.unit(slice(0, 20))), atol=1e-3
    )


def test_many_dimensions_of_few_samples_take_no_long() -> None:
    """As of VGG, or of raw pixels: a matrix of all dimensions would take hours to decompose."""
    some = points(60, 12_288).float().numpy()
    began = time.process_time()
    found = tamis.curate(some, classes=2, seed=0)
    assert time.process_time() - began < 30
    again = tamis.curate(some, classes=2, seed=0)
    assert found.select("margin").files() == again.select("margin").files()
