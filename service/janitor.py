"""Removes what nobody goes on with: uploads, checkpoints of jobs that have ended, and objects that nothing needs."""

import asyncio
import logging

from starlette.concurrency import run_in_threadpool

from service.backend import Backend
from tamis.errors import BusyError
from tamis.store.checkpoints import sweep_checkpoints
from tamis.store.garbage import collect_garbage

log = logging.getLogger("tamis.service")

HOUR = 3600.0


async def sweep_regularly(backend: Backend) -> None:
    """Sweeps at once and then every hour, or more often where uploads expire sooner. Several servers may do so."""
    sweeps = {
        "expired uploads and stray objects": backend.uploads.sweep,
        "objects that nothing needs any more": lambda: _collect(backend),
        "columns of what is deleted": backend.results.sweep,
        "checkpoints of ended jobs": lambda: sweep_checkpoints(backend.catalog, backend.objects, backend.jobs),
    }
    while True:
        for what, sweep in sweeps.items():
            try:
                removed = await run_in_threadpool(sweep)
                if removed:
                    log.info("removed %d %s", removed, what)
            except Exception:
                # A database or store that is away for a moment must not end this.
                log.exception("could not remove %s", what)
        await asyncio.sleep(min(HOUR, backend.uploads.seconds))


def _collect(backend: Backend) -> int:
    try:
        return collect_garbage(backend.catalog, backend.objects)[0]
    except BusyError:
        return 0
