"""A map on which samples that are alike lie side by side: t-SNE (van der Maaten and Hinton 2008), by openTSNE.

Measured on Fashion-MNIST in 64 dimensions, two busy cores, first 10,000 and then 60,000 samples, each beside its
trustworthiness (1 is best; of 15 neighbours): openTSNE as it is by default 57 s and 151 s (0.988, 0.985), umap-learn
0.5 14 s and 49 s once compiled (0.982, 0.979), PaCMAP 0.9 3 s and 34 s (0.973, 0.975). All three give the same twice.
With half the iterations openTSNE takes 14 s for 10,000 (0.988). PaCMAP brings faiss-cpu along, which must not stand
beside faiss-gpu.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tamis.curation.layout import principal_plane
from tamis.curation.space import sampled
from tamis.scan.highest import QUERIES, TILE, highest

# So many samples are laid out; each other one lies among those of them that it is most like.
LAID = 20_000
PERPLEXITY = 30
# From so many points on the interpolation on a grid is faster than the tree.
MANY = 4000
EARLY, ITERATIONS = 125, 250
BESIDE = 3

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def neighbour_map(features: npt.NDArray[Any], seed: int = 0) -> Floats:
    """features: (N, d) of length one. Returns (N, 2) float32; of fewer than 8 samples their principal plane.

    Equal features and seeds give equal maps on one machine.
    """
    count = len(features)
    if count < 8:
        return principal_plane(features)
    chosen = np.sort(sampled(count, LAID, np.random.default_rng((seed, 0))))
    some = torch.from_numpy(features[chosen].astype(np.float32))
    laid = _laid_out(some, seed)
    places = np.empty((count, 2), np.float32)
    places[chosen] = laid
    others = np.setdiff1d(np.arange(count), chosen)
    for start in range(0, len(others), QUERIES):
        part = others[start : start + QUERIES]
        queries = torch.from_numpy(features[part].astype(np.float32))
        _, beside = highest(queries, np.full(len(part), -1), _tiles(some), BESIDE)
        places[part] = laid[beside].mean(1)
    return places


def _laid_out(points: torch.Tensor, seed: int) -> Floats:
    # Loading it takes seconds, and only this needs it.
    from openTSNE import TSNE
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    perplexity = min(PERPLEXITY, (len(points) - 2) / 3)
    indices, distances = _neighbours(points, int(3 * perplexity))
    plane = principal_plane(points.numpy())
    # As small as t-SNE wants its beginning.
    begun = 1e-4 * plane / max(float(plane[:, 0].std()), 1e-12)
    made = TSNE(
        perplexity=perplexity,
        neighbors=PrecomputedNeighbors(indices, distances),
        initialization=begun.astype(np.float64),
        negative_gradient_method="fft" if len(points) > MANY else "bh",
        early_exaggeration_iter=EARLY,
        n_iter=ITERATIONS,
        random_state=seed,
        n_jobs=1,
    ).fit(points.numpy())
    return np.asarray(made, np.float32)


def _neighbours(points: torch.Tensor, k: int) -> tuple[Indices, Floats]:
    """(n, k) of each point the nearest others, and their distances."""
    found = []
    for start in range(0, len(points), QUERIES):
        own = np.arange(start, min(start + QUERIES, len(points)))
        found.append(highest(points[own], own, _tiles(points), k))
    cosines, indices = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return indices, np.sqrt(np.maximum(2 - 2 * cosines, 0))


def _tiles(points: torch.Tensor) -> list[tuple[Indices, torch.Tensor]]:
    numbers = np.arange(len(points))
    return [(numbers[start : start + TILE], points[start : start + TILE]) for start in range(0, len(points), TILE)]
