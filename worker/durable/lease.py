"""How the jobs of a worker that never comes back are finished by another.

DBOS resumes a workflow only under the executor id that began it. So each worker keeps a lease row fresh, and any worker
that sees an expired lease claims it (one winner) and puts what that executor held back on its queues.
"""

import logging
import os
import secrets
import socket
import threading

from tamis.store.leases import claim_lease, drop_lease, expire_missing, expired_leases, renew_lease, take_lease
from worker.durable.runtime import Runtime

log = logging.getLogger("tamis.worker")


class LeaseKeeper(threading.Thread):
    """Renews this worker's lease and adopts what expired ones held, until stopped."""

    def __init__(self, runtime: Runtime, executor_id: str, queues: tuple[str, ...]) -> None:
        super().__init__(name="lease", daemon=True)
        self._catalog, self._jobs = runtime.catalog, runtime.jobs
        self._seconds = runtime.settings.lease_seconds
        self._executor_id = executor_id
        # Tells this process from an earlier or later one of the same executor id.
        self._holder = secrets.token_hex(8)
        self._stopped = threading.Event()
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
        while not self._stopped.wait(self._seconds / 3):
            try:
                self._renew()
                self._adopt()
            except Exception:
                # A database that is away for a moment must not end the worker.
                log.exception("could not renew the lease of %s", self._executor_id)

    def stop(self) -> None:
        """Gives the lease up; jobs still held are left for whoever adopts or restarts them."""
        self._stopped.set()
        self.join()
        if not self._jobs.interrupted(self._executor_id):
            drop_lease(self._catalog, self._executor_id, self._holder)

    def _renew(self) -> None:
        if not renew_lease(self._catalog, self._executor_id, self._holder, self._seconds):
            # Another process took this one for dead and has its jobs: going on would run them twice.
            log.critical("the lease of %s was taken over; stopping", self._executor_id)
            os._exit(3)

    def _adopt(self) -> None:
        # A worker whose lease was claimed may take one more job before it notices, and then leaves no lease behind.
        expire_missing(self._catalog, self._jobs.holders())
        for executor_id in expired_leases(self._catalog):
            if not claim_lease(self._catalog, executor_id, self._holder, self._seconds):
                continue
            for workflow, queue in self._jobs.interrupted(executor_id):
                log.warning("adopting %s, which %s left", workflow, executor_id)
                self._jobs.resume(workflow, queue)
            drop_lease(self._catalog, executor_id, self._holder)
