"""A copy of catalogue and objects that belong together, taken while jobs run, and a server's data made of one.

The objects are files of the copy's folder, wherever they are stored. The catalogue is copied by the database's own
means: SQLite's backup, or `pg_dump` and `pg_restore`.
"""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from tamis.errors import BusyError, InputError, NotFoundError, TamisError
from tamis.settings import Settings
from tamis.store.catalog import make_engine, open_catalog
from tamis.store.garbage import needed
from tamis.store.objects import Objects, open_objects
from tamis.store.schema import Dataset

SQLITE, POSTGRES, OBJECTS, KEYS = "tamis.sqlite", "tamis.dump", "objects", "keys.txt"
# What grows or is replaced under its key; all other objects never change.
CHANGING = ("uploads", "checkpoints")
TRIES = 5


def back_up(settings: Settings, folder: Path) -> tuple[int, int]:
    """Copies to a new folder; returns how many objects, and their bytes.

    The catalogue comes first, as of one moment, and every object that it needs is in the copy: what was deleted
    meanwhile is noticed, and the catalogue copied anew.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty.", "Give a new folder for each backup.")
    if not _has_catalog(settings):
        raise NotFoundError(f"There is no catalogue in {_place(settings)}.", "Set TAMIS_DATA, or give --data.")
    objects = open_objects(settings)
    (folder / OBJECTS).mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        keys = (_copy_sqlite if _is_sqlite(settings) else _dump_postgres)(settings, folder)
        _copy_objects(objects, folder / OBJECTS)
        if not _missing(keys, folder):
            (folder / KEYS).write_text("\n".join(keys))
            files = [file for file in (folder / OBJECTS).rglob("*") if file.is_file()]
            return len(files), sum(file.stat().st_size for file in files)
    raise BusyError("Objects were deleted each time while the rest was copied.", "Try again when less is deleted.")


def restore(settings: Settings, folder: Path) -> None:
    """Fills a database and a store in which there is nothing. Jobs that ran go on once a worker starts."""
    if not (folder / KEYS).is_file():
        raise NotFoundError(f"{folder} is no backup of Tamis.", "Give the folder that `tamis backup` made.")
    name = SQLITE if _is_sqlite(settings) else POSTGRES
    if not (folder / name).is_file():
        other = "PostgreSQL" if name == SQLITE else "SQLite"
        raise InputError(f"{folder} is a backup of {other}.", "Set TAMIS_DATABASE_URL to a database of that kind.")
    objects = open_objects(settings)
    if _has_catalog(settings) or any(True for _ in objects.stored("")):
        raise InputError(
            f"{_place(settings)} has data already.", "Give an empty folder as --data, or an empty database and bucket."
        )
    missing = _missing((folder / KEYS).read_text().splitlines(), folder)
    if missing:
        raise NotFoundError(f"The backup lacks {len(missing)} objects, such as {missing[0]}.", "Take another one.")
    for file in sorted((folder / OBJECTS).rglob("*")):
        if file.is_file():
            objects.put(file.relative_to(folder / OBJECTS).as_posix(), file)
    if name == SQLITE:
        shutil.copy2(folder / name, _file(settings))
    else:
        _postgres(settings, "pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", str(folder / name))


def _is_sqlite(settings: Settings) -> bool:
    return settings.database.startswith("sqlite:///")


def _file(settings: Settings) -> Path:
    return Path(settings.database.removeprefix("sqlite:///"))


def _place(settings: Settings) -> str:
    if _is_sqlite(settings):
        return str(_file(settings).parent)
    return sa.make_url(settings.database).render_as_string()


def _has_catalog(settings: Settings) -> bool:
    if _is_sqlite(settings):
        return _file(settings).is_file()
    engine = make_engine(settings.database, settings.database_password)
    try:
        return sa.inspect(engine).has_table("alembic_version")
    finally:
        engine.dispose()


def _copy_sqlite(settings: Settings, folder: Path) -> list[str]:
    """Copies the catalogue; returns the keys of the objects that the copy needs."""
    with closing(sqlite3.connect(_file(settings))) as source, closing(sqlite3.connect(folder / SQLITE)) as copy:
        source.backup(copy)
    of_copy = {"data": folder, "database_url": f"sqlite:///{(folder / SQLITE).resolve()}"}
    catalog = open_catalog(settings.model_copy(update=of_copy))
    try:
        with catalog.reading() as session:
            return _keys(session)
    finally:
        catalog.close()


def _dump_postgres(settings: Settings, folder: Path) -> list[str]:
    """The same by `pg_dump`, which sees what this transaction sees."""
    engine = make_engine(settings.database, settings.database_password)
    try:
        with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
            moment = session.execute(sa.select(sa.func.pg_export_snapshot())).scalar_one()
            file = str(folder / POSTGRES)
            _postgres(settings, "pg_dump", "--format", "custom", "--no-owner", "--snapshot", moment, "--file", file)
            return _keys(session)
    finally:
        engine.dispose()


def _postgres(settings: Settings, program: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs on the database of the settings."""
    url = make_engine(settings.database, settings.database_password).url.set(drivername="postgresql")
    # Other users of the machine see what a program is called with.
    environment = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
    address = url.set(password=None).render_as_string()
    try:
        ended = subprocess.run([program, "--dbname", address, *arguments], env=environment, capture_output=True)
    except FileNotFoundError as error:
        raise InputError(
            f"There is no {program} here.", "Install PostgreSQL's client programs, no older than the server."
        ) from error
    if ended.returncode:
        told = ended.stderr.decode(errors="replace").strip() or f"It ended with status {ended.returncode}."
        raise TamisError(f"{program} failed: {told}")


def _keys(session: Session) -> list[str]:
    """What a catalogue needs."""
    # An archive that waits for its ingest is gone once that has ended.
    waiting = Dataset.state.in_(("queued", "running")), Dataset.upload_key.startswith("uploads/")
    uploads = session.scalars(sa.select(Dataset.upload_key).where(*waiting))
    return sorted(needed(session).keys.union(filter(None, uploads)))


def _copy_objects(objects: Objects, to: Path) -> None:
    for key in objects.list(""):
        place = to / key
        if place.exists() and key.partition("/")[0] not in CHANGING:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with place.open("wb") as file:
                file.writelines(objects.stream(key))
        except NotFoundError:
            # Deleted meanwhile; whether it is needed is seen at the end.
            place.unlink(missing_ok=True)


def _missing(keys: list[str], folder: Path) -> list[str]:
    """Those of the keys that the copied objects lack."""
    return [key for key in keys if not (folder / OBJECTS / key).exists()]
