"""Which of a curation's listed pairs a request means, and pages of them with what is known of both samples."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from service import filters
from service.columns import Columns, Places
from service.cursors import place_of_page
from service.results import Result
from service.verdicts import Which
from tamis.errors import InputError

Mask = npt.NDArray[np.bool_]
Box = tuple[float, float, float, float]
SORTS = get_args(filters.PairSort)
# Bytes that a remembered selection takes beside its places.
ENTRY = 1024


@dataclass(frozen=True)
class PairFilter:
    """Listed pairs with a similarity in [sim_low, sim_high); that have a sample in each of two clusters, or in one;
    that have one sample; of two clusters (`apart`) or of one; with a sample that was decided, or with none; and of all
    listed pairs, the `hardest` so many alone; with a sample that the map draws in a `box`: x from, y from, x to, y to.
    None leaves a condition out."""

    sim_low: float | None = None
    sim_high: float | None = None
    cluster_a: int | None = None
    cluster_b: int | None = None
    sample: int | None = None
    apart: bool | None = None
    decision: Which | None = None
    hardest: int | None = None
    box: Box | None = None


def pair_filter(asked: filters.PairFilter, result: Result) -> PairFilter:
    """What a request means, its shares of all pairs turned into similarities."""
    low, high = asked.sim_low, asked.sim_high
    return PairFilter(
        sim_low=low if asked.pos_low is None else result.similarity_at(asked.pos_low),
        sim_high=high if asked.pos_high is None else result.similarity_at(asked.pos_high),
        cluster_a=asked.cluster_a,
        cluster_b=asked.cluster_b,
        sample=asked.sample,
        apart=asked.apart,
        decision=asked.decision,
        hardest=asked.hardest,
        box=asked.box,
    )


class PairSelections:
    """The places of the pairs that filters mean. The latest are remembered, so that each page of a list is a slice."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._known: OrderedDict[Any, Places] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def places(self, result: Result, wanted: PairFilter, sort: str = "-difficulty") -> Places:
        """Places in the result's columns, in order. Raises InputError for an unknown `sort`."""
        if sort not in SORTS:
            raise InputError(f"Pairs cannot be sorted by {sort!r}.", f"Use one of {', '.join(SORTS)}.")
        verdicts = result.verdicts if wanted.decision else None
        layout = wanted.box and (result.layout_key or "plane")
        key = (result.key, wanted, sort, layout, verdicts and (result.curation, verdicts.version))
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        decided = verdicts.mask(wanted.decision, result.samples) if verdicts and wanted.decision else None
        boxed = _inside_box(result.positions, wanted.box) if wanted.box else None
        found = _places(result.columns, wanted, sort, decided, boxed)
        with self._lock:
            if key not in self._known:
                self._known[key] = found
                self._held += found.nbytes + ENTRY
            while self._held > self._memory:
                self._held -= self._known.popitem(last=False)[1].nbytes + ENTRY
        return found


def _places(columns: Columns, wanted: PairFilter, sort: str, decided: Mask | None, boxed: Mask | None) -> Places:
    """decided: (N,) the samples that have the decision which is asked for; of "undecided", those that have any.
    boxed: (N,) those in the box."""
    places, falling = _narrowest(columns, wanted, sort)
    if wanted.hardest is not None:
        places = places[places < wanted.hardest]
    if not falling:
        places = places[_inside(columns.similarity[places], wanted)]
    a, b = columns.a[places], columns.b[places]
    kept = np.ones(len(places), bool)
    for cluster in (wanted.cluster_a, wanted.cluster_b):
        if cluster is not None:
            kept &= np.asarray((columns.cluster[a] == cluster) | (columns.cluster[b] == cluster))
    if wanted.sample is not None:
        kept &= (a == wanted.sample) | (b == wanted.sample)
    if wanted.apart is not None:
        kept &= (columns.cluster[a] != columns.cluster[b]) == wanted.apart
    if decided is not None:
        kept &= (decided[a] | decided[b]) == (wanted.decision != "undecided")
    if boxed is not None:
        kept &= boxed[a] | boxed[b]
    places = places[kept]
    if sort != "-difficulty" and not falling:
        places = places[np.argsort(-columns.similarity[places], kind="stable")]
    return places[::-1] if sort == "similarity" else places


