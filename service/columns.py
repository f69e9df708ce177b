"""A curation's listed pairs and samples as memory-mapped columns, made once from its immutable files and kept on disk.

A page of ten million pairs, a count or a map is then a slice, whatever is filtered and however it is sorted.
"""

import json
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from service.tables import Tables
from tamis.curation.clusters import arranged, cluster_middles, medoids
from tamis.curation.layout import principal_plane
from tamis.curation.whatif import WhatIf, cut_edges, what_if

# Part of the folder's name: what an earlier release wrote in another form is made anew.
FORMAT = "columns-1"
HOUR = 3600.0
# Curations whose columns are held open.
OPEN = 16
INDEX_COLUMNS = ["sample_id", "sha256", "width", "height", "label", "size"]

Places = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Columns:
    """M pairs in the order of difficulty, N samples.

    thresholds: sim_low and sim_high, the band's ends, and pos_low and pos_high, the shares of all pairs above them.
    a, b: (M,) int32, a < b. similarity, difficulty: (M,) float32. by_similarity: (M,) int32, places of the pairs from
        the most similar on; of equally similar ones the more difficult first. similarities: (M,) float32, ascending.
    sample_starts: (N + 1,) int64, sample_pairs: (2 M,) int32: the places of each sample's pairs, ascending.
    cluster_keys: (U,) int64, cluster_starts: (U + 1,), cluster_pairs: (M,) int32: the same by pair of clusters, see
        `key_of`.
    cluster: (N,) int32. sample_difficulty: (N,) float32. by_difficulty: (N,) int32, the most difficult sample first.
    order: (N,) int32, the samples as a map sends them: at random, so that the first of them are a fair part.
    plane: (N, 2) float32, the features along their two principal directions.
    medoids: (K,) int32, of each cluster the sample nearest to its middle; -1 where it is empty. arranged: (K,) int32,
        the clusters so that those alike stand side by side.
    counts: (B,) int64, of all pairs, over -1 to 1. edges and what follows it: see `what_if`.
    """

    thresholds: dict[str, float]
    a: Places
    b: Places
    similarity: Floats
    difficulty: Floats
    by_similarity: Places
    similarities: Floats
    sample_starts: npt.NDArray[np.int64]
    sample_pairs: Places
    cluster_keys: npt.NDArray[np.int64]
    cluster_starts: npt.NDArray[np.int64]
    cluster_pairs: Places
    cluster: Places
    sample_difficulty: Floats
    by_difficulty: Places
    order: Places
    plane: Floats
    medoids: Places
    arranged: Places
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    pairs_below: npt.NDArray[np.int64]
    listed_below: npt.NDArray[np.int64]
    samples_table: npt.NDArray[np.uint32]

    @property
    def clusters(self) -> int:
        return len(self.medoids)

    @cached_property
    def what_if(self) -> WhatIf:
        return WhatIf(self.edges, self.pairs_below, self.listed_below, self.samples_table)

    def key_of(self, one: int, other: int) -> int:
        return min(one, other) * self.clusters + max(one, other)

    def pairs_of_sample(self, sample: int) -> Places:
        """Places of a sample's pairs, ascending; none of a sample that there is not."""
        if sample >= len(self.cluster):
            return self.sample_pairs[:0]
        return self.sample_pairs[self.sample_starts[sample] : self.sample_starts[sample + 1]]

    def pairs_of_clusters(self, one: int, other: int) -> Places:
        key = self.key_of(one, other)
        place = int(np.searchsorted(self.cluster_keys, key))
        if max(one, other) >= self.clusters or place == len(self.cluster_keys) or self.cluster_keys[place] != key:
            return self.cluster_pairs[:0]
        return self.cluster_pairs[self.cluster_starts[place] : self.cluster_starts[place + 1]]

    def pairs_of_cluster(self, cluster: int) -> Places:
        """Places of the pairs that have a sample in a cluster, ascending."""
        one, other = np.divmod(self.cluster_keys, self.clusters)
        places = np.flatnonzero((one == cluster) | (other == cluster))
        parts = [self.cluster_pairs[self.cluster_starts[place] : self.cluster_starts[place + 1]] for place in places]
        return np.sort(np.concatenate([*parts, self.cluster_pairs[:0]]))


