"""Curation: from embeddings to the difficult examples, and from them to a manifest."""

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.checkpoint import Checkpoint
from tamis.classes import estimate_classes
from tamis.difficulty import (
    Thresholds,
    auto_fraction,
    band_share,
    cumulative,
    distinct_pairs,
    edge_at,
    most_difficult,
    thresholds_at,
)
from tamis.duplicates import near_duplicates
from tamis.errors import InputError
from tamis.estimate import GraphEstimate, ListedPairs, PairSample, estimate_graph
from tamis.histogram import Histogram, exact_edges
from tamis.manifest import Manifest
from tamis.rows import Embeddings, Rows
from tamis.scan import Progress
from tamis.selection import SampleTable, make_manifest
from tamis.similarity import computes_bf16, pair_scan, seconds_for_all_pairs

log = logging.getLogger("tamis.curation")

# With `exact="auto"`, all pairs are compared where that takes no longer than this.
EXACT_SECONDS = 1800.0
BINS = 2048
SCOUT = 8192
GRAPH_SAMPLE = 512
# Percentiles of all pairs at which the per-sample histograms are cut: dense where pos_high is sought.
PROFILE_SHARES = np.concatenate([np.arange(0.005, 0.5, 0.005), np.arange(0.5, 0.9, 0.02), np.arange(0.9, 1.0, 0.005)])
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Curation:
    """The difficult examples of a data set, under one choice of thresholds.

    classes: the estimate of r + 1. criteria: what each criterion of the estimate chose.
    thresholds: the band; its ends are edges, so every count and score read at them is exact.
    histogram: similarities of all unordered pairs.
    neighbours: partners each sample kept while scanning.
    near: (N,) int64, for each sample the one it repeats, see `near_duplicates`; None where they were not looked for.
    """

    classes: int
    criteria: dict[str, int]
    thresholds: Thresholds
    histogram: Histogram
    neighbours: int
    seed: int
    cluster: npt.NDArray[np.int32]
    _listed: ListedPairs
    _below: npt.NDArray[Any]
    _profile_edges: npt.NDArray[np.float64]
    _graph_sample: PairSample
    near: npt.NDArray[np.int64] | None

    @cached_property
    def samples(self) -> pa.Table:
        """index int64, cluster int32, difficulty float32: one row a sample; a higher difficulty is more difficult."""
        return pa.table(
            {
                "index": pa.array(np.arange(len(self.cluster))),
                "cluster": pa.array(self.cluster),
                "difficulty": pa.array(self.difficulty),
            }
        )

    @cached_property
    def difficulty(self) -> npt.NDArray[np.float32]:
        """(N,) float32: the share of the sample's pairs in the upper part of the band (see `tamis.difficulty`)."""
        return band_share(self._below, self._profile_edges, self.thresholds.sim_score, self.thresholds.sim_high)

    @cached_property
    def pairs(self) -> pa.Table:
        """a int64, b int64 (a < b), similarity float32: difficult pairs, most similar first, each once.

        Of each sample's pairs in the band its `neighbours` most similar ones; nearly all pairs of a data set are in the
        band, and nobody could look through them.
        """
        listed = self._in_band()
        return pa.table({"a": pa.array(listed.a), "b": pa.array(listed.b), "similarity": pa.array(listed.similarity)})

    @property
    def counted_pairs(self) -> int:
        """How many of all pairs lie in the band."""
        edges, counts = self.histogram.edges, self.histogram.counts
        first, last = np.searchsorted(edges, [self.thresholds.sim_low, self.thresholds.sim_high])
        return int(counts[first:last].sum())

    @cached_property
    def graph(self) -> GraphEstimate:
        """alpha, beta and gamma with intervals, from the samples that `fraction="auto"` calls difficult."""
        difficult = most_difficult(self.difficulty, auto_fraction(self.difficulty))
        return estimate_graph(self._graph_sample, self._in_band(), self.cluster, difficult, self.classes, self.seed)

    def recut(self, pos_high: float | None = None, pos_low: float | None = None) -> "Curation":
        """The same curation under other thresholds, without another scan; None keeps a threshold.

        Thresholds move to the nearest of about 140 similarities at which the per-sample histograms are cut, so counts
        and scores are exact there. `pairs` are those that the scan kept: with a sim_high above the first one's, pairs
        between the two were not kept and are not listed.
        """
        edges, now = self._profile_edges, self.thresholds
        sim_high = now.sim_high if pos_high is None else edge_at(self.histogram, pos_high, edges)
        sim_low = now.sim_low if pos_low is None else edge_at(self.histogram, pos_low, edges)
        thresholds = thresholds_at(self.histogram, sim_high, sim_low, edges)
        return replace(self, thresholds=thresholds)

    def select(
        self,
        strategy: str = "remove",
        fraction: float | Literal["auto"] = "auto",
        *,
        samples: SampleTable | None = None,
        provenance: Mapping[str, Any] | None = None,
        decisions: Mapping[int, bool] | None = None,
        duplicates: str = "keep",
    ) -> Manifest:
        """A manifest that applies a strategy.

        remove: the most difficult `fraction` is dropped. margin, temperature: all are kept, and the loss treats the
        difficult pairs. combined: both, the treatment for difficult pairs among the kept.
        fraction: share of samples to drop; `auto` is Otsu's split of the scores within 8% to 20%.
        samples: sample_id, sha256, uri, width, height, label of each sample, in order; the row number stands in.
        decisions: sample index to keep (True) or drop (False); they override the strategy.
        duplicates: keep; exact drops all but the first of equal files; near drops near duplicates too. How many there
            are stands in the description in any case.

        Raises InputError for an unknown strategy, a fraction outside [0, 1), or a table of another length.
        """
        if fraction == "auto":
            fraction = auto_fraction(self.difficulty)
        return make_manifest(
            cluster=self.cluster,
            difficulty=self.difficulty,
            pairs=self._in_band(),
            beta=self.graph.beta.value,
            strategy=strategy,
            fraction=fraction,
            samples=samples,
            decisions=decisions or {},
            duplicates=duplicates,
            near=self.near,
            description={**self.describe(), **(provenance or {})},
        )

    def describe(self) -> dict[str, Any]:
        """Every figure and parameter, as JSON values: what a manifest's description and the service show."""
        graph = self.graph
        return {
            "classes": self.classes,
            "criteria": self.criteria,
            "thresholds": asdict(self.thresholds),
            "parameters": {"neighbours": self.neighbours, "seed": self.seed},
            "histogram": {
                "bins": len(self.histogram.counts),
                "range": [-1.0, 1.0],
                "counts": self.histogram.counts.tolist(),
                "exact": self.histogram.exact,
                "error": self.histogram.error,
            },
            "graph": {
                **{name: _finite(asdict(getattr(graph, name))) for name in ("alpha", "beta", "gamma")},
                **{name: getattr(graph, name) for name in ("n", "r", "n_d", "warning")},
            },
            "bounds": _finite(graph.bound()),
            "pairs_in_band": self.counted_pairs,
            "pairs_listed": len(self._in_band().a),
        }

    def files(self) -> dict[str, bytes]:
        """Everything as named files, to be read back by `curation_from_files`. Equal curations give equal bytes."""
        state = {
            "format": FORMAT,
            "classes": self.classes,
            "criteria": self.criteria,
            "thresholds": asdict(self.thresholds),
            "neighbours": self.neighbours,
            "seed": self.seed,
            "counts": self.histogram.counts.tolist(),
            "exact_edges": self.histogram.exact_edges.tolist(),
            "exact": self.histogram.exact,
            "error": self.histogram.error,
        }
        listed = pa.table({name: pa.array(getattr(self._listed, name)) for name in ("a", "b", "similarity")})
        near = {} if self.near is None else {"near.npy": npy_bytes(self.near)}
        return {
            **near,
            "curation.json": json.dumps(state, sort_keys=True).encode(),
            "samples.parquet": _parquet(self.samples),
            "pairs.parquet": _parquet(listed),
            "below.npy": npy_bytes(self._below),
            "profile_edges.npy": npy_bytes(self._profile_edges),
            "graph_rows.npy": npy_bytes(self._graph_sample.rows),
            "graph_similarity.npy": npy_bytes(self._graph_sample.similarity),
        }

    def _in_band(self) -> ListedPairs:
        similarity = self._listed.similarity
        inside = (similarity >= self.thresholds.sim_low) & (similarity < self.thresholds.sim_high)
        return ListedPairs(self._listed.a[inside], self._listed.b[inside], similarity[inside])