def _narrowest(columns: Columns, wanted: PairFilter, sort: str) -> tuple[Places, bool]:
    """As few places as one index tells, ascending; or, with True, those in the cut, the most similar first."""
    if wanted.sample is not None:
        return columns.pairs_of_sample(wanted.sample), False
    if wanted.cluster_a is not None and wanted.cluster_b is not None:
        return columns.pairs_of_clusters(wanted.cluster_a, wanted.cluster_b), False
    one = wanted.cluster_a if wanted.cluster_b is None else wanted.cluster_b
    if one is not None:
        return columns.pairs_of_cluster(one), False
    count = len(columns.a)
    if sort == "-difficulty":
        return np.arange(count if wanted.hardest is None else min(count, wanted.hardest), dtype=np.int32), False
    first, last = (
        count - int(np.searchsorted(columns.similarities, np.float32(end))) if end is not None else whole
        for end, whole in ((wanted.sim_high, 0), (wanted.sim_low, count))
    )
    return columns.by_similarity[first:last], True


def _inside_box(positions: npt.NDArray[np.float32], box: Box) -> Mask:
    low, high = np.array(box[:2]), np.array(box[2:])
    inside: Mask = np.all((positions >= low) & (positions <= high), axis=1)
    return inside


def _inside(similarity: npt.NDArray[np.float32], wanted: PairFilter) -> Mask:
    """The cut's ends become float32, as the similarities are."""
    inside = np.ones(len(similarity), bool)
    if wanted.sim_low is not None:
        inside &= similarity >= np.float32(wanted.sim_low)
    if wanted.sim_high is not None:
        inside &= similarity < np.float32(wanted.sim_high)
    return inside


def pairs_page(result: Result, places: Places, *, offset: int = 0, limit: int = 100) -> dict[str, Any]:
    """One page as {items, total, offset, next, previous}."""
    chosen, columns, cut = places[offset : offset + limit], result.columns, result.thresholds
    described = describe_samples(result, np.concatenate([columns.a[chosen], columns.b[chosen]]))
    similarity = columns.similarity[chosen]
    band = PairFilter(cut["sim_low"], cut["sim_high"])
    values = zip(
        similarity.tolist(),
        _inside(similarity, band).tolist(),
        columns.difficulty[chosen].tolist(),
        described[: len(chosen)],
        described[len(chosen) :],
        strict=True,
    )
    return {
        "items": [
            {"similarity": similar, "in_band": in_band, "difficulty": difficulty, "a": a, "b": b}
            for similar, in_band, difficulty, a, b in values
        ],
        **place_of_page(offset, limit, len(places)),
    }


def describe_samples(result: Result, numbers: npt.NDArray[np.integer]) -> list[dict[str, Any]]:
    """What is known of each of (n,) samples: index, name, label, size, cluster, difficulty, standing decision."""
    # By column, for rows of the table take as long to read as all the rest of a page.
    known = result.index.select(["sample_id", "label", "width", "height"]).take(numbers).to_pydict()
    clusters = result.columns.cluster[numbers].tolist()
    difficulties = result.columns.sample_difficulty[numbers].tolist()
    verdicts = result.verdicts
    return [
        {
            "index": number,
            "sample_id": name,
            "label": label,
            "width": width,
            "height": height,
            "cluster": cluster,
            "difficulty": difficulty,
            "decision": verdicts.of(number),
        }
        for number, name, label, width, height, cluster, difficulty in zip(
            numbers.tolist(), *known.values(), clusters, difficulties, strict=True
        )
    ]
