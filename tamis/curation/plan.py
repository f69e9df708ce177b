"""The plan of a curation: all that is decided before its scan, so that the scan may run elsewhere and in parts."""

import io
import json
import logging
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tamis.curation.asked import check_curation
from tamis.curation.blends import Blends, blend_score
from tamis.curation.classes import estimate_classes
from tamis.curation.difficulty import edge_at
from tamis.curation.duplicates import near_duplicates
from tamis.curation.estimate import PairSample
from tamis.curation.kept import KEPT
from tamis.curation.space import sampled
from tamis.errors import InputError
from tamis.scan.histogram import Histogram, exact_edges
from tamis.scan.pairs import choose_method, computes_bf16, pair_scan, seconds_needed
from tamis.scan.rows import Rows
from tamis.scan.task import Method, Shape, Task

log = logging.getLogger("tamis.curation.plan")

# With `exact="auto"`, all pairs are compared where that takes a slow device of this kind no longer than this.
EXACT_SECONDS = 1800.0
BINS = 2048
SCOUT = 8192
GRAPH_SAMPLE = 512
# Percentiles of all pairs at which the per-sample histograms are cut: dense where pos_high is sought.
PROFILE_SHARES = np.concatenate([np.arange(0.005, 0.5, 0.005), np.arange(0.5, 0.9, 0.02), np.arange(0.9, 1.0, 0.005)])


@dataclass(frozen=True, eq=False)
class Plan:
    """What to scan for, and what a curation knows without the scan.

    task: its band is that of the curation, its k the partners in the band to keep. method: how to scan. neighbours: the
        partners among which difficult pairs are sought.
    classes, criteria, cluster: as of `estimate_classes`. blend_score: (N,) float32, see there. graph_sample: random
        pairs, for the estimate of the graph. near: as of `near_duplicates`.
    """

    task: Task
    method: Method
    neighbours: int
    classes: int
    criteria: dict[str, int]
    cluster: npt.NDArray[np.int32]
    blend_score: npt.NDArray[np.float32]
    graph_sample: PairSample
    near: npt.NDArray[np.int64] | None
    seed: int

    def content(self) -> bytes:
        """Everything, to be read back by `plan_from_content`."""
        task = self.task
        state = {
            "task": {"k": task.k, "low": task.low, "high": task.high, "bins": task.bins},
            "method": asdict(self.method),
            "neighbours": self.neighbours,
            "classes": self.classes,
            "criteria": self.criteria,
            "seed": self.seed,
        }
        arrays: dict[str, Any] = {
            "state": json.dumps(state),
            "profile_edges": task.profile_edges,
            "cluster": self.cluster,
            "blend_score": self.blend_score,
            "graph_rows": self.graph_sample.rows,
            "graph_similarity": self.graph_sample.similarity,
        }
        arrays |= {} if task.columns is None else {"columns": task.columns}
        arrays |= {} if self.near is None else {"near": self.near}
        sink = io.BytesIO()
        np.savez(sink, **arrays)
        return sink.getvalue()


def plan_from_content(content: bytes) -> Plan:
    """The plan whose `content()` this is."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays: dict[str, npt.NDArray[Any]] = dict(stored)
    state = json.loads(str(arrays["state"]))
    method = state["method"]
    shape = method["shape"] and Shape(**method["shape"])
    return Plan(
        Task(**state["task"], profile_edges=arrays["profile_edges"], columns=arrays.get("columns")),
        Method(method["device"], method["bf16"], shape),
        state["neighbours"],
        state["classes"],
        state["criteria"],
        arrays["cluster"],
        arrays["blend_score"],
        PairSample(arrays["graph_rows"], arrays["graph_similarity"]),
        arrays.get("near"),
        state["seed"],
    )


def make_plan(
    rows: Rows,
    classes: int | Literal["auto"],
    pos_high: float | Literal["auto"],
    pos_low: float,
    neighbours: int,
    device: str,
    exact: bool | Literal["auto"] = "auto",
    reference: int = 8192,
    seed: int = 0,
    blends: Blends | None = None,
) -> Plan:
    """The first of the three steps of `tamis.curate`, where the parameters are explained."""
    check_curation(classes, pos_high, pos_low, neighbours)
    found = estimate_classes(rows, classes, seed)
    # A small scan tells where the band lies, so that the large one can look inside it while it counts.
    sketch = pair_scan(rows.unit(sampled(len(rows), SCOUT, np.random.default_rng(seed))), k=0).histogram
    edges = _profile_edges(sketch, exact_edges(BINS, bf16=computes_bf16(len(rows))))
    partners = min(neighbours, max(1, KEPT // len(rows)))
    method = choose_method(rows, device, partners, len(edges))
    task = Task(
        partners,
        low=edge_at(sketch, pos_low, edges),
        # Of one class no pair is between classes; a band is there all the same, for what-ifs.
        high=edge_at(sketch, 1 / max(2, found.classes) if pos_high == "auto" else pos_high, edges),
        bins=BINS,
        profile_edges=edges,
        columns=_columns(rows, method, exact, reference, seed),
    )
    return Plan(
        task,
        method,
        neighbours,
        found.classes,
        found.criteria,
        found.labels,
        blend_score(rows, blends, seed),
        _graph_sample(rows, seed),
        near_duplicates(rows),
        seed,
    )


def _columns(
    rows: Rows, method: Method, exact: bool | Literal["auto"], reference: int, seed: int
) -> npt.NDArray[np.int64] | None:
    """The samples to compare each one with; None for all of them."""
    count = len(rows)
    if exact is True or reference >= count:
        return None
    if reference < 1:
        raise InputError(f"reference is {reference}.", "Use the number of samples to compare each one with.")
    if exact == "auto":
        if seconds_needed(rows, None, method) <= EXACT_SECONDS:
            log.info("comparing all pairs of %d samples", count)
            return None
        log.info("all pairs of %d samples are too many: comparing each with %d", count, reference)
    return sampled(count, reference, np.random.default_rng(seed))


def _profile_edges(histogram: Histogram, allowed: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Allowed edges near fixed percentiles, from -1 to 1."""
    wanted = np.array([histogram.quantile(float(share)) for share in PROFILE_SHARES])
    nearest = np.abs(allowed[None, :] - wanted[:, None]).argmin(axis=1)
    return np.unique(np.r_[-1.0, allowed[nearest], 1.0])


def _graph_sample(rows: Rows, seed: int) -> PairSample:
    chosen = sampled(len(rows), GRAPH_SAMPLE, np.random.default_rng(seed))
    unit = rows.unit(chosen)
    return PairSample(chosen, (unit @ unit.T).clamp_(-1.0, 1.0).numpy())
