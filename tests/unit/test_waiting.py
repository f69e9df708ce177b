"""What counts as an outage, and a log that stays short while one lasts."""

import errno
import logging
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tamis.errors import CancelledError, InputError
from tamis.logs import Few
from tamis.settings import Settings
from tamis.store.catalog import Catalog, cancel, open_catalog
from tamis.store.objects import open_objects
from tamis.store.outages import outage_of
from tamis.store.schema import Dataset
from worker.durable import outages


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = open_catalog(Settings(data=tmp_path))
    with catalog.session() as session:
        session.add(Dataset(id="ds_1", name="one", state="running"))
    return catalog


def message_of(catalog: Catalog) -> str:
    with catalog.session() as session:
        return session.get_one(Dataset, "ds_1").message


def test_an_object_that_the_disk_has_no_room_for_is_an_outage(tmp_path: Path) -> None:
    objects = open_objects(Settings(data=tmp_path))
    with small_files(1000), pytest.raises(Exception) as raised:  # noqa: PT011  whichever the store raises
        objects.put("shards/one", bytes(10_000))
    assert str(outage_of(raised.value)).startswith("the object store (")


def test_a_database_that_cannot_be_written_is_an_outage(catalog: Catalog) -> None:
    with small_files(1000), pytest.raises(sa.exc.OperationalError) as raised, catalog.session() as session:
        session.add_all(Dataset(id=f"ds_{n}", name="n" * 5000, state="empty") for n in range(2, 40))
    assert str(outage_of(raised.value)).startswith("the database (")


def test_a_server_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(sa.exc.OperationalError) as raised:
        sa.create_engine(f"postgresql+psycopg://nobody@/none?host={tmp_path}").connect()
    assert str(outage_of(raised.value)).startswith("the database (")


def test_faults_of_the_job_are_not() -> None:
    with pytest.raises(sa.exc.OperationalError) as raised:
        sa.create_engine("sqlite://").connect().execute(sa.text("SELECT * FROM nothing"))
    given = InputError("wrong")
    given.__cause__ = OSError(errno.ENOSPC, "full")
    assert [outage_of(each) for each in (raised.value, given, ValueError(), sqlite3.Error())] == [None] * 4


def test_the_row_says_what_is_waited_for_until_it_is_there(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    paused, told = [], []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        told.append(message_of(catalog))

    def write() -> str:
        if len(paused) < 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return "written"

    monkeypatch.setattr(outages.time, "sleep", pause)
    assert outages.wait_out(catalog, "ds_1", write) == "written"
    assert paused == [1, 2, 4, 8, 15, 30, 30, 30]
    assert set(told) == {"waiting for the disk ([Errno 28] No space left on device)"}


def test_who_waits_learns_that_the_job_is_cancelled(catalog: Catalog) -> None:
    def write() -> None:
        cancel(catalog, Dataset, "ds_1")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CancelledError):
        outages.wait_out(catalog, "ds_1", write)


def test_a_library_that_repeats_itself_is_cut_short(caplog: pytest.LogCaptureFixture) -> None:
    logger, few = logging.getLogger("repeats"), Few(each_minute=3)
    logger.addFilter(few)
    for n in range(1000):
        try:
            raise OSError("gone")
        except OSError:
            logger.warning("try %d failed\nSELECT 1", n, exc_info=True)
    few._began -= 60
    logger.warning("over")
    assert caplog.messages == [f"try {n} failed (OSError('gone'))" for n in range(3)] + [
        "over [997 lines like this left out]"
    ]
