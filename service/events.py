"""Server-sent events: the progress of one job, or of all, as the rows of the catalogue change.

An event carries a job's whole present state and its id is the row's version, so a client that resumes with
`Last-Event-ID` misses nothing that still holds, and no log of past events is kept.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from service.backend import Backend
from service.views import found, job_views, progress_view
from tamis.errors import NotFoundError
from tamis.store.schema import TERMINAL_STATES, Job

POLL_SECONDS = 0.3
HEARTBEAT_SECONDS = 15.0


def job_events(request: Request, backend: Backend, model: type[Job], row_id: str) -> StreamingResponse:
    """Events of one job until it ends. Raises NotFoundError before the stream begins."""

    def read() -> tuple[int, dict[str, Any]]:
        with backend.catalog.reading() as session:
            row = found(session, model, row_id)
            return row.version, {"state": row.state, "error": row.error, **progress_view(row).model_dump()}

    read()

    async def events() -> AsyncIterator[str]:
        seen = _last_event_id(request)
        async for _ in _ticks(request):
            try:
                version, data = await run_in_threadpool(read)
            except NotFoundError:
                return
            if version > seen:
                seen = version
                yield _event("progress", data, version)
            if data["state"] in TERMINAL_STATES:
                return
            yield ""

    return _stream(events())


class LatestJobs:
    """The jobs as they were a moment ago: read once for all who listen, however many that are."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._asked = backend, -POLL_SECONDS
        self._reading: asyncio.Task[list[dict[str, Any]]] | None = None

    async def get(self) -> list[dict[str, Any]]:
        moment = time.monotonic()
        if self._reading is None or (self._reading.done() and moment - self._asked >= POLL_SECONDS):
            self._asked, self._reading = moment, asyncio.create_task(run_in_threadpool(self._read))
        # One listener who leaves ends nobody else's.
        return await asyncio.shield(self._reading)

    def _read(self) -> list[dict[str, Any]]:
        with self._backend.catalog.reading() as session:
            return [view.model_dump(mode="json") for view in job_views(session)]


def all_job_events(request: Request) -> StreamingResponse:
    """Events of every job, each sent when its row changed; a new listener gets the present state of all."""
    latest: LatestJobs = request.app.state.latest_jobs

    async def events() -> AsyncIterator[str]:
        sent: dict[str, dict[str, Any]] = {}
        number, seen = _last_event_id(request), None
        async for _ in _ticks(request):
            jobs = await latest.get()
            changed, seen = [] if jobs is seen else jobs, jobs
            for job in reversed(changed):
                if sent.get(job["id"]) != job:
                    sent[job["id"]] = job
                    number += 1
                    yield _event("job", job, number)
            yield ""

    return _stream(events())


async def _ticks(request: Request) -> AsyncIterator[None]:
    while not await request.is_disconnected() and not request.app.state.stopping.is_set():
        yield
        await asyncio.sleep(POLL_SECONDS)


def _stream(events: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(
        _with_heartbeat(events),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _with_heartbeat(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Passes events on; an empty string is a quiet moment, and enough of them in a row become a comment line."""
    quiet = HEARTBEAT_SECONDS
    async for event in events:
        if event:
            quiet = 0.0
            yield event
        else:
            quiet += POLL_SECONDS
            if quiet >= HEARTBEAT_SECONDS:
                quiet = 0.0
                yield ": still here\n\n"


def _event(name: str, data: dict[str, Any], number: int) -> str:
    return f"event: {name}\nid: {number}\ndata: {json.dumps(data)}\n\n"


def _last_event_id(request: Request) -> int:
    try:
        return int(request.headers.get("last-event-id", "0"))
    except ValueError:
        return 0
