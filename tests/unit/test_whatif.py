"""What other thresholds would give, against counting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.curation.whatif import cut_edges, what_if

BINS = 64
EDGES = np.linspace(-1.0, 1.0, BINS + 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(0, 120))
def test_every_cut_counts_as_brute_force_does(seed: int, count: int, listed: int) -> None:
    random = np.random.default_rng(seed)
    everything = random.uniform(-0.4, 0.9, 500)
    counts = np.histogram(everything, EDGES)[0]
    a, b = random.integers(0, count, (2, listed))
    similarity = random.choice(everything, listed).astype(np.float32)
    edges = cut_edges(EDGES, counts, (EDGES[30], EDGES[50]))
    found = what_if(edges, EDGES, counts, a, b, similarity)
    assert {EDGES[30], EDGES[50]} <= {*edges}
    for low in range(0, len(edges), 3):
        for high in range(low, len(edges), 3):
            inside = (similarity >= np.float32(edges[low])) & (similarity < np.float32(edges[high]))
            assert found.listed[high] - found.listed[low] == inside.sum()
            assert found.distinct(low, high) == len(np.union1d(a[inside], b[inside]))
            everywhere = (everything >= edges[low]) & (everything < edges[high])
            assert found.pairs[high] - found.pairs[low] == everywhere.sum()


@pytest.mark.parametrize("filled", [0, 1, BINS])
def test_edges_cover_what_holds_pairs(filled: int) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[:filled] = 1
    edges = cut_edges(EDGES, counts, ())
    assert edges[0] == EDGES[0]
    assert edges[-1] == EDGES[filled or BINS]
