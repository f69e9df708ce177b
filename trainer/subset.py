"""Subsets of images by other rules than ours, of features of length one and of clusters.

SAS keeps the images most similar to the rest of their latent class (Joshi and Mirzasoleiman 2023, section 4). The
paper maximises the similarity between what is kept and what goes, by greedy steps. Here a cluster stands for the latent
class, and each image counts by its mean similarity to the others there, which is what the first step goes by.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

# Which `count` samples to keep, (N,) bool, of features (N, d) of length one and clusters (N,) from 0.
Rule: TypeAlias = Callable[[npt.NDArray[np.floating], npt.NDArray[np.int32], int], npt.NDArray[np.bool_]]
NEIGHBOURS, BLOCK = 10, 1024


def within_cluster(unit: npt.NDArray[np.floating], cluster: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """(N,): the mean cosine of each sample to the others of its cluster; 0 of one alone.

    unit: (N, d) of length one. cluster: (N,), from 0.
    """
    rows = unit.astype(np.float64)
    sums = np.stack([rows[cluster == number].sum(0) for number in range(int(cluster.max()) + 1)])
    others = np.bincount(cluster)[cluster] - 1
    mean: npt.NDArray[np.float64] = ((rows * sums[cluster]).sum(1) - (rows**2).sum(1)) / np.maximum(others, 1)
    return mean


def sas(unit: npt.NDArray[np.floating], cluster: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.bool_]:
    """(N,), True on the `count` samples to keep: of every cluster nearly the same share, the most similar first."""
    order = np.lexsort((-within_cluster(unit, cluster), cluster))
    sizes = np.bincount(cluster)
    first = np.cumsum(sizes) - sizes
    # Of a sample, the share of its cluster that is more similar.
    share = np.empty(len(cluster))
    share[order] = (np.arange(len(order)) - first[cluster[order]]) / sizes[cluster[order]]
    keep = np.zeros(len(cluster), np.bool_)
    keep[np.argsort(share, kind="stable")[:count]] = True
    return keep


def neighbours(unit: npt.NDArray[np.floating], cluster: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.bool_]:
    """(N,), True on the `count` samples nearest to their ten nearest neighbours: what has none, as cleanlab's Datalab
    tells outliers, goes first."""
    rows = torch.from_numpy(unit.astype(np.float32))
    nearest = min(NEIGHBOURS + 1, len(rows))
    blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    mean = torch.cat([(block @ rows.T).topk(nearest, dim=1).values.sum(1) for block in blocks])
    keep = np.zeros(len(rows), np.bool_)
    keep[np.argsort(-mean.numpy(), kind="stable")[:count]] = True
    return keep


RULES: dict[str, Rule] = {"sas": sas, "neighbours": neighbours}
