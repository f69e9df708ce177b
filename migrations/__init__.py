"""Brings the catalogue's tables to the present state. Runs by itself when a program opens the catalogue."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

# Any fixed number will do: it names the lock that keeps two programs from migrating at once.
ADVISORY_LOCK = 0x74616D6973


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Applies what is missing, one process at a time."""
    _run(engine, revision, command.upgrade)


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Goes back to an earlier revision, or to `base` for an empty database."""
    _run(engine, revision, command.downgrade)


def _run(engine: sa.Engine, revision: str, action: "object") -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with _locked(engine), engine.begin() as connection:
        config.attributes["connection"] = connection
        action(config, revision)  # type: ignore[operator]  # one of alembic's two commands above


@contextmanager
def _locked(engine: sa.Engine) -> Iterator[None]:
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(ADVISORY_LOCK)))
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(ADVISORY_LOCK)))
        return
    with Path(f"{engine.url.database}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
