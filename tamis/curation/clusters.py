"""What stands for a cluster: its middle, the sample nearest to that, and its place beside clusters that are like it."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist

BLOCK = 65_536


def cluster_middles(
    features: npt.NDArray[Any], cluster: npt.NDArray[np.int32], clusters: int
) -> npt.NDArray[np.float64]:
    """features: (N, d) of length one. Returns the (K, d) means, of length one; zeros where a cluster is empty."""
    sums = np.zeros((clusters, features.shape[1]))
    for start in range(0, len(features), BLOCK):
        np.add.at(sums, cluster[start : start + BLOCK], features[start : start + BLOCK].astype(np.float64))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    sums /= np.where(lengths > 0, lengths, 1)
    return sums


def medoids(
    features: npt.NDArray[Any], cluster: npt.NDArray[np.int32], middles: npt.NDArray[np.float64]
) -> npt.NDArray[np.int32]:
    """(K,) int32, the sample of each cluster that is nearest to its middle; -1 where a cluster is empty."""
    nearness = np.empty(len(cluster), np.float64)
    for start in range(0, len(cluster), BLOCK):
        own = middles[cluster[start : start + BLOCK]]
        nearness[start : start + BLOCK] = np.einsum("nd,nd->n", features[start : start + BLOCK].astype(np.float64), own)
    order = np.lexsort((-nearness, cluster))
    present, first = np.unique(cluster[order], return_index=True)
    found = np.full(len(middles), -1, np.int32)
    found[present] = order[first]
    return found


def arranged(middles: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """(K,) int32, the clusters in the order of an average linkage's leaves, so that those alike stand side by side."""
    if len(middles) < 3:
        return np.arange(len(middles), dtype=np.int32)
    return np.asarray(leaves_list(linkage(pdist(middles), "average")), np.int32)
