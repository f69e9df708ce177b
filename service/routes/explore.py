"""What a curation's page draws: its pairs by every filter, and as counts, bits and places what it can be cut into."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Request, Response

from service import schemas
from service.counts import cluster_counts, confusion, rank
from service.cursors import read_cursor
from service.pairs import Box, PairFilter, Sort, pairs_page
from service.ranking import Order, ranked_page
from service.requests import CheckedRoute
from service.results import Result
from service.routes.common import BackendDep, Cursor, Limit, NumberFilter, matches
from service.verdicts import Which
from tamis.errors import InputError

router = APIRouter(route_class=CheckedRoute, prefix="/curations/{curation_id}", tags=["explore"])

ARROW = "application/vnd.apache.arrow.stream"

Similarity = Annotated[float | None, Query(ge=-2, le=2, allow_inf_nan=False)]
Difficulty = Annotated[float | None, Query(allow_inf_nan=False)]
Share = Annotated[float | None, Query(ge=0, le=1)]


@dataclass(frozen=True)
class Asked:
    """Similarities in [sim_low, sim_high); or as shares of all pairs above the ends, pos_low and pos_high."""

    sim_low: Similarity = None
    sim_high: Similarity = None
    pos_low: Share = None
    pos_high: Share = None
    cluster_a: NumberFilter = None
    cluster_b: NumberFilter = None
    sample: NumberFilter = None
    apart: bool | None = None
    decision: Which | None = None
    hardest: NumberFilter = None
    box: Annotated[str | None, Query(max_length=200, description="x from, y from, x to, y to on the map.")] = None

    def of(self, result: Result) -> PairFilter:
        return PairFilter(
            _end("low", self.sim_low, self.pos_low, result),
            _end("high", self.sim_high, self.pos_high, result),
            self.cluster_a,
            self.cluster_b,
            self.sample,
            self.apart,
            self.decision,
            self.hardest,
            None if self.box is None else _box(self.box),
        )


def _box(text: str) -> Box:
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError:
        raise InputError(f"The box {text[:100]!r} is not four numbers.", "Write it as x,y,x,y.") from None
    return left, top, right, bottom


def _end(end: str, similarity: float | None, share: float | None, result: Result) -> float | None:
    if similarity is not None and share is not None:
        raise InputError(f"sim_{end} and pos_{end} both say where the cut ends.", "Give one of them.")
    return similarity if share is None else result.similarity_at(share)


FilterDep = Annotated[Asked, Depends()]


def read_sample_filter(
    cluster: NumberFilter = None,
    label: Annotated[schemas.Text | None, Query(max_length=1000)] = None,
    decision: Which | None = None,
    difficulty_low: Difficulty = None,
    difficulty_high: Difficulty = None,
) -> schemas.SampleFilter:
    return schemas.SampleFilter(
        cluster=cluster,
        label=label,
        decision=decision,
        difficulty_low=difficulty_low,
        difficulty_high=difficulty_high,
    )


@router.get("/pairs", response_model=schemas.PairPage)
def list_pairs(
    curation_id: str,
    wanted: FilterDep,
    backend: BackendDep,
    sort: Sort = "-difficulty",
    cursor: Cursor = None,
    offset: NumberFilter = None,
    limit: Limit = 100,
) -> Response:
    """The listed pairs, of each sample's most similar partners the most difficult first, both sides described.

    A page begins at `cursor`, or at row `offset` of the list, which may be anywhere.
    """
    result = backend.results.open(curation_id)
    places = backend.selections.places(result, wanted.of(result), sort)
    return _json(pairs_page(result, places, offset=_beginning(cursor, offset), limit=limit))


@router.get("/pairs/rank")
def rank_pair(
    curation_id: str, backend: BackendDep, similarity: Annotated[float, Query(ge=-2, le=2, allow_inf_nan=False)]
) -> schemas.PairRank:
    """Where a similarity stands among all pairs, and at which row of the list that is sorted by -similarity."""
    return rank(backend.results.open(curation_id).columns, similarity)


@router.get("/samples", response_model=schemas.SamplePage)
def list_samples(
    curation_id: str,
    backend: BackendDep,
    wanted: Annotated[schemas.SampleFilter, Depends(read_sample_filter)],
    sort: Order = "-difficulty",
    cursor: Cursor = None,
    offset: NumberFilter = None,
    limit: Limit = 100,
) -> Response:
    """The samples with what was found about them, the most difficult first; by cluster, label, decision, difficulty."""
    result = backend.results.open(curation_id)
    return _json(ranked_page(result, wanted, sort, _beginning(cursor, offset), limit))


@router.get("/recut")
def recut(curation_id: str, request: Request, backend: BackendDep) -> Response:
    """What every cut gives, as an Arrow table of one row an edge: `edge`; of all pairs (`pairs`) and of the listed ones
    (`listed`) how many lie below it; and `samples`, a list: a cut from edge i to edge j touches samples[i][j] -
    samples[i][i] of them."""
    result = backend.results.open(curation_id)
    told = result.columns.what_if
    table = pa.table(
        {
            "edge": told.edges,
            "pairs": told.pairs.astype(np.float64),
            "listed": told.listed.astype(np.float64),
            "samples": pa.FixedSizeListArray.from_arrays(pa.array(told.samples.ravel()), len(told.edges)),
        }
    )
    return _fixed(request, f"{result.key}-recut", lambda: table)


@router.get("/map")
def get_map(curation_id: str, request: Request, backend: BackendDep) -> Response:
    """Where a map draws each sample, as an Arrow table of `sample`, `x`, `y`, `cluster`, `difficulty`.

    The order is random, so that the first rows are a fair part of all."""
    result = backend.results.open(curation_id)
    columns = result.columns
    order = np.asarray(columns.order)

    def made() -> pa.Table:
        places = result.positions[order]
        return pa.table(
            {
                "sample": order.astype(np.uint32),
                "x": places[:, 0],
                "y": places[:, 1],
                "cluster": columns.cluster[order].astype(np.uint32),
                "difficulty": columns.sample_difficulty[order],
            }
        )

    return _fixed(request, f"{result.key}-{result.layout_key}-map", made)


@router.get("/flags", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}})
def get_flags(curation_id: str, wanted: FilterDep, backend: BackendDep) -> Response:
    """One bit a sample, in the order of the map, the first the lowest of its byte: whether a pair of the filter has it.

    X-Pairs and X-Samples tell how many pairs these are, and samples.
    """
    result = backend.results.open(curation_id)
    places = backend.selections.places(result, wanted.of(result))
    touched = np.zeros(result.samples, bool)
    touched[result.columns.a[places]] = touched[result.columns.b[places]] = True
    bits = np.packbits(touched[np.asarray(result.columns.order)], bitorder="little").tobytes()
    counts = {"x-pairs": str(len(places)), "x-samples": str(int(touched.sum()))}
    return Response(bits, media_type="application/octet-stream", headers=counts)


@router.get("/confusion", response_model=schemas.Confusion)
def get_confusion(curation_id: str, wanted: FilterDep, backend: BackendDep) -> Response:
    """How many listed pairs of the filter lie between each two clusters, as [cluster, cluster, pairs], most first;
    `arranged` is an order of the clusters in which those alike stand side by side."""
    result = backend.results.open(curation_id)
    return _json(confusion(result.columns, backend.selections.places(result, wanted.of(result))))


@router.get("/clusters")
def list_clusters(curation_id: str, backend: BackendDep) -> schemas.Clusters:
    """Each cluster's size, mean difficulty, medoid, and how many listed pairs it has inside and with others."""
    return schemas.Clusters(items=cluster_counts(backend.results.open(curation_id).columns))


def _beginning(cursor: str | None, offset: int | None) -> int:
    if cursor is not None and offset is not None:
        raise InputError("cursor and offset both say where the page begins.", "Give one of them.")
    return read_cursor(cursor) if offset is None else offset


def _json(value: Any) -> Response:
    """A body that needs no checking: it was made of numbers and names a few lines above."""
    return Response(json.dumps(value), media_type="application/json")


def _fixed(request: Request, name: str, made: Any) -> Response:
    """An Arrow stream of a result that never changes, or nothing to whom has it already."""
    headers = {"etag": f'"{name}"', "cache-control": "private, no-cache"}
    if matches(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    sink = pa.BufferOutputStream()
    table = made()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return Response(sink.getvalue().to_pybytes(), media_type=ARROW, headers=headers)
