"""Worker leases: who is alive, and who takes over what a dead worker held.

Who takes over goes by no clock that can be set: each worker times with a stopwatch of its own for how long a lease was
not renewed. `expires_at` is for people, and for how many workers there seem to be.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from tamis.store.catalog import Catalog
from tamis.store.schema import WorkerLease, now


def take_lease(catalog: Catalog, executor_id: str, holder: str, seconds: float, **about: Any) -> None:
    """Begins a worker's lease, over whatever an earlier process of the same id left."""
    with catalog.session() as session:
        session.merge(
            WorkerLease(
                executor_id=executor_id,
                holder=holder,
                started_at=now(),
                expires_at=now() + timedelta(seconds=seconds),
                seconds=seconds,
                **about,
            )
        )


def renew_lease(
    catalog: Catalog, executor_id: str, holder: str, seconds: float, gpu: tuple[int, int] | None = None
) -> bool:
    """Keeps a lease fresh; False when another process holds it now. gpu: bytes of its memory that are used, and all."""
    used, total = gpu or (None, None)
    statement = (
        sa.update(WorkerLease)
        .where(WorkerLease.executor_id == executor_id, WorkerLease.holder == holder)
        .values(expires_at=now() + timedelta(seconds=seconds), gpu_used=used, gpu_total=total)
    )
    return _changes(catalog, statement) == 1


def add_missing(catalog: Catalog, holders: Iterable[str]) -> None:
    """Gives holders of jobs that have no lease one that was given up, so that it is claimed like any other."""
    with suppress(sa.exc.IntegrityError), catalog.session() as session:  # another worker does the same
        known = set(session.scalars(sa.select(WorkerLease.executor_id)))
        for executor_id in sorted(set(holders) - known):
            session.add(
                WorkerLease(executor_id=executor_id, holder="", host="", pid=0, queues="", expires_at=now(), seconds=0)
            )


def all_leases(catalog: Catalog) -> Sequence[WorkerLease]:
    with catalog.reading() as session:
        return session.scalars(sa.select(WorkerLease).order_by(WorkerLease.executor_id)).all()


class Watch:
    """Tells which leases have run out: those given up, and those that this process saw unchanged for their seconds.

    What it did not see counts for nobody's silence: it begins anew when more than `seconds` went by between two looks,
    in which it was frozen, or the database was away, for others as well. seconds: of this worker's own lease.
    """

    def __init__(self, seconds: float, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._stopwatch, self._looked = seconds, stopwatch, stopwatch()
        # By worker, its last sign of life and when that was first seen.
        self._seen: dict[str, tuple[object, float]] = {}

    def run_out(self, leases: Sequence[WorkerLease]) -> list[WorkerLease]:
        """Of all leases, as they are now."""
        moment = self._stopwatch()
        known = self._seen if moment - self._looked <= self._seconds else {}
        self._looked, self._seen = moment, {}
        for lease in leases:
            sign, since = known.get(lease.executor_id, (None, moment))
            now_sign = lease.holder, lease.expires_at
            self._seen[lease.executor_id] = now_sign, since if sign == now_sign else moment
        return [
            lease for lease in leases if not lease.holder or moment - self._seen[lease.executor_id][1] >= lease.seconds
        ]


def claim_lease(catalog: Catalog, lease: WorkerLease, holder: str, seconds: float) -> bool:
    """Takes over a lease that has run out, unless it was renewed since it was read; of several claimants one wins.

    The row stays until `drop_lease`, and runs out again if the claimant dies too, so nothing is forgotten half-way.
    """
    statement = (
        sa.update(WorkerLease)
        .where(
            WorkerLease.executor_id == lease.executor_id,
            WorkerLease.holder == lease.holder,
            WorkerLease.expires_at == lease.expires_at,
        )
        .values(holder=holder, expires_at=now() + timedelta(seconds=seconds), seconds=seconds)
    )
    return _changes(catalog, statement) == 1


def give_up_lease(catalog: Catalog, executor_id: str, holder: str) -> None:
    """Lets another worker take over at once what this one holds."""
    mine = WorkerLease.executor_id == executor_id, WorkerLease.holder == holder
    _changes(catalog, sa.update(WorkerLease).where(*mine).values(holder="", expires_at=now()))


def drop_lease(catalog: Catalog, executor_id: str, holder: str) -> None:
    _changes(
        catalog,
        sa.delete(WorkerLease).where(WorkerLease.executor_id == executor_id, WorkerLease.holder == holder),
    )


def live_workers(catalog: Catalog, queue: str | None = None, host: str | None = None) -> int:
    """How many workers are alive; of those that take the queue, and run on the host, if one is named."""
    asked = sa.select(WorkerLease.queues, WorkerLease.host).where(WorkerLease.expires_at >= now())
    with catalog.reading() as session:
        alive = session.execute(asked).all()
    return sum(queue in (None, *queues.split(",")) and host in (None, there) for queues, there in alive)


def gpu_memory(catalog: Catalog) -> Sequence[tuple[str, int, int]]:
    """Worker, bytes of its GPU's memory that are used, and all, of those alive that have used one."""
    columns = WorkerLease.executor_id, WorkerLease.gpu_used, WorkerLease.gpu_total
    with catalog.reading() as session:
        alive = sa.select(*columns).where(WorkerLease.expires_at >= now(), WorkerLease.gpu_total.is_not(None))
        return [tuple(row) for row in session.execute(alive)]  # type: ignore[misc]  # not null, as asked


def _changes(catalog: Catalog, statement: "sa.Update | sa.Delete") -> int:
    with catalog.session() as session:
        result: Any = session.execute(statement.execution_options(synchronize_session=False))
        return int(result.rowcount)
