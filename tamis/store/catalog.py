"""The catalogue: the only state that changes. Sessions, and the operations on job rows that several programs share."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from tamis.errors import CancelledError, ConflictError, NotFoundError
from tamis.settings import Settings
from tamis.store.cursors import read_place, write_place
from tamis.store.schema import TERMINAL_STATES, Curation, IdempotencyKey, Job, JobLine, ScanPart, now

Row = TypeVar("Row")

BUSY_SECONDS = 30
# Option of a connection whose transactions read alone.
_READS = "tamis_reads"


@dataclass(frozen=True)
class Catalog:
    engine: sa.Engine
    _sessions: sessionmaker[Session]

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back on an error."""
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One transaction that only reads: it waits for no writer, and none waits for it."""
        with self._sessions(bind=self._reader) as session, session.begin():
            yield session

    def rows(self, statement: "sa.Select[Any]", **parameters: Any) -> Sequence[sa.Row[Any]]:
        """The same for one statement: what is asked at every request takes a third of the time so."""
        with self._reader.connect() as connection:
            return connection.execute(statement, parameters).all()

    @cached_property
    def _reader(self) -> sa.Engine:
        return self.engine.execution_options(**{_READS: True})

    def close(self) -> None:
        self.engine.dispose()


def open_catalog(settings: Settings) -> Catalog:
    """Connects, and brings the tables to this version's state (under a lock, so that many may start at once)."""
    from migrations import upgrade

    if settings.database.startswith("sqlite"):
        settings.data.mkdir(parents=True, exist_ok=True)
    engine = make_engine(settings.database, settings.database_password)
    upgrade(engine)
    return Catalog(engine, sessionmaker(engine, expire_on_commit=False))


def revision_and_time(catalog: Catalog) -> tuple[str, float]:
    """The revision of the database's tables, and its clock in seconds since 1970."""
    asked = "extract(epoch FROM now())" if catalog.engine.dialect.name == "postgresql" else "strftime('%s', 'now')"
    with catalog.reading() as session:
        revision, moment = session.execute(sa.text(f"SELECT version_num, {asked} FROM alembic_version")).one()
        return str(revision), float(moment)


@sa.event.listens_for(sa.Engine, "connect")
def _complete(connection: Any, _: Any) -> None:
    """Gives SQLite before 3.42 `unixepoch('subsec')`, seconds since 1970, in every engine: from Python 3.12 on the job
    engine's tables take their times by it, and Pythons built on Debian 12 or Ubuntu 22.04 have an older SQLite."""
    if isinstance(connection, sqlite3.Connection) and sqlite3.sqlite_version_info < (3, 42):
        connection.create_function("unixepoch", 1, _unixepoch)


def _unixepoch(modifier: str) -> float:
    if modifier != "subsec":
        raise ValueError(f"unixepoch({modifier!r}) is not known here")
    return time.time_ns() // 10**6 / 1000


