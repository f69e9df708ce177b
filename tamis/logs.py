"""What a service or a worker tells whoever runs it."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from tamis.printable import printable

# Of one library, such as the job engine, which tells of every failed look into a database that is away.
LINES_A_MINUTE = 5


# What lines are about now, such as {"request": "9f2c"}.
_about: ContextVar[dict[str, str]] = ContextVar("about", default={})  # noqa: B039  never changed, only replaced


@contextmanager
def about(**names: str) -> Iterator[None]:
    """Lines that are logged meanwhile, by this thread or task, say so."""
    token = _about.set({**_about.get(), **names})
    try:
        yield
    finally:
        _about.reset(token)


def log_to_stderr(form: str = "text") -> None:
    """The log of a long-running program: its own lines, and from libraries only warnings, a few a minute.

    form: text, or json for one object a line: time, level, logger, message, what it is about, and a traceback.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Objects() if form == "json" else Harmless("%(asctime)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in ("alembic", "dbos", "httpx"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.addFilter(Few())


class Harmless(logging.Formatter):
    """A message is one line, whatever names it holds; a traceback has its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the library's own name
        told = "".join(f" {name}={value}" for name, value in _about.get().items())
        return printable(super().formatMessage(record) + told)

    def formatException(self, ei: Any) -> str:  # noqa: N802  the library's own name
        return printable(super().formatException(ei), keep="\n")


class Objects(logging.Formatter):
    """Each record is an object of JSON, on a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


class Few(logging.Filter):
    """Lets a few records a minute through, each on one line, and says how many it left out before."""

    def __init__(self, each_minute: int = LINES_A_MINUTE) -> None:
        super().__init__()
        self._each_minute = each_minute
        self._began, self._passed, self._left = -60.0, 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        if time.monotonic() - self._began >= 60:
            self._began, self._passed = time.monotonic(), 0
        if self._passed >= self._each_minute:
            self._left += 1
            return False
        said = (record.getMessage().splitlines() or [""])[0]
        if record.exc_info and record.exc_info[1] is not None:
            said += f" ({record.exc_info[1]!r})".splitlines()[0]
        record.msg, record.args, record.exc_info, record.exc_text = said, (), None, None
        if self._left:
            record.msg += f" [{self._left} lines like this left out]"
        self._passed, self._left = self._passed + 1, 0
        return True
