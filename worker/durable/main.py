"""A worker process: takes jobs from its queues until it is told to stop."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Sequence

from dbos import DBOS, DBOSConfig

import worker.durable.curate
import worker.durable.embed
import worker.durable.ingest
import worker.durable.layout
import worker.durable.manifest
import worker.durable.train  # noqa: F401  importing registers the workflows
from tamis.errors import InputError
from tamis.logs import log_to_stderr
from tamis.settings import Settings
from tamis.store.jobs import APPLICATION, QUEUES, SCAN_QUEUE, WORKFLOW_VERSION
from worker.durable.lease import LeaseKeeper
from worker.durable.runtime import open_runtime

log = logging.getLogger("tamis.worker")

POLL_SECONDS = 0.2


def run_worker(settings: Settings, queues: Sequence[str] = QUEUES, parent: int | None = None) -> None:
    """Runs until SIGTERM or SIGINT, or until the process `parent`, if given, is no longer the parent."""
    unknown = sorted(set(queues) - set(QUEUES))
    if unknown or not queues:
        raise InputError(f"There is no queue {', '.join(unknown) or 'named'}.", f"Choose from {', '.join(QUEUES)}.")
    settings.require_device()
    log_to_stderr(settings.log_format)
    executor_id = settings.worker_id or f"{socket.gethostname()}-{secrets.token_hex(4)}"
    run = open_runtime(settings)
    lease = LeaseKeeper(run, executor_id, tuple(queues))
    DBOS(config=_configuration(run.catalog.engine.url.render_as_string(hide_password=False), executor_id))
    DBOS.listen_queues([*queues, SCAN_QUEUE] if "cpu" in queues else list(queues))
    DBOS.launch()
    places_of = {"cpu": settings.cpu_jobs, SCAN_QUEUE: 1, "gpu": settings.gpu_jobs, "train": settings.train_jobs}
    for name, places in places_of.items():
        DBOS.register_queue(name, worker_concurrency=places, polling_interval_sec=POLL_SECONDS)
    lease.start()
    log.info("worker %s takes jobs from %s", executor_id, ", ".join(queues))
    _wait_for_the_end(parent)
    # Interrupted jobs are resumed by this worker's next start, or by whoever sees its lease gone.
    lease.stop()
    os._exit(0)


def _configuration(url: str, executor_id: str) -> DBOSConfig:
    return DBOSConfig(
        name=APPLICATION,
        system_database_url=url,
        executor_id=executor_id,
        application_version=WORKFLOW_VERSION,
        log_level="WARNING",
        notification_listener_polling_interval_sec=POLL_SECONDS,
    )


def _wait_for_the_end(parent: int | None) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1.0):
        if parent is not None and os.getppid() != parent:
            log.warning("the process that started this worker is gone; stopping")
            return
