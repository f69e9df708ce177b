"""What the pages show, as plain values: the API's own answers, put together page by page."""

from typing import Any

import sqlalchemy as sa

from service.archives import OPEN_STATES
from service.backend import Backend
from service.cursors import read_cursor
from service.dashboard.histogram import Chart, draw
from service.pairs import PairFilter, pairs_page
from service.samples import quarantine_page, spread_samples
from service.schemas import NewCuration
from service.views import (
    ACTIVE_STATES,
    brought_embeddings,
    curation_view,
    dataset_view,
    found,
    job_views,
    manifest_view,
)
from tamis.store.catalog import page
from tamis.store.schema import Curation, Dataset, Manifest

DATASETS = 50
CURATIONS = 50
PAIRS = 25
THUMBNAILS = 24
QUARANTINED = 20

Values = dict[str, Any]


class PageViews:
    """Reads what the pages need; raises NotFoundError for what does not exist."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def datasets(self, cursor: str | None) -> Values:
        """A page of data sets, each with the latest of its curations, and the jobs that run or wait."""
        with self._backend.catalog.session() as session:
            rows, following = page(session, sa.select(Dataset), Dataset, cursor, DATASETS)
            ids = [row.id for row in rows]
            # Ids sort by time, so the largest is the latest.
            newest = sa.select(sa.func.max(Curation.id)).where(Curation.dataset_id.in_(ids))
            query = sa.select(Curation).where(Curation.id.in_(newest.group_by(Curation.dataset_id)))
            latest = {row.dataset_id: curation_view(row).model_dump(mode="json") for row in session.scalars(query)}
            items = [{**dataset_view(row).model_dump(mode="json"), "latest": latest.get(row.id)} for row in rows]
        return {"items": items, "next": following, "jobs": self.jobs(only_active=True)}

    def dataset(self, dataset_id: str, quarantine_cursor: str | None) -> Values:
        with self._backend.catalog.session() as session:
            dataset = dataset_view(found(session, Dataset, dataset_id)).model_dump(mode="json")
            query = sa.select(Curation).where(Curation.dataset_id == dataset_id)
            rows, _ = page(session, query, Curation, None, CURATIONS)
            curations = [curation_view(row).model_dump(mode="json") for row in rows]
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
            return {**shown, "thumbnails": [], "quarantine": None}
        return {
            **shown,
            "thumbnails": spread_samples(self._backend, dataset_id, THUMBNAILS),
            "quarantine": quarantine_page(self._backend, dataset_id, cursor=quarantine_cursor, limit=QUARANTINED),
        }

    def curation(self, curation_id: str, sort: str, cursor: str | None) -> Values:
        """A curation with its chart, a page of its pairs and its manifests; without them before it has a result."""
        with self._backend.catalog.session() as session:
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
        }

    def jobs(self, only_active: bool = False) -> list[Values]:
        with self._backend.catalog.session() as session:
            views = [view.model_dump(mode="json") for view in job_views(session)]
        return [view for view in views if not only_active or view["state"] in ACTIVE_STATES]


def _settings(parameters: Values) -> Values:
    """The encoder and the score of a curation, and what else it was asked for that is not the default."""
    return {
        name: parameters[name]
        for name, field in NewCuration.model_fields.items()
        if name in parameters and (name in ("encoder", "score") or parameters[name] != field.default)
    }


def _chart(summary: Values) -> Chart:
    histogram, thresholds = summary["histogram"], summary["thresholds"]
    return draw(histogram["edges"], histogram["counts"], thresholds["sim_low"], thresholds["sim_high"])