class ColumnStore:
    """Columns of curations and indexes of data sets, by the keys of the objects they are made from."""

    def __init__(self, tables: Tables, cache: Path) -> None:
        self._tables, self._folder = tables, cache / FORMAT
        self._open: OrderedDict[str, Columns | pa.Table] = OrderedDict()
        self._lock, self._making = threading.Lock(), threading.Lock()

    def curation(self, key: str) -> Columns:
        found: Columns = self._opened(key, self._columns)
        return found

    def index(self, key: str) -> pa.Table:
        """sample_id, sha256, width, height, label, size of each sample, in order."""
        return self._opened(key, self._index)

    def layout(self, key: str) -> Floats:
        """(N, 2) float32, the places of the samples as a job has laid them out."""
        return _mapped(self._tables.local(key))

    def sweep(self, keys: Collection[str]) -> int:
        """Removes what was made from other objects than these; returns of how many."""
        kept = {_name(key) for key in keys}
        with self._making:
            found = [path for path in self._folder.glob("*") if path.name not in kept and _age(path) > HOUR]
            for path in found:
                shutil.rmtree(path, ignore_errors=True)
        return len(found)

    def _opened(self, key: str, load: Any) -> Any:
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
                return self._open[key]
        # What is open already need not wait until this is made.
        with self._making:
            found = self._open.get(key) or load(key)
        with self._lock:
            self._open[key] = found
            if len(self._open) > OPEN:
                self._open.popitem(last=False)
            return found

    def _columns(self, key: str) -> Columns:
        folder = self._folder / _name(key)
        if not folder.exists():
            made = _make({name: self._tables.local(f"{key}/{name}") for name in SOURCES})
            with _whole(folder) as unfinished:
                for name, values in made.items():
                    np.save(unfinished / f"{name}.npy", values)
        state = json.loads(self._tables.local(f"{key}/curation.json").read_text())
        names = [field.name for field in fields(Columns) if field.name != "thresholds"]
        return Columns(state["thresholds"], **{name: _mapped(folder / f"{name}.npy") for name in names})

    def _index(self, key: str) -> pa.Table:
        folder = self._folder / _name(key)
        if not folder.exists():
            with _whole(folder) as unfinished:
                table = pq.read_table(self._tables.local(key), columns=INDEX_COLUMNS)
                # One piece, so that a row is found by its number.
                with pa.ipc.new_file(unfinished / "index.arrow", table.schema) as file:
                    file.write_table(table.combine_chunks(), max_chunksize=max(1, table.num_rows))
        return pa.ipc.open_file(pa.memory_map(str(folder / "index.arrow"))).read_all()


def _name(key: str) -> str:
    """Of the folder in which lies what is made from an object, or from a folder of them."""
    return key.removesuffix(".parquet").replace("/", "-")


def _age(path: Path) -> float:
    """In seconds: what is being made now has no object's name yet."""
    return time.time() - path.stat().st_mtime


SOURCES = ("curation.json", "pairs.parquet", "samples.parquet", "features.npy")


def _make(files: dict[str, Path]) -> dict[str, npt.NDArray[Any]]:
    state = json.loads(files["curation.json"].read_text())
    pairs, samples = pq.read_table(files["pairs.parquet"]), pq.read_table(files["samples.parquet"])
    a, b, similarity, difficulty = (pairs[name].to_numpy() for name in ("a", "b", "similarity", "difficulty"))
    cluster, sample_difficulty = samples["cluster"].to_numpy(), samples["difficulty"].to_numpy()
    features = np.load(files["features.npy"], mmap_mode="r")
    clusters = int(cluster.max()) + 1
    by_similarity = _order(np.uint64(2**32 - 1) - _ascending(similarity))
    ends = np.stack([a, b], axis=1).ravel().astype(np.int32)
    low, high = np.minimum(cluster[a], cluster[b]), np.maximum(cluster[a], cluster[b])
    keys = low.astype(np.int64) * clusters + high
    by_key = _order(keys.astype(np.uint64))
    keys = keys[by_key]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.array(state["counts"], np.int64)
    histogram_edges = np.linspace(-1.0, 1.0, len(counts) + 1)
    cut = state["thresholds"]
    edges = cut_edges(histogram_edges, counts, (cut["sim_low"], cut["sim_high"]))
    told = what_if(edges, histogram_edges, counts, a, b, similarity)
    middles = cluster_middles(features, cluster, clusters)
    return {
        "a": a.astype(np.int32),
        "b": b.astype(np.int32),
        "similarity": similarity,
        "difficulty": difficulty,
        "by_similarity": by_similarity,
        "similarities": similarity[by_similarity[::-1]],
        "sample_starts": np.append(0, np.cumsum(np.bincount(ends, minlength=len(cluster)))),
        "sample_pairs": _order(ends.astype(np.uint64)) // 2,
        "cluster_keys": keys[first],
        "cluster_starts": np.append(first, len(keys)),
        "cluster_pairs": by_key,
        "cluster": cluster,
        "sample_difficulty": sample_difficulty,
        "by_difficulty": _order(np.uint64(2**32 - 1) - _ascending(sample_difficulty)),
        "order": np.random.default_rng(0).permutation(len(cluster)).astype(np.int32),
        "plane": principal_plane(features),
        "medoids": medoids(features, cluster, middles),
        "arranged": arranged(middles),
        "counts": counts,
        "edges": told.edges,
        "pairs_below": told.pairs,
        "listed_below": told.listed,
        "samples_table": told.samples,
    }


def _order(keys: npt.NDArray[np.uint64]) -> Places:
    """As of a stable argsort, of keys below 2^32, several times as fast: each carries its place, which ends ties."""
    carried = keys << np.uint64(32) | np.arange(len(keys), dtype=np.uint64)
    carried.sort()
    return carried.astype(np.uint32).view(np.int32)


def _ascending(values: Floats) -> npt.NDArray[np.uint64]:
    """Integers below 2^32 in the order of the values."""
    bits = values.view(np.int32)
    return (np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64) + 2**31).astype(np.uint64)


def _mapped(path: Path) -> npt.NDArray[Any]:
    """As a plain array: each slice of NumPy's own class for it takes ten times as long."""
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r").view(np.ndarray)
    return mapped


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `folder` at the end: whoever finds that finds all of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        yield unfinished
        # Of two processes that make the same, one is later, and what it made is equal.
        if not folder.exists():
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