def make_engine(url: str, password: str | None = None) -> sa.Engine:
    """An engine whose SQLite connections are durable, wait for locks, and begin as writers.

    password: of a PostgreSQL whose address has none.
    """
    if not url.startswith("sqlite"):
        address = sa.make_url(url)
        return sa.create_engine(address.set(password=address.password or password), pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # Transactions are begun below; sqlite3 would begin them late and as readers, and an upgrade from reader to
        # writer fails at once when another process writes, instead of waiting.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # FULL: what was acknowledged survives the loss of power and not only of the process.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(_READS) else "BEGIN IMMEDIATE")

    return engine


def advance(catalog: Catalog, model: type[Job], row_id: str, **changes: Any) -> None:
    """Sets columns of a running job's row as one visible change.

    Raises CancelledError when the job was cancelled or its row deleted, which is how a worker learns of it.
    """
    if changes.get("state") == "running":
        changes = {"error": None, **changes, "started_at": sa.func.coalesce(model.started_at, now())}
    elif changes.get("state") in TERMINAL_STATES:
        # What it did and at which pace holds no more.
        changes = {"message": "", **changes, "finished_at": now()}
    statement = (
        sa.update(model)
        .where(model.id == row_id, model.state != "cancelled")
        .values(**changes, version=model.version + 1)
    )
    with catalog.session() as session:
        if _changed(session, statement) == 0:
            raise CancelledError(f"{row_id} was cancelled.")
        if "state" in changes or "stage" in changes or "done" not in changes:
            _note(session, model, row_id, changes)


def count_death(catalog: Catalog, model: type[Job], row_id: str) -> int:
    """Of a worker that died while it held the job; returns how many that were since it was queued."""
    counted = sa.update(model).where(model.id == row_id).values(deaths=model.deaths + 1)
    with catalog.session() as session:
        _changed(session, counted)
        return session.scalar(sa.select(model.deaths).where(model.id == row_id)) or 0


def _note(session: Session, model: type[Job], row_id: str, changes: dict[str, Any]) -> None:
    """Adds a line to the job's log, if it says anything new."""
    state, stage = session.execute(sa.select(model.state, model.stage).where(model.id == row_id)).one()
    line = state, stage, changes.get("error") or changes.get("message", "")
    known = sa.select(JobLine.state, JobLine.stage, JobLine.message).where(JobLine.job_id == row_id)
    if session.execute(known.order_by(JobLine.id.desc()).limit(1)).one_or_none() != line:
        session.add(JobLine(job_id=row_id, **dict(zip(("state", "stage", "message"), line, strict=True))))


def advance_part(catalog: Catalog, curation_id: str, part: int, parts: int, done: int, total: int) -> None:
    """Like `advance`, for one of the parts that a curation's scan is split into: the row shows their sum.

    Raises CancelledError when the curation does not run any more.
    """
    with catalog.session() as session:
        # Locked, so that no other part's progress is missed in the sum.
        row = session.get(Curation, curation_id, with_for_update=True)
        if row is None or row.state != "running":
            raise CancelledError(f"{curation_id} was cancelled.")
        session.merge(ScanPart(curation_id=curation_id, part=part, done=done, total=total))
        session.flush()
        sums = sa.select(sa.func.sum(ScanPart.done), sa.func.sum(ScanPart.total), sa.func.count())
        all_done, known, begun = session.execute(sums.where(ScanPart.curation_id == curation_id)).one()
        # Parts are alike: those that wait are as long as those that have begun.
        row.done, row.total, row.version = int(all_done), int(known) * parts // begun, row.version + 1


def cancel(catalog: Catalog, model: type[Job], row_id: str) -> None:
    """Marks a job cancelled. Raises NotFoundError, and ConflictError when it has ended already."""
    with catalog.session() as session:
        row = session.get(model, row_id, with_for_update=True)
        if row is None:
            raise NotFoundError(f"There is no {model.__name__.lower()} {row_id}.")
        if row.state in TERMINAL_STATES:
            raise ConflictError(f"{row_id} has {row.state} already.", "Only what waits or runs can be cancelled.")
        row.state, row.message, row.finished_at, row.version = "cancelled", "", now(), row.version + 1
        row.note("")


def page(
    session: Session, query: "sa.Select[Row]", model: Any, cursor: str | None, limit: int
) -> tuple[Sequence[Row], str | None]:
    """One page of rows, newest first, and the cursor of the next. Rows created meanwhile do not shift it."""
    if cursor is not None:
        kind = model.id.type.python_type
        query = query.where(model.id < read_place(cursor, "after", lambda after: type(after) is kind and _is_id(after)))
    rows = session.scalars(query.order_by(model.id.desc()).limit(limit + 1)).all()
    if len(rows) <= limit:
        return rows, None
    last: Any = rows[limit - 1]
    return rows[:limit], write_place("after", last.id)


def _is_id(after: Any) -> bool:
    """Ids are of printable ASCII, and numbers those of decisions."""
    if isinstance(after, str):
        return after.isascii() and after.isprintable()
    return type(after) is int and 0 <= after < 2**63


def standing_decisions(rows: Sequence[Any]) -> dict[int, Any]:
    """By sample, the row of the decision that stands: the latest that was not undone.

    rows: all that were decided on these samples, in their order, with id, sample and undoes.
    """
    undone = {row.undoes for row in rows if row.undoes is not None}
    return {row.sample: row for row in rows if row.undoes is None and row.id not in undone}


def recall(session: Session, key: str, route: str, request_hash: str) -> str | None:
    """What an idempotency key made before. Raises ConflictError when it came with another request."""
    known = session.get(IdempotencyKey, (key, route))
    if known is None:
        return None
    if known.request_hash != request_hash:
        raise ConflictError(
            f"The idempotency key {key!r} was used for another request.", "Use a new key for a new request."
        )
    return known.resource_id


def remember(session: Session, key: str, route: str, request_hash: str, resource_id: str) -> None:
    session.add(IdempotencyKey(key=key, route=route, request_hash=request_hash, resource_id=resource_id))


def _changed(session: Session, statement: sa.Update) -> int:
    result: Any = session.execute(statement.execution_options(synchronize_session=False))
    return int(result.rowcount)
