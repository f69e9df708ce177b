"""Counts over a curation's listed pairs: by clusters, and where a similarity stands."""

from typing import Any

import numpy as np

from service.columns import Columns, Places
from service.schemas import Cluster, PairRank

# Pairs of clusters that one answer tells, the most frequent.
CELLS = 20_000
# So many clusters squared are counted one by one.
DENSE = 2**20


def confusion(columns: Columns, places: Places) -> dict[str, Any]:
    """Of the pairs at `places`, how many lie between each two clusters: schemas.Confusion."""
    size = columns.clusters
    one, other = columns.cluster[columns.a[places]], columns.cluster[columns.b[places]]
    keys = np.minimum(one, other).astype(np.int64) * size + np.maximum(one, other)
    if size * size <= DENSE:
        every = np.bincount(keys, minlength=size * size)
        keys = np.flatnonzero(every)
        counts = every[keys]
    else:
        keys, counts = np.unique(keys, return_counts=True)
    largest = np.argsort(-counts, kind="stable")[:CELLS]
    return {
        "clusters": size,
        "arranged": columns.arranged.tolist(),
        "pairs": len(places),
        "cells": np.stack([*np.divmod(keys[largest], size), counts[largest]], axis=1).tolist(),
        "left_out": len(keys) - len(largest),
    }


def cluster_counts(columns: Columns) -> list[Cluster]:
    """Each cluster with its counts, those alike side by side."""
    sizes = np.bincount(columns.cluster, minlength=columns.clusters)
    difficulty = np.bincount(columns.cluster, columns.sample_difficulty, columns.clusters) / np.maximum(sizes, 1)
    one, other = np.divmod(columns.cluster_keys, columns.clusters)
    counts, within = np.diff(columns.cluster_starts), one == other
    inside = np.bincount(one[within], counts[within], columns.clusters)
    outside = np.bincount(np.concatenate([one[~within], other[~within]]), np.tile(counts[~within], 2), columns.clusters)
    return [
        Cluster(
            cluster=cluster,
            samples=int(sizes[cluster]),
            difficulty=float(difficulty[cluster]),
            medoid=int(columns.medoids[cluster]) if sizes[cluster] else None,
            pairs_inside=int(inside[cluster]),
            pairs_outside=int(outside[cluster]),
        )
        for cluster in columns.arranged.tolist()
    ]


def rank(columns: Columns, similarity: float) -> PairRank:
    """Where a similarity stands among all pairs, and in the list that is sorted by -similarity."""
    at_least = len(columns.a) - int(np.searchsorted(columns.similarities, np.float32(similarity)))
    edges = np.linspace(-1, 1, len(columns.counts) + 1)
    below = int(columns.counts[: max(0, int(np.searchsorted(edges, similarity, side="right")) - 1)].sum())
    return PairRank(row=at_least, listed=len(columns.a), below=below, total=int(columns.counts.sum()))