def curate(
    embeddings: Embeddings,
    classes: int | Literal["auto"] = "auto",
    pos_high: float | Literal["auto"] = "auto",
    pos_low: float = 0.95,
    neighbours: int = 64,
    device: str = "auto",
    exact: bool | Literal["auto"] = "auto",
    reference: int = 8192,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Curation:
    """Finds the difficult examples among embedded samples, without labels.

    embeddings: (N, d) floats, NumPy array, memory map or tensor, of any scale.
    classes: r + 1, or auto to estimate it. pos_high: auto is 1 / classes.
    neighbours: difficult partners to keep for each sample.
    exact: compare all pairs; auto does where, by a product timed on this machine, that takes at most half an hour, and
        logs what it picked. Otherwise each sample is compared with `reference` random ones, and the histogram's `error`
        bounds the error of every share read from it at 95% confidence.
    progress, checkpoint: as of `pair_scan`.

    Equal arguments give equal results on one machine. Raises InputError for embeddings that are not finite, zero, fewer
    than 4 or all alike, and for parameters out of range.
    """
    if neighbours < 1:
        raise InputError(f"neighbours is {neighbours}.", "Use 1 or more.")
    if pos_high != "auto" and not 0 < pos_high < pos_low < 1:
        raise InputError(
            f"pos_high is {pos_high} and pos_low {pos_low}.", "Use 0 < pos_high < pos_low < 1, or auto for pos_high."
        )
    rows = Rows(embeddings)
    found = estimate_classes(embeddings, classes, seed)
    # A small scan tells where the band lies, so that the large one can look inside it while it counts.
    scout = _sampled(len(rows), SCOUT, seed)
    sketch = pair_scan(rows.unit(scout), k=0).histogram
    edges = _profile_edges(sketch, exact_edges(BINS, bf16=computes_bf16(len(rows))))
    sim_high = edge_at(sketch, 1 / found.classes if pos_high == "auto" else pos_high, edges)
    sim_low = edge_at(sketch, pos_low, edges)
    scan = pair_scan(
        embeddings,
        neighbours,
        sim_high,
        sim_low,
        BINS,
        device,
        profile_edges=edges,
        reference=_reference(rows, exact, reference, seed),
        progress=progress,
        checkpoint=checkpoint,
    )
    return Curation(
        found.classes,
        found.criteria,
        thresholds_at(scan.histogram, sim_high, sim_low, edges),
        scan.histogram,
        neighbours,
        seed,
        found.labels,
        ListedPairs(*distinct_pairs(scan.indices, scan.similarities)),
        cumulative(scan.profile),
        scan.profile_edges,
        _graph_sample(rows, seed),
        near_duplicates(rows),
    )


def curation_from_files(files: Mapping[str, bytes]) -> Curation:
    """The curation whose `files()` these are."""
    state = json.loads(files["curation.json"])
    if state["format"] != FORMAT:
        raise InputError(f"The curation has format {state['format']}; this version reads {FORMAT}.", "Curate again.")
    pairs = pq.read_table(pa.BufferReader(files["pairs.parquet"]))
    counts = np.array(state["counts"], np.int64)
    return Curation(
        state["classes"],
        state["criteria"],
        Thresholds(**state["thresholds"]),
        Histogram(
            np.linspace(-1.0, 1.0, len(counts) + 1),
            counts,
            np.array(state["exact_edges"]),
            state["exact"],
            state["error"],
        ),
        state["neighbours"],
        state["seed"],
        pq.read_table(pa.BufferReader(files["samples.parquet"]))["cluster"].to_numpy(),
        ListedPairs(*(pairs[name].to_numpy() for name in ("a", "b", "similarity"))),
        _array(files["below.npy"]),
        _array(files["profile_edges.npy"]),
        PairSample(_array(files["graph_rows.npy"]), _array(files["graph_similarity.npy"])),
        _array(files["near.npy"]) if "near.npy" in files else None,
    )


def _reference(rows: Rows, exact: bool | Literal["auto"], reference: int, seed: int) -> npt.NDArray[np.int64] | None:
    """The samples to compare each one with; None for all of them."""
    count = len(rows)
    if exact is True or reference >= count:
        return None
    if reference < 1:
        raise InputError(f"reference is {reference}.", "Use the number of samples to compare each one with.")
    if exact == "auto":
        seconds = seconds_for_all_pairs(count, rows.dimension)
        if seconds <= EXACT_SECONDS:
            log.info("comparing all pairs of %d samples, about %.0f s", count, seconds)
            return None
        log.info("all pairs of %d samples would take %.0f s: comparing each with %d", count, seconds, reference)
    return _sampled(count, reference, seed)


def _sampled(count: int, size: int, seed: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).choice(count, min(size, count), replace=False))


def _profile_edges(histogram: Histogram, allowed: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Allowed edges near fixed percentiles, from -1 to 1."""
    wanted = np.array([histogram.quantile(float(share)) for share in PROFILE_SHARES])
    nearest = np.abs(allowed[None, :] - wanted[:, None]).argmin(axis=1)
    return np.unique(np.r_[-1.0, allowed[nearest], 1.0])


def _graph_sample(rows: Rows, seed: int) -> PairSample:
    chosen = _sampled(len(rows), GRAPH_SAMPLE, seed)
    unit = rows.unit(chosen)
    return PairSample(chosen, (unit @ unit.T).clamp_(-1.0, 1.0).numpy())


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """NaN and infinity as None, which JSON can say."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """The array as the content of an .npy file."""
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def _array(content: bytes) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array
