"""Removes the uploads that nobody went on with."""

import asyncio
import logging

from starlette.concurrency import run_in_threadpool

from tamis.store.uploads import Uploads

log = logging.getLogger("tamis.service")

HOUR = 3600.0


async def sweep_regularly(uploads: Uploads) -> None:
    """Sweeps at once and then every hour, or more often where uploads expire sooner. Several servers may do so."""
    while True:
        try:
            removed = await run_in_threadpool(uploads.sweep)
            if removed:
                log.info("removed %d expired uploads and stray objects", removed)
        except Exception:
            # A database or store that is away for a moment must not end this.
            log.exception("could not remove expired uploads")
        await asyncio.sleep(min(HOUR, uploads.seconds))
