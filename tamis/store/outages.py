"""Which errors are no fault of what was asked: a full disk, a database or an object store that is away."""

import errno
import sqlite3

import sqlalchemy as sa
from obstore.exceptions import BaseError, InvalidPathError, NotSupportedError

from tamis.errors import TamisError

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE}
_NETWORK = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY")

# How a job's message says that it waits until an outage is over.
WAITING = "waiting for "


class StoreAwayError(ConnectionError):
    """The object store broke off within an object. It has a number, as errors of the disk have and damaged data have
    not."""

    def __str__(self) -> str:
        return str(self.strerror)


def outage_of(problem: BaseException | None) -> str | None:
    """What is away or full, in words for people, and how it was noticed; None for a fault of the job's own."""
    while problem is not None and not isinstance(problem, TamisError):
        place = _place_of(problem)
        if place is not None:
            return f"{place} ({first_line(getattr(problem, 'orig', None) or problem)})"
        problem = problem.__cause__
    return None


def memory_is_short(problem: BaseException) -> bool:
    """Whether an error says that there is no more memory, whichever library met it."""
    kind = type(problem)
    words = str(problem).lower()
    return (
        isinstance(problem, MemoryError)
        or kind.__name__ == "OutOfMemoryError"
        or (kind is RuntimeError and ("allocate memory" in words or "bad_alloc" in words))
    )


def _place_of(problem: BaseException) -> str | None:
    if isinstance(problem, sa.exc.DBAPIError):
        if isinstance(problem.orig, sqlite3.Error):
            name = getattr(problem.orig, "sqlite_errorname", "")
            return "the database" if name.startswith(_SQLITE) else None
        away = problem.connection_invalidated or isinstance(problem, sa.exc.OperationalError | sa.exc.InterfaceError)
        return "the database" if away else None
    if isinstance(problem, sa.exc.TimeoutError):
        return "the database"
    if isinstance(problem, StoreAwayError):
        return "the object store"
    if isinstance(problem, BaseError):
        return None if isinstance(problem, NotSupportedError | InvalidPathError) else "the object store"
    if isinstance(problem, OSError) and problem.errno in _DISK:
        return "the disk"
    if isinstance(problem, OSError) and problem.errno in _NETWORK:
        return "the network"
    return None


def first_line(problem: object) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]
