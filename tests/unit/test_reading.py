"""Reading takes no write lock of SQLite, so that pages wait for no job, and no job for pages."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from test_service_requests import backend_of, client_of, stored

from service.backend import open_backend
from service.events import POLL_SECONDS, LatestJobs
from tamis.settings import Settings
from tamis.store.schema import Training

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")

IDS = {
    "dataset_id": "ds",
    "curation_id": "cu",
    "manifest_id": "mf",
    "training_id": "tr",
    "job_id": "cu",
    "name": "manifest.json",
    "path": "x",
}
# Streams of which no client sees the end.
ENDLESS = {"/api/v1/jobs/events"}


async def nothing(_: Any) -> None:
    """In place of what is swept meanwhile, which writes."""


def test_no_page_and_no_reading_request_begins_as_a_writer(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.app.sweep_regularly", nothing)
    with client_of(Settings(data=tmp_path / "data", database_url=sqlite_url)) as client:
        stored(client)
        with backend_of(client).catalog.session() as session:
            session.add(Training(id="tr", manifest_id="mf", state="succeeded", parameters={}))
        begun: list[str] = []

        def note(_: Any, __: Any, statement: str, *___: Any) -> None:
            if statement.startswith("BEGIN"):
                begun.append(statement)

        sa.event.listen(backend_of(client).catalog.engine, "before_cursor_execute", note)
        described = client.get("/api/openapi.json").json()["paths"]
        pages = ["/", "/jobs", "/datasets/ds", "/curations/cu", "/curations/cu/decisions", "/jobs/cu", "/trainings/tr"]
        readings = [path for path, methods in described.items() if "get" in methods and path not in ENDLESS] + pages
        asked = 0
        for path in readings:
            for name, value in IDS.items():
                path = path.replace(f"{{{name}}}", value)
            begun.clear()
            status = client.get(path.replace("{number}", "1").replace("{sample}", "1")).status_code
            assert "BEGIN IMMEDIATE" not in begun, (path, status)
            asked += bool(begun)
        assert asked > 20
        begun.clear()
        client.post("/api/v1/datasets", json={"name": "written"})
        assert "BEGIN IMMEDIATE" in begun


def test_many_who_listen_are_one_reading(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr("service.events.job_views", lambda _: read.append(1) or [])

    async def listen() -> None:
        latest = LatestJobs(open_backend(Settings(data=tmp_path / "data", database_url=sqlite_url)))
        found = await asyncio.gather(*(latest.get() for _ in range(200)))
        assert all(jobs is found[0] for jobs in found)
        assert len(read) == 1
        await asyncio.sleep(POLL_SECONDS)
        assert await latest.get() is not found[0]
        assert len(read) == 2

    asyncio.run(listen())
