"""Approximate nearest-neighbour indexes as peers of the pair scan, where the extra `bench` is installed.

They promise most of the k nearest in less time than any exact search. They compare each sample with few others, so they
count no pairs: there is no histogram to be had from them, and with it no threshold, no score and no share of a band.
"""

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tamis.scan.pairs import pair_scan
from tamis.scan.rows import Rows

Search = Callable[[npt.NDArray[np.float32], int], npt.NDArray[np.int64]]


def approximate_peers(embeddings: npt.NDArray[np.float32], k: int) -> Iterator[tuple[str, Any]]:
    """Time with building the index, recall against the exact scan, and that no pairs are counted."""
    start = time.perf_counter()
    exact = pair_scan(embeddings, k, device="cpu")
    ours = time.perf_counter() - start
    unit = Rows(embeddings).unit(slice(None)).numpy()
    searches: dict[str, Search] = {"hnswlib": _hnswlib, "usearch": _usearch}
    for name, search in searches.items():
        if find_spec(name) is None:
            yield name, "not installed"
            continue
        start = time.perf_counter()
        found = search(unit, k)
        theirs = time.perf_counter() - start
        figures = {"seconds": theirs, "times_ours": theirs / ours, "recall": _recall(found, exact.indices)}
        yield f"{name}, {len(unit)} samples", {**figures, "pairs_counted": 0}


def _hnswlib(unit: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """With the parameters of its own example; its search list must be longer than k."""
    import hnswlib

    index = hnswlib.Index(space="ip", dim=unit.shape[1])
    index.init_index(max_elements=len(unit), ef_construction=200, M=16)
    index.set_num_threads(torch.get_num_threads())
    index.add_items(unit)
    index.set_ef(2 * k)
    labels, _ = index.knn_query(unit, k + 1)
    return labels.astype(np.int64)


def _usearch(unit: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """With its default parameters."""
    from usearch.index import Index

    index = Index(ndim=unit.shape[1], metric="ip", dtype="f32")
    threads = torch.get_num_threads()
    index.add(np.arange(len(unit)), unit, threads=threads)
    return index.search(unit, k + 1, threads=threads).keys.astype(np.int64)


def _recall(found: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]) -> float:
    """The share of each sample's k nearest that is among the k + 1 found, of which one may be the sample itself."""
    hits = [len(np.intersect1d(*pair)) for pair in zip(found, exact, strict=True)]
    return float(np.mean(hits) / exact.shape[1])
