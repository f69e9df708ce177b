"""Curation: from embeddings to the difficult examples, and from them to a manifest."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.checkpoint import Checkpoint
from tamis.curation.asked import check_curation, check_selection
from tamis.curation.blends import Blends
from tamis.curation.difficulty import (
    ListedPairs,
    Thresholds,
    auto_fraction,
    band_share,
    cumulative,
    distinct_pairs,
    edge_at,
    most_difficult,
    thresholds_at,
)
from tamis.curation.estimate import GraphEstimate, PairSample, estimate_graph
from tamis.curation.features import band_features, band_of
from tamis.curation.pairs import DifficultPairs, difficult_pairs
from tamis.curation.plan import Plan, make_plan
from tamis.curation.selection import Band, SampleTable, make_manifest, treatment_of
from tamis.errors import InputError
from tamis.manifest import Manifest, array_of, npy_bytes
from tamis.progress import Progress
from tamis.scan.histogram import Histogram
from tamis.scan.pairs import PairScan, scan_all
from tamis.scan.rows import Embeddings, Rows
from tamis.shown import facts

FORMAT = 4
LISTED = ("a", "b", "similarity")


@dataclass(frozen=True, eq=False)
class Curation:
    """The difficult examples of a data set, under one choice of thresholds.

    classes: the estimate of r + 1; 1 where the samples do not fall into classes, and then nothing is called difficult.
    criteria: the estimate with its interval.
    thresholds: the band; its ends are edges, so every count and score read at them is exact.
    histogram: similarities of all unordered pairs.
    score: what `difficulty` is, one of SCORES in asked.py.
    neighbours: partners of each sample that were looked at. method: how all were compared, as JSON values; None in
        curations stored before it was recorded.
    near: (N,) int64, for each sample the one it repeats, see `near_duplicates`; None where they were not looked for.
    """

    classes: int
    criteria: dict[str, int]
    thresholds: Thresholds
    histogram: Histogram
    neighbours: int
    score: str
    seed: int
    cluster: npt.NDArray[np.int32]
    _difficult: DifficultPairs
    _listed: ListedPairs
    _blend_score: npt.NDArray[np.float32]
    _below: npt.NDArray[Any]
    _profile_edges: npt.NDArray[np.float64]
    _graph_sample: PairSample
    _features: npt.NDArray[np.float16]
    near: npt.NDArray[np.int64] | None
    method: dict[str, Any] | None

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
        """(N,) float32, higher is more difficult. By score:

        blend: how far the sample is from others, and how likely it is a blend of two (see `blends.py`).
        band: the share of its pairs in the upper part of the band, after the paper's rule (see `difficulty.py`).
        """
        if self.score == "blend":
            return self._blend_score
        return band_share(self._below, self._profile_edges, self.thresholds.sim_score, self.thresholds.sim_high)

    @cached_property
    def pairs(self) -> pa.Table:
        """a int64, b int64 (a < b), similarity float32, in_band bool, difficulty float32: of each sample's `neighbours`
        most similar partners the most difficult first, each pair once (see `pairs.py`).

        Which pairs these are, and their order, does not depend on the thresholds; whether they are in the band does.
        """
        found = self._difficult
        return pa.table(
            {
                "a": found.a,
                "b": found.b,
                "similarity": found.similarity,
                "in_band": self._inside(found.similarity),
                "difficulty": found.difficulty,
            }
        )

    @property
    def counted_pairs(self) -> int:
        """How many of all pairs lie in the band."""
        edges, counts = self.histogram.edges, self.histogram.counts
        first, last = np.searchsorted(edges, [self.thresholds.sim_low, self.thresholds.sim_high])
        return int(counts[first:last].sum())

    @cached_property
    def graph(self) -> GraphEstimate:
        """alpha, beta and gamma with intervals, from the samples that `fraction="auto"` calls difficult."""
        difficult = most_difficult(self.difficulty, self._auto_fraction())
        return estimate_graph(self._graph_sample, self._features, self.cluster, difficult, self.classes, self.seed)

    def recut(
        self, pos_high: float | None = None, pos_low: float | None = None, score: str | None = None
    ) -> "Curation":
        """The same curation under other thresholds or another score, without another scan; None keeps what is.

        Thresholds move to the nearest of about 140 similarities at which the per-sample histograms are cut, so counts
        and band scores are exact there; blend scores and pairs do not depend on them. A manifest's band moves with
        them; of the pairs it lists beyond `pairs`, only those are known that the scan kept for its own sim_high.
        """
        score = self.score if score is None else score
        check_curation(score=score)
        edges, now = self._profile_edges, self.thresholds
        sim_high = now.sim_high if pos_high is None else edge_at(self.histogram, pos_high, edges)
        sim_low = now.sim_low if pos_low is None else edge_at(self.histogram, pos_low, edges)
        thresholds = thresholds_at(self.histogram, sim_high, sim_low, edges)
        return replace(self, thresholds=thresholds, score=score)

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
        difficult pairs, which are those of the band: see `treatment_of`. combined: removal, margin and temperature.
        auto: temperature, which alone of them was found to pay; nothing where there is one class.
        fraction: share to drop, of the samples left without the duplicates that are dropped; `auto` is the share of
            those nearer to blends than to samples, a fifth at most (`auto_fraction`), and none of one class.
        samples: sample_id, sha256, uri, width, height, label of each sample, in order; the row number stands in.
        decisions: sample index to keep (True) or drop (False); they override the strategy.
        duplicates: keep; exact drops all but the first of equal files; near drops near duplicates too. How many there
            are stands in the description in any case.

        Raises InputError for an unknown strategy, a fraction outside [0, 1), and a table of another length.
        """
        check_selection(strategy, fraction, duplicates)
        if fraction == "auto":
            fraction = self._auto_fraction()
        return make_manifest(
            cluster=self.cluster,
            difficulty=self.difficulty,
            pairs=self._for_manifest(),
            band=self._band(strategy),
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
            "parameters": {
                "neighbours": self.neighbours,
                "score": self.score,
                "seed": self.seed,
                "method": self.method,
            },
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
            "pairs_listed": len(self._difficult.a),
            "pairs_recall": self._difficult.recall,
        }

    def _repr_html_(self) -> str:
        cut, graph = self.thresholds, self.graph
        told = {
            "classes": self.classes,
            "band": f"similarity {cut.sim_low:.4f} to {cut.sim_high:.4f}, {self.counted_pairs:,} pairs",
            "difficult": f"{graph.n_d:,} samples, {len(self._difficult.a):,} pairs listed",
        }
        return facts(f"Curation of {len(self.cluster):,} samples", told | {"read with care": graph.warning})

    def files(self) -> dict[str, bytes]:
        """Everything as named files, to be read back by `curation_from_files`. Equal curations give equal bytes."""
        state = {
            "format": FORMAT,
            "classes": self.classes,
            "criteria": self.criteria,
            "thresholds": asdict(self.thresholds),
            "pairs_recall": self._difficult.recall,
            "neighbours": self.neighbours,
            "score": self.score,
            "seed": self.seed,
            "method": self.method,
            "counts": self.histogram.counts.tolist(),
            "exact_edges": self.histogram.exact_edges.tolist(),
            "exact": self.histogram.exact,
            "error": self.histogram.error,
        }
        listed = pa.table({name: getattr(self._listed, name) for name in LISTED})
        difficult = pa.table({name: getattr(self._difficult, name) for name in (*LISTED, "difficulty")})
        near = {} if self.near is None else {"near.npy": npy_bytes(self.near)}
        return {
            **near,
            "curation.json": json.dumps(state, sort_keys=True).encode(),
            "samples.parquet": _parquet(self.samples),
            "pairs.parquet": _parquet(difficult),
            "band.parquet": _parquet(listed),
            "blend_score.npy": npy_bytes(self._blend_score),
            "below.npy": npy_bytes(self._below),
            "profile_edges.npy": npy_bytes(self._profile_edges),
            "graph_rows.npy": npy_bytes(self._graph_sample.rows),
            "graph_similarity.npy": npy_bytes(self._graph_sample.similarity),
            "features.npy": npy_bytes(self._features),
        }

    def _auto_fraction(self) -> float:
        return 0.0 if self.classes == 1 else auto_fraction(self._blend_score)

    def _band(self, strategy: str) -> Band | None:
        treatment = treatment_of(strategy, self.classes)
        if treatment is None:
            return None
        cut = self.thresholds
        return Band(self._features, *band_of(self._features, cut.pos_high, cut.pos_low, self.seed), *treatment)

    def _in_band(self) -> ListedPairs:
        """The scan's pairs that are in the band; none where there is one class, and so no pair of two."""
        inside = self._inside(self._listed.similarity) & (self.classes > 1)
        return ListedPairs(*(getattr(self._listed, name)[inside] for name in LISTED))

    def _inside(self, similarity: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = (similarity >= self.thresholds.sim_low) & (
            similarity < self.thresholds.sim_high
        )
        return inside

    def _for_manifest(self) -> pa.Table:
        """a, b, similarity, in_band: `pairs` in their order, and then what else is in the band, most similar first."""
        band, shown = self._in_band(), self.pairs.select([*LISTED, "in_band"])
        count = len(self.cluster)
        rest = ~np.isin(band.a * count + band.b, self._difficult.a * count + self._difficult.b)
        more = pa.table({name: getattr(band, name)[rest] for name in LISTED})
        return pa.concat_tables([shown, more.append_column("in_band", pa.array(np.ones(more.num_rows, bool)))])


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
    score: str = "blend",
    blends: Blends | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Curation:
    """Finds the difficult examples among embedded samples, without labels.

    embeddings: (N, d) floats, NumPy array, memory map or tensor, of any scale.
    classes: r + 1, or auto to estimate it (see `estimate_classes`). pos_high: auto is 1 / classes.
    neighbours: partners of each sample to look at. Of these pairs 16,777,216 are kept, or one a sample if that is more:
        the most difficult and each sample's own (see `kept.py`); and as many of the band, each sample's most similar.
    exact: compare all pairs; auto does where that takes two cores of this kind, or a small GPU, at most half an hour
        (`seconds_needed`: of 512 dimensions 411,000 samples in float32, 750,000 in bf16, 5.3 million on a GPU), and
        logs what it picked. Otherwise each sample is compared with `reference` random ones, and the histogram's `error`
        bounds the error of every share read from it at 95% confidence.
    score: what a sample's difficulty is, `blend` or the paper's `band` (see `Curation.difficulty`).
    blends: embedded blends of the images, which tell difficult samples far better than midpoints of embeddings alone;
        `draw_parents` says of which images.
    progress, checkpoint: as of `pair_scan`.

    Equal arguments give equal results on machines of one kind. Raises InputError for embeddings that are not finite,
    zero, fewer than 4 or all alike, and for parameters out of range.
    """
    check_curation(score=score)
    rows = Rows(embeddings)
    plan = make_plan(rows, classes, pos_high, pos_low, neighbours, device, exact, reference, seed, blends)
    return assemble(rows, plan, scan_all(rows, plan.task, plan.method, progress, checkpoint), score)


def assemble(rows: Rows, plan: Plan, scan: PairScan, score: str) -> Curation:
    """The curation, from its plan and what the planned scan found."""
    task = plan.task
    return Curation(
        plan.classes,
        plan.criteria,
        thresholds_at(scan.histogram, task.high, task.low, scan.profile_edges),
        scan.histogram,
        plan.neighbours,
        score,
        plan.seed,
        plan.cluster,
        difficult_pairs(rows, plan.neighbours, plan.classes, plan.seed),
        ListedPairs(*distinct_pairs(scan.indices, scan.similarities)),
        plan.blend_score,
        cumulative(scan.profile),
        scan.profile_edges,
        plan.graph_sample,
        band_features(rows, plan.seed),
        plan.near,
        # Of several GPUs of one machine, which one does not matter.
        {**asdict(plan.method), "device": plan.method.device.partition(":")[0]},
    )


def curation_from_files(files: Mapping[str, bytes]) -> Curation:
    """The curation whose `files()` these are."""
    state = json.loads(files["curation.json"])
    if state["format"] != FORMAT:
        raise InputError(f"The curation has format {state['format']}; this version reads {FORMAT}.", "Curate again.")
    difficult, listed = (pq.read_table(pa.BufferReader(files[name])) for name in ("pairs.parquet", "band.parquet"))
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
        state["score"],
        state["seed"],
        pq.read_table(pa.BufferReader(files["samples.parquet"]))["cluster"].to_numpy(),
        DifficultPairs(
            **{name: difficult[name].to_numpy() for name in (*LISTED, "difficulty")}, recall=state["pairs_recall"]
        ),
        ListedPairs(*(listed[name].to_numpy() for name in LISTED)),
        array_of(files["blend_score.npy"]),
        array_of(files["below.npy"]),
        array_of(files["profile_edges.npy"]),
        PairSample(array_of(files["graph_rows.npy"]), array_of(files["graph_similarity.npy"])),
        array_of(files["features.npy"]),
        array_of(files["near.npy"]) if "near.npy" in files else None,
        state.get("method"),
    )


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """NaN and infinity as None, which JSON can say."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
