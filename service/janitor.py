"""Removes what nobody goes on with: uploads, and the checkpoints of jobs that have ended."""

import asyncio
import logging

from starlette.concurrency import run_in_threadpool

from service.backend import Backend
from tamis.store.checkpoints import sweep_checkpoints

log = logging.getLogger("tamis.service")

HOUR = 3600.0


async def sweep_regularly(backend: Backend) -> None:
    """Sweeps at once and then every hour, or more often where uploads expire sooner. Several servers may do so."""
    sweeps = {
        "expired uploads and stray objects": backend.uploads.sweep,
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
