"""What the pages show, as plain values: the API's own answers, put together page by page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import defer, joinedload

from service import administration
from service.archives import OPEN_STATES
from service.backend import Backend
from service.bodies import NewCuration
from service.bounds import bound_parts
from service.counts import cluster_counts, rank
from service.cursors import read_cursor
from service.dashboard.trainings import ARMS, METHODS, of_curation
from service.pairs import PairFilter, describe_samples, pairs_page
from service.results import Result
from service.samples import one_sample, quarantine_page, spread_samples, summary
from service.views import (
    ACTIVE_STATES,
    brought_embeddings,
    curation_view,
    dataset_view,
    decisions_page,
    encoder_view,
    found,
    job_row,
    job_view,
    job_views,
    line_view,
    lines_of,
    manifest_view,
)
from tamis.report.histogram import Chart, draw
from tamis.store.catalog import page
from tamis.store.outages import WAITING
from tamis.store.schema import Curation, Dataset, JobLine, Manifest, StoredEncoder

DATASETS = 50
CURATIONS = 50
PAIRS = 25
THUMBNAILS = 24
QUARANTINED = 20
PARTNERS = 24
DECISIONS = 100
ENCODERS = 100
LINES = 100
AUDITED = 100

Values = dict[str, Any]


class PageViews:
    """Reads what the pages need; raises NotFoundError for what does not exist."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def datasets(self, cursor: str | None) -> Values:
        """A page of data sets, each with the latest of its curations, and the jobs that run or wait."""
        with self._backend.catalog.reading() as session:
            rows, following = page(session, sa.select(Dataset), Dataset, cursor, DATASETS)
            ids = [row.id for row in rows]
            # Ids sort by time, so the largest is the latest.
            newest = sa.select(sa.func.max(Curation.id)).where(Curation.dataset_id.in_(ids))
            query = sa.select(Curation).where(Curation.id.in_(newest.group_by(Curation.dataset_id)))
            latest = {row.dataset_id: curation_view(row).model_dump(mode="json") for row in session.scalars(query)}
            items = [{**dataset_view(row).model_dump(mode="json"), "latest": latest.get(row.id)} for row in rows]
        return {"items": items, "next": following, "jobs": self.jobs(only_active=True)}

    def dataset(self, dataset_id: str, quarantine_cursor: str | None) -> Values:
        with self._backend.catalog.reading() as session:
            dataset = dataset_view(found(session, Dataset, dataset_id)).model_dump(mode="json")
            query = sa.select(Curation).where(Curation.dataset_id == dataset_id)
            rows, _ = page(session, query, Curation, None, CURATIONS)
            curations = [curation_view(row).model_dump(mode="json") for row in rows]
            # The pace of this server: of the latest curation that trained an encoder, whatever the data set.
            trained = Curation.parameters["encoder"].as_string() == "simclr"
            ended = sa.select(Curation).where(Curation.state == "succeeded", trained).order_by(Curation.id.desc())
            latest = session.scalar(ended.options(joinedload(Curation.dataset), defer(Curation.summary)).limit(1))
            embeddings = session.scalar(brought_embeddings(dataset_id).limit(1)) is not None
        jobs = [job for job in self.jobs(only_active=True) if job["dataset"] == dataset_id]
        shown = {
            "dataset": dataset,
            "curations": curations,
            "embeddings": embeddings,
            "jobs": jobs,
            "open_states": OPEN_STATES,
        }
        if dataset["state"] != "succeeded":
            return {**shown, "thumbnails": [], "quarantine": None, "images": None}
        return {
            **shown,
            "images": summary(self._backend, dataset_id),
            "expected": expected_time(latest, dataset["samples"]),
            "thumbnails": spread_samples(self._backend, dataset_id, THUMBNAILS),
            "quarantine": quarantine_page(self._backend, dataset_id, cursor=quarantine_cursor, limit=QUARANTINED),
        }

    def curation(self, curation_id: str, sort: str, cursor: str | None) -> Values:
        """A curation with its chart, a page of its pairs and its manifests; without them before it has a result."""
        with self._backend.catalog.reading() as session:
            row = found(session, Curation, curation_id)
            curation = curation_view(row).model_dump(mode="json")
            query = sa.select(Manifest).where(Manifest.curation_id == curation_id)
            rows, _ = page(session, query, Manifest, None, CURATIONS)
            manifests = [manifest_view(each).model_dump(mode="json") for each in rows]
            chart = _chart(row.summary) if row.summary else None
        asked = {"curation": curation, "settings": _settings(curation["parameters"])}
        if chart is None:
            return {**asked, "manifests": [], "chart": None, "pairs": None}
        result = self._backend.results.open(curation_id)
        places = self._backend.selections.places(result, PairFilter(), sort)
        pairs = pairs_page(result, places, offset=read_cursor(cursor), limit=PAIRS)
        return {
            **asked,
            "manifests": manifests,
            "chart": chart,
            "pairs": pairs,
            "trainings": of_curation(self._backend, curation_id),
            "arms": ARMS,
            "methods": METHODS,
        }

    def encoders(self, cursor: str | None) -> Values:
        """A page of the encoders that were sent, the newest first."""
        with self._backend.catalog.reading() as session:
            rows, following = page(session, sa.select(StoredEncoder), StoredEncoder, cursor, ENCODERS)
            return {"encoders": [encoder_view(row).model_dump(mode="json") for row in rows], "next": following}

    def curated(self, curation_id: str) -> tuple[Values, Result]:
        """A curation that has a result, and that. Raises ConflictError before it has."""
        result = self._backend.results.open(curation_id)
        with self._backend.catalog.reading() as session:
            return curation_view(found(session, Curation, curation_id)).model_dump(mode="json"), result

    def clusters(self, curation_id: str) -> Values:
        curation, result = self.curated(curation_id)
        return {"curation": curation, "clusters": cluster_counts(result.columns)}

    def bound(self, curation_id: str) -> Values:
        curation, _ = self.curated(curation_id)
        found = curation["result"]
        return {"curation": curation, "bound": {**found["bound"], **bound_parts(found["graph"])}}

    def sample(self, curation_id: str, number: int) -> Values:
        """One sample with the first of its pairs, each beside its other sample, and the decisions on it."""
        curation, result = self.curated(curation_id)
        stored = one_sample(self._backend, result.dataset, number)
        [described] = describe_samples(result, np.array([number]))
        places = self._backend.selections.places(result, PairFilter(sample=number))
        pairs = pairs_page(result, places, limit=PARTNERS)
        with self._backend.catalog.reading() as session:
            decided = decisions_page(session, curation_id, newest=True, limit=DECISIONS, sample=number)
        harder = result.columns.sample_difficulty > result.columns.sample_difficulty[number]
        return {
            "curation": curation,
            "sample": described,
            "stored": stored,
            "image": f"/api/v1/datasets/{result.dataset}/samples/{number}/image",
            "place": int(harder.sum()) + 1,
            "partners": [(pair, pair["b"] if pair["a"]["index"] == number else pair["a"]) for pair in pairs["items"]],
            "total": pairs["total"],
            "decisions": decided.model_dump(mode="json")["items"],
        }

    def pair(self, curation_id: str, one: int, other: int) -> Values:
        """Two samples side by side; where they are a listed pair, its rank and the pairs beside it by difficulty."""
        curation, result = self.curated(curation_id)
        for number in (one, other):
            one_sample(self._backend, result.dataset, number)
        columns = result.columns
        mine = columns.pairs_of_sample(one)
        [a, b] = describe_samples(result, np.array([one, other]))
        shown = {"curation": curation, "a": a, "b": b, "pair": None, "before": None, "after": None}
        listed = mine[(columns.a[mine] == other) | (columns.b[mine] == other)]
        if one == other or not len(listed):
            return shown
        place = int(listed[0])
        beside = np.arange(max(place - 1, 0), min(place + 2, len(columns.a)), dtype=np.int32)
        items = pairs_page(result, beside)["items"]
        here = place - int(beside[0])
        ranked = rank(columns, items[here]["similarity"])
        return {
            **shown,
            "pair": items[here],
            "before": items[here - 1] if here else None,
            "after": items[here + 1] if here + 1 < len(items) else None,
            "place": place,
            "rank": ranked,
            "below": ranked.below / ranked.total,
        }

    def decisions(self, curation_id: str, cursor: str | None) -> Values:
        """A page of decisions, the newest first, and how many stand."""
        curation, result = self.curated(curation_id)
        with self._backend.catalog.reading() as session:
            decided = decisions_page(session, curation_id, newest=True, limit=DECISIONS, cursor=cursor)
        verdicts = [verdict for _, verdict in result.verdicts.standing.values()]
        return {
            "curation": curation,
            "decisions": decided.model_dump(mode="json")["items"],
            "next": decided.next,
            "kept": verdicts.count("keep"),
            "dropped": verdicts.count("drop"),
        }

    def job(self, job_id: str, cursor: str | None) -> Values:
        """A job, what its stages took, and a page of its log, the latest first."""
        with self._backend.catalog.reading() as session:
            row = job_row(session, job_id)
            lines, following = page(session, lines_of(row), JobLine, cursor, LINES)
            # The log of most jobs is one page.
            whole = cursor is None and following is None
            every = lines[::-1] if whole else session.scalars(lines_of(row).order_by(JobLine.id)).all()
            return {
                "job": job_view(row).model_dump(mode="json"),
                "stages": _stages(every),
                "lines": [line_view(line).model_dump(mode="json") for line in lines],
                "next": following,
            }

    def administration(self, cursor: str | None) -> Values:
        return {
            "keys": {"items": [view.model_dump(mode="json") for view in administration.key_views(self._backend)]},
            "audit": administration.audited(self._backend, cursor, AUDITED).model_dump(mode="json"),
            "settings": {name: view.model_dump() for name, view in administration.setting_views(self._backend).items()},
        }

    def jobs(self, only_active: bool = False) -> list[Values]:
        with self._backend.catalog.reading() as session:
            views = [view.model_dump(mode="json") for view in job_views(session)]
        return [view for view in views if not only_active or view["state"] in ACTIVE_STATES]


