"""The closed forms of the similarity graph against the spectrum computed from its adjacency matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import InputError
from tamis.theory import SimilarityGraph, relaxed_adjacency


@st.composite
def graphs(draw: st.DrawFn) -> SimilarityGraph:
    n = draw(st.integers(1, 12))
    beta, gamma, alpha = sorted(draw(st.tuples(*[st.floats(0.0, 0.95)] * 3)))
    return SimilarityGraph(
        n,
        draw(st.integers(1, 5)),
        draw(st.integers(0, n)),
        alpha,
        beta,
        gamma,
        draw(st.sampled_from(["matched", "block"])),
    )


def normalised(adjacency: np.ndarray, degree: np.ndarray | None = None) -> np.ndarray:
    scale = 1 / np.sqrt(adjacency.sum(1) if degree is None else degree)
    return adjacency * scale[:, None] * scale[None, :]


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_the_spectrum_equals_the_numerical_one(graph: SimilarityGraph) -> None:
    values, counts = graph.spectrum()
    expected = np.sort(np.linalg.eigvalsh(normalised(graph.adjacency())))[::-1]
    np.testing.assert_allclose(np.repeat(values, counts), expected, atol=1e-10)


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_a_margin_or_a_temperature_gives_the_spectrum_of_gamma_turned_into_beta(graph: SimilarityGraph) -> None:
    degree = graph.adjacency().sum(1)
    plain = SimilarityGraph(graph.n, graph.r, 0, graph.alpha, graph.beta, graph.beta, graph.pairing).adjacency()
    values, counts = graph.spectrum(treated=True)
    expected = np.sort(np.linalg.eigvalsh(normalised(plain, degree)))[::-1]
    np.testing.assert_allclose(np.repeat(values, counts), expected, atol=1e-10)


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_the_margin_and_the_temperature_turn_gamma_into_beta_entry_by_entry(graph: SimilarityGraph) -> None:
    if not graph.n_d or graph.gamma == 0:
        return
    adjacency = graph.adjacency()
    degree = adjacency.sum(1)
    i, j = 0, graph.n  # the first difficult samples of two classes are a difficult pair in both pairings
    entry = normalised(adjacency)[i, j]
    wanted = graph.beta / np.sqrt(degree[i] * degree[j])
    weight = degree / degree.sum()
    assert entry - np.sqrt(weight[i] * weight[j]) * graph.margin() == pytest.approx(wanted, abs=1e-10)
    assert entry * graph.temperature() == pytest.approx(wanted, abs=1e-10)


def test_the_papers_closed_form_holds_for_matched_pairs() -> None:
    graph = SimilarityGraph(n=20, r=4, n_d=6, alpha=0.6, beta=0.1, gamma=0.3)
    for k in range(graph.r + 2, graph.r + 1 + graph.n_d):
        assert graph.eigenvalue(k) == pytest.approx(graph.paper_eigenvalue(), abs=1e-12)
    plain = graph.without()
    for k in range(graph.r + 2, graph.n):
        assert plain.eigenvalue(k) == pytest.approx(plain.paper_eigenvalue(), abs=1e-12)


def test_the_block_pairing_raises_only_the_rest_of_the_spectrum() -> None:
    block = SimilarityGraph(n=20, r=4, n_d=6, alpha=0.6, beta=0.1, gamma=0.3, pairing="block")
    assert block.eigenvalue(2 * (block.r + 1) + 1) == pytest.approx(block.without().paper_eigenvalue(), abs=0.002)


@settings(max_examples=100, deadline=None)
@given(graphs(), st.floats(0.0, 0.5))
def test_difficult_pairs_never_lower_the_bound_and_no_treatment_raises_it(graph: SimilarityGraph, delta: float) -> None:
    k = graph.r + 1
    if graph.pairing == "block" or graph.n <= graph.n_d + 1 or graph.n < 3:
        return
    assert graph.without().bound(k, delta) <= graph.bound(k, delta) + 1e-12
    assert graph.bound(k, delta, treated=True) <= graph.bound(k, delta) + 1e-12


def test_the_relaxed_graph_is_symmetric_and_near() -> None:
    graph = SimilarityGraph(5, 2, 2, 0.6, 0.1, 0.3)
    relaxed = relaxed_adjacency(graph, 0.01)
    np.testing.assert_array_equal(relaxed, relaxed.T)
    assert 0 < np.abs(relaxed - graph.adjacency()).max() <= 0.01
    np.testing.assert_array_equal(np.diag(relaxed), 1)


@pytest.mark.parametrize(
    "changed",
    [{"n": 0}, {"r": 0}, {"n_d": 11}, {"alpha": 1.0}, {"beta": 0.5}, {"gamma": 0.9}, {"pairing": "other"}],
)
def test_parameters_that_describe_no_graph_are_refused(changed: dict) -> None:
    given = {"n": 10, "r": 2, "n_d": 3, "alpha": 0.6, "beta": 0.1, "gamma": 0.3, **changed}
    with pytest.raises(InputError):
        SimilarityGraph(**given)
    graph = SimilarityGraph(10, 2, 3, 0.6, 0.1, 0.3)
    for bad in (lambda: graph.eigenvalue(0), lambda: graph.eigenvalue(31), lambda: graph.bound(3, 1.5)):
        with pytest.raises(InputError):
            bad()
