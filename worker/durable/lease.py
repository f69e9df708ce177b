"""How the jobs of a worker that never comes back are finished by another.

DBOS resumes a workflow only under the executor id that began it. So each worker keeps a lease row fresh, and any worker
that sees one run out claims it (one winner) and puts what that executor held back on its queues. It does the same
with what it holds itself and does not run, which an outage left. A job in which too many workers died is ended: it may
be what kills them.
"""

import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress

from tamis.device import memory_of_gpu
from tamis.errors import CancelledError
from tamis.store.catalog import advance, count_death
from tamis.store.jobs import subject_of
from tamis.store.leases import (
    Watch,
    add_missing,
    all_leases,
    claim_lease,
    drop_lease,
    give_up_lease,
    renew_lease,
    take_lease,
)
from tamis.store.outages import outage_of
from tamis.store.schema import model_of
from worker.durable.runtime import MEMORY_HINT, Runtime

log = logging.getLogger("tamis.worker")

MOST_DEATHS = 10
DEADLY = f"{{}} workers died while they held this, as when memory is short. {MEMORY_HINT}"


class LeaseKeeper(threading.Thread):
    """Renews this worker's lease and adopts what those that ran out held, until stopped."""

    def __init__(self, runtime: Runtime, executor_id: str, queues: tuple[str, ...]) -> None:
        super().__init__(name="lease", daemon=True)
        self._catalog, self._jobs, self._running = runtime.catalog, runtime.jobs, runtime.running
        self._seconds = runtime.settings.lease_seconds
        self._watch = Watch(self._seconds)
        self._executor_id = executor_id
        # Tells this process from an earlier or later one of the same executor id.
        self._holder = secrets.token_hex(8)
        # When what this worker holds was first seen not to run here.
        self._idle_since: dict[str, float] = {}
        self._stopped = threading.Event()
        if any(lease.executor_id == executor_id and lease.holder for lease in all_leases(self._catalog)):
            self._count_deaths(executor_id)
        take_lease(
            self._catalog,
            executor_id,
            self._holder,
            self._seconds,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=",".join(queues),
        )

    def run(self) -> None:
        away = False
        while not self._stopped.wait(self._seconds / 3):
            try:
                self._renew()
                self._adopt()
                self._resume_idle()
                if away:
                    log.info("the lease of %s is renewed again", self._executor_id)
                away = False
            except Exception as problem:
                # A database that is away for a while must not end the worker.
                if not away:
                    why = outage_of(problem) or repr(problem)
                    log.warning("could not renew the lease of %s, and tries on: %s", self._executor_id, why)
                away = True

    def stop(self) -> None:
        """Gives the lease up; jobs still held are left for whoever adopts or restarts them, at once."""
        self._stopped.set()
        self.join()
        try:
            held = self._jobs.interrupted(self._executor_id)
            (give_up_lease if held else drop_lease)(self._catalog, self._executor_id, self._holder)
        except Exception as problem:
            # It runs out.
            log.warning("could not give the lease of %s up: %s", self._executor_id, outage_of(problem) or repr(problem))

    def _renew(self) -> None:
        if not renew_lease(self._catalog, self._executor_id, self._holder, self._seconds, memory_of_gpu()):
            # Another process took this one for dead and has its jobs: going on would run them twice.
            log.critical("the lease of %s was taken over; stopping", self._executor_id)
            os._exit(3)

    def _adopt(self) -> None:
        # A worker whose lease was claimed may take one more job before it notices, and then leaves no lease behind.
        add_missing(self._catalog, self._jobs.holders())
        for lease in self._watch.run_out(all_leases(self._catalog)):
            executor_id = lease.executor_id
            if not claim_lease(self._catalog, lease, self._holder, self._seconds):
                continue
            if lease.holder:
                self._count_deaths(executor_id)
            for workflow, queue in self._jobs.interrupted(executor_id):
                log.warning("adopting %s, which %s left", workflow, executor_id)
                self._jobs.resume(workflow, queue)
            drop_lease(self._catalog, executor_id, self._holder)

    def _count_deaths(self, executor_id: str) -> None:
        """Of a worker that left without giving its lease up; ends what too many have died in."""
        for row_id in {subject_of(workflow) for workflow, _ in self._jobs.interrupted(executor_id)}:
            model = model_of(row_id)
            if model is None:
                continue
            deaths = count_death(self._catalog, model, row_id)
            if deaths >= MOST_DEATHS:
                log.error("%s is ended: %d workers died in it", row_id, deaths)
                self._jobs.cancel(self._jobs.unfinished().get(row_id, []))
                with suppress(CancelledError):
                    advance(self._catalog, model, row_id, state="failed", error=DEADLY.format(deaths))

    def _resume_idle(self) -> None:
        """Puts back what this worker has held for the time of a lease without running it."""
        held = dict(self._jobs.interrupted(self._executor_id))
        idle = held.keys() - set(self._running)
        now = time.monotonic()
        self._idle_since = {workflow: self._idle_since.get(workflow, now) for workflow in idle}
        for workflow, since in list(self._idle_since.items()):
            if now - since >= self._seconds:
                log.warning("going on with %s, which an outage cut off", workflow)
                self._jobs.resume(workflow, held[workflow])
                del self._idle_since[workflow]
