"""What a curation's page draws: its pairs by every filter, and as counts, bits and places what it can be cut into."""

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json

from service import filters, schemas
from service.counts import cluster_counts, confusion, rank
from service.cursors import read_cursor
from service.pairs import pair_filter, pairs_page
from service.ranking import ranked_page
from service.requests import CheckedRoute
from service.routes.common import BackendDep, matches

router = APIRouter(route_class=CheckedRoute, prefix="/curations/{curation_id}", tags=["explore"])

ARROW = "application/vnd.apache.arrow.stream"

PairsDep = Annotated[filters.PairFilter, Query()]


@router.get("/pairs", response_model=schemas.PairPage)
def list_pairs(curation_id: str, asked: Annotated[filters.PairsAsked, Query()], backend: BackendDep) -> Response:
    """The listed pairs, of each sample's most similar partners the most difficult first, both sides described."""
    offset, result = _beginning(asked), backend.results.open(curation_id)
    places = backend.selections.places(result, pair_filter(asked, result), asked.sort)
    return _json(pairs_page(result, places, offset=offset, limit=asked.limit))


@router.get("/pairs/rank")
def rank_pair(
    curation_id: str, backend: BackendDep, similarity: Annotated[filters.Similarity, Query()]
) -> schemas.PairRank:
    """Where a similarity stands among all pairs, and at which row of the list that is sorted by -similarity."""
    return rank(backend.results.open(curation_id).columns, similarity)


@router.get("/samples", response_model=schemas.SamplePage)
def list_samples(curation_id: str, asked: Annotated[filters.SamplesAsked, Query()], backend: BackendDep) -> Response:
    """The samples with what was found about them, the most difficult first; by cluster, label, decision, difficulty."""
    offset, result = _beginning(asked), backend.results.open(curation_id)
    return _json(ranked_page(result, asked, asked.sort, offset, asked.limit))


@router.get("/recut")
def recut(curation_id: str, request: Request, backend: BackendDep) -> Response:
    """What every cut gives, as an Arrow table of one row an edge: `edge`; of all pairs (`pairs`) and of the listed ones
    (`listed`) how many lie below it; and `samples`, a list: a cut from edge i to edge j touches samples[i][j] -
    samples[i][i] of them."""
    result = backend.results.open(curation_id)

    def made() -> pa.Table:
        told = result.columns.what_if
        return pa.table(
            {
                "edge": told.edges,
                "pairs": told.pairs.astype(np.float64),
                "listed": told.listed.astype(np.float64),
                "samples": pa.FixedSizeListArray.from_arrays(pa.array(told.samples.ravel()), len(told.edges)),
            }
        )

    return _fixed(request, f"{result.key}-recut", made)


@router.get("/map")
def get_map(curation_id: str, request: Request, backend: BackendDep) -> Response:
    """Where a map draws each sample, as an Arrow table of `sample`, `x`, `y`, `cluster`, `difficulty`.

    The order is random, so that the first rows are a fair part of all."""
    result = backend.results.open(curation_id)

    def made() -> pa.Table:
        columns = result.columns
        order = columns.order
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
def get_flags(curation_id: str, wanted: PairsDep, backend: BackendDep) -> Response:
    """One bit a sample, in the order of the map, the first the lowest of its byte: whether a pair of the filter has it.

    X-Pairs and X-Samples tell how many pairs these are, and samples.
    """
    result = backend.results.open(curation_id)
    places = backend.selections.places(result, pair_filter(wanted, result))
    touched = np.zeros(result.samples, bool)
    touched[result.columns.a[places]] = touched[result.columns.b[places]] = True
    bits = np.packbits(touched[np.asarray(result.columns.order)], bitorder="little").tobytes()
    counts = {"x-pairs": str(len(places)), "x-samples": str(int(touched.sum()))}
    return Response(bits, media_type="application/octet-stream", headers=counts)


@router.get("/confusion", response_model=schemas.Confusion)
def get_confusion(curation_id: str, wanted: PairsDep, backend: BackendDep) -> Response:
    """How many listed pairs of the filter lie between each two clusters, as [cluster, cluster, pairs], most first;
    `arranged` is an order of the clusters in which those alike stand side by side."""
    result = backend.results.open(curation_id)
    return _json(confusion(result.columns, backend.selections.places(result, pair_filter(wanted, result))))


@router.get("/clusters")
def list_clusters(curation_id: str, backend: BackendDep) -> schemas.Clusters:
    """Each cluster's size, mean difficulty, medoid, and how many listed pairs it has inside and with others."""
    return schemas.Clusters(items=cluster_counts(backend.results.open(curation_id).columns))


def _beginning(asked: filters.PagePlace) -> int:
    return read_cursor(asked.cursor) if asked.offset is None else asked.offset


def _json(value: Any) -> Response:
    """A body that needs no checking: it was made of numbers and names a few lines above."""
    return Response(to_json(value), media_type="application/json")


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
