"""alpha, beta and gamma on graphs drawn from the model, of which they are known."""

import numpy as np
import pytest

from tamis.curation.estimate import GraphEstimate, PairSample, estimate_graph
from tamis.theory import SimilarityGraph

TRUTH = SimilarityGraph(n=40, r=3, n_d=12, alpha=0.6, beta=0.1, gamma=0.3)
DRAWS = 100


def drawn(random: np.random.Generator) -> GraphEstimate:
    """The estimate from features whose products are the graph's similarities, but that samples differ in how alike
    they are to all others, and pairs besides."""
    samples = TRUTH.n * (TRUTH.r + 1)
    own = 0.02 * random.standard_normal(samples)
    pairs = np.triu(0.005 * random.standard_normal((samples, samples)), 1)
    similarity = TRUTH.adjacency() + own[:, None] + own + pairs + pairs.T
    np.fill_diagonal(similarity, 1.0)
    values, directions = np.linalg.eigh(similarity)
    features = (directions * np.sqrt(np.maximum(values, 0))).astype(np.float16)
    number = np.arange(samples)
    return estimate_graph(
        PairSample(number, (features.astype(np.float32) @ features.astype(np.float32).T)),
        features,
        (number // TRUTH.n).astype(np.int32),
        number % TRUTH.n < TRUTH.n_d,
        TRUTH.r + 1,
        int(random.integers(2**31)),
    )


@pytest.fixture(scope="module")
def estimates() -> list[GraphEstimate]:
    random = np.random.default_rng(0)
    return [drawn(random) for _ in range(DRAWS)]


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_intervals_cover_the_truth_as_often_as_they_say(estimates: list[GraphEstimate], name: str) -> None:
    intervals = [getattr(found, name) for found in estimates]
    covered = sum(one.low <= getattr(TRUTH, name) <= one.high for one in intervals)
    assert 90 <= covered <= 99
    assert np.mean([one.value for one in intervals]) == pytest.approx(getattr(TRUTH, name), abs=0.01)
