"""Pages of a curation's difficult pairs, with what is known of both samples."""

from typing import Any

from service.backend import Backend
from service.cursors import read_cursor, write_cursor
from tamis.errors import ConflictError, InputError, NotFoundError
from tamis.store.schema import Curation

SORTS = {
    "-difficulty": "pair_difficulty DESC, a, b",
    "-similarity": "similarity DESC, a, b",
    "similarity": "similarity, a, b",
}

# The band's ends become float32 as the similarities are. A page is cut before the samples are joined to it, not after.
TABLES = """
WITH pairs AS (
    SELECT a, b, similarity, difficulty AS pair_difficulty,
           similarity >= CAST($sim_low AS FLOAT) AND similarity < CAST($sim_high AS FLOAT) AS in_band
    FROM read_parquet($pairs)
),
scores AS (SELECT "index" AS i, cluster, difficulty FROM read_parquet($samples))
"""
PAGE = """,
page AS (SELECT * FROM pairs {where} ORDER BY {order} LIMIT $limit OFFSET $offset)
SELECT page.*, sa.cluster AS a_cluster, sa.difficulty AS a_difficulty, ia.sample_id AS a_id, ia.label AS a_label,
       ia.width AS a_width, ia.height AS a_height, ib.width AS b_width, ib.height AS b_height,
       sb.cluster AS b_cluster, sb.difficulty AS b_difficulty, ib.sample_id AS b_id, ib.label AS b_label
FROM page
JOIN scores sa ON sa.i = page.a JOIN scores sb ON sb.i = page.b
JOIN read_parquet($index, file_row_number = true) ia ON ia.file_row_number = page.a
JOIN read_parquet($index, file_row_number = true) ib ON ib.file_row_number = page.b
ORDER BY {order}
"""
COUNT = "SELECT count(*) AS total FROM pairs {where}"


def pairs_page(
    backend: Backend,
    curation_id: str,
    *,
    sort: str = "-difficulty",
    cursor: str | None = None,
    limit: int = 100,
    sample: int | None = None,
    cluster_a: int | None = None,
    cluster_b: int | None = None,
) -> dict[str, Any]:
    """One page as {items, total, offset, next, previous}. Raises ConflictError before the curation has a result."""
    if sort not in SORTS:
        raise InputError(f"Pairs cannot be sorted by {sort!r}.", f"Use one of {', '.join(SORTS)}.")
    offset = read_cursor(cursor)
    with backend.catalog.session() as session:
        row = session.get(Curation, curation_id)
        if row is None:
            raise NotFoundError(f"There is no curation {curation_id}.")
        if row.result_key is None or row.summary is None or row.dataset.index_key is None:
            raise ConflictError(f"Curation {curation_id} is {row.state} and has no result.", "Wait until it succeeded.")
        prefix, index_key = row.result_key, row.dataset.index_key
        band = {name: row.summary["thresholds"][name] for name in ("sim_low", "sim_high")}
    files: dict[str, Any] = {
        "pairs": str(backend.tables.local(f"{prefix}/pairs.parquet")),
        "samples": str(backend.tables.local(f"{prefix}/samples.parquet")),
        **band,
    }
    where, chosen = _filter(sample, cluster_a, cluster_b)
    total = backend.tables.query(TABLES + COUNT.format(where=where), {**files, **chosen})[0]["total"]
    rows = backend.tables.query(
        TABLES + PAGE.format(where=where, order=SORTS[sort]),
        {**files, **chosen, "index": str(backend.tables.local(index_key)), "limit": limit, "offset": offset},
    )
    return {
        "items": [
            {
                "similarity": row["similarity"],
                "in_band": row["in_band"],
                "difficulty": row["pair_difficulty"],
                "a": _side(row, "a"),
                "b": _side(row, "b"),
            }
            for row in rows
        ],
        "total": total,
        "offset": offset,
        "next": write_cursor(offset + limit) if offset + limit < total else None,
        "previous": write_cursor(max(0, offset - limit)) if offset > 0 else None,
    }


def _filter(sample: int | None, cluster_a: int | None, cluster_b: int | None) -> tuple[str, dict[str, int]]:
    conditions, chosen = [], {}
    if sample is not None:
        conditions.append("(a = $sample OR b = $sample)")
        chosen["sample"] = sample
    for name, value in (("cluster_a", cluster_a), ("cluster_b", cluster_b)):
        if value is not None:
            conditions.append(
                f"(a IN (SELECT i FROM scores WHERE cluster = ${name}) OR "
                f"b IN (SELECT i FROM scores WHERE cluster = ${name}))"
            )
            chosen[name] = value
    if cluster_a is not None and cluster_a == cluster_b:
        conditions.append(
            "a IN (SELECT i FROM scores WHERE cluster = $cluster_a) AND "
            "b IN (SELECT i FROM scores WHERE cluster = $cluster_a)"
        )
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), chosen


def _side(row: dict[str, Any], side: str) -> dict[str, Any]:
    return {
        "index": row[side],
        "sample_id": row[f"{side}_id"],
        "label": row[f"{side}_label"],
        "width": row[f"{side}_width"],
        "height": row[f"{side}_height"],
        "cluster": row[f"{side}_cluster"],
        "difficulty": row[f"{side}_difficulty"],
    }
