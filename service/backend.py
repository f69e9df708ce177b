"""What every request handler needs, opened once a process."""

from dataclasses import dataclass

from fastapi import Request

from service.columns import ColumnStore
from service.pairs import PairSelections
from service.results import Results
from service.tables import Tables
from tamis.settings import Settings
from tamis.store.catalog import Catalog, open_catalog
from tamis.store.jobs import Jobs, open_jobs
from tamis.store.objects import Objects, open_objects
from tamis.store.uploads import Uploads


@dataclass(frozen=True)
class Backend:
    settings: Settings
    catalog: Catalog
    objects: Objects
    jobs: Jobs
    tables: Tables
    uploads: Uploads
    results: Results
    selections: PairSelections

    def close(self) -> None:
        self.jobs.close()
        self.tables.close()
        self.catalog.engine.dispose()


def open_backend(settings: Settings) -> Backend:
    catalog = open_catalog(settings)
    objects = open_objects(settings)
    tables = Tables(objects, settings.data / "cache", settings.memory_budget)
    uploads = Uploads(catalog, objects, settings.upload_seconds)
    results = Results(catalog, ColumnStore(tables, settings.data / "cache"))
    selections = PairSelections(settings.memory_budget // 8)
    return Backend(settings, catalog, objects, open_jobs(catalog.engine), tables, uploads, results, selections)


async def backend(request: Request) -> Backend:
    """FastAPI dependency: this process's backend."""
    found: Backend = request.app.state.backend
    return found