def _settings(parameters: Values) -> Values:
    """The encoder and the score of a curation, and what else it was asked for that is not the default."""
    return {
        name: parameters[name]
        for name, field in NewCuration.model_fields.items()
        if name in parameters and (name in ("encoder", "score") or parameters[name] != field.default)
    }


def expected_time(latest: Curation | None, samples: int) -> Values | None:
    """What a curation of so many samples takes at the pace of that one."""
    if latest is None or latest.started_at is None or latest.finished_at is None:
        return None
    seconds = (latest.finished_at - latest.started_at).total_seconds()
    return {
        "seconds": seconds * samples / latest.dataset.samples,
        "took": seconds,
        "samples": latest.dataset.samples,
    }


def _stages(lines: Sequence[JobLine]) -> list[Values]:
    """What the job did, when it began, and the seconds until what came next; of lines in their order."""
    found: list[Values] = []
    for line in lines:
        if line.message.startswith(WAITING):
            continue
        if found and found[-1]["seconds"] is None:
            found[-1]["seconds"] = (line.created_at - found[-1]["began"]).total_seconds()
        if line.state == "running" and line.stage:
            found.append({"name": line.message or line.stage, "began": line.created_at, "seconds": None})
    return found


def _chart(summary: Values) -> Chart:
    histogram, thresholds = summary["histogram"], summary["thresholds"]
    return draw(histogram["edges"], histogram["counts"], thresholds["sim_low"], thresholds["sim_high"])
