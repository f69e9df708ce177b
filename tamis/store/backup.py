"""A copy of catalogue and objects that belong together, taken while jobs run, and a data folder made of one."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from tamis.errors import BusyError, InputError, NotFoundError
from tamis.settings import Settings
from tamis.store.catalog import open_catalog
from tamis.store.garbage import needed
from tamis.store.schema import Dataset

CATALOG, OBJECTS = "tamis.sqlite", "objects"
# What grows or is replaced under its key; all other objects never change.
CHANGING = ("uploads", "checkpoints")
TRIES = 5


def back_up(settings: Settings, folder: Path) -> tuple[int, int]:
    """Copies to a new folder; returns how many objects, and their bytes.

    The catalogue comes first, as of one moment, and every object that it needs is in the copy: what was deleted
    meanwhile is noticed, and the catalogue copied anew.
    """
    database, objects = _places(settings)
    if not database.is_file():
        raise NotFoundError(f"There is no catalogue in {database.parent}.", "Set TAMIS_DATA, or give --data.")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty.", "Give a new folder for each backup.")
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(folder / CATALOG)) as copy:
            source.backup(copy)
        _copy_objects(objects, folder / OBJECTS)
        if not _missing(folder, settings):
            files = [file for file in (folder / OBJECTS).rglob("*") if file.is_file()]
            return len(files), sum(file.stat().st_size for file in files)
    raise BusyError("Objects were deleted each time while the rest was copied.", "Try again when less is deleted.")


def restore(settings: Settings, folder: Path) -> None:
    """Makes the data folder of a backup, where there is none. Jobs that ran go on once a worker starts."""
    database, objects = _places(settings)
    if not (folder / CATALOG).is_file():
        raise NotFoundError(f"{folder} is no backup of Tamis.", "Give the folder that `tamis backup` made.")
    if database.exists() or (objects.exists() and any(objects.iterdir())):
        raise InputError(f"{database.parent} has data already.", "Give an empty folder as --data.")
    missing = _missing(folder, settings)
    if missing:
        raise NotFoundError(f"The backup lacks {len(missing)} objects, such as {missing[0]}.", "Take another one.")
    database.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder / OBJECTS, objects, dirs_exist_ok=True)
    shutil.copy2(folder / CATALOG, database)


def _places(settings: Settings) -> tuple[Path, Path]:
    if not settings.database.startswith("sqlite:///") or "://" in settings.objects:
        raise InputError(
            "This copies SQLite and a folder of objects only.",
            "Use pg_dump for PostgreSQL, and after it copy the bucket: objects never change.",
        )
    return Path(settings.database.removeprefix("sqlite:///")), Path(settings.objects)


def _copy_objects(objects: Path, to: Path) -> None:
    for file in sorted(objects.rglob("*")):
        place = to / file.relative_to(objects)
        # Names with `#` are of writes that go on.
        if "#" in file.name or not file.is_file():
            continue
        if place.exists() and place.relative_to(to).parts[0] not in CHANGING:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(file, place)
        except FileNotFoundError:
            # Deleted meanwhile; whether it is needed is seen at the end.
            place.unlink(missing_ok=True)


def _missing(folder: Path, settings: Settings) -> list[str]:
    """Keys that the copied catalogue needs and the copied objects lack."""
    of_copy = {"data": folder, "database_url": f"sqlite:///{(folder / CATALOG).resolve()}"}
    catalog = open_catalog(settings.model_copy(update=of_copy))
    try:
        with catalog.session() as session:
            # An archive that waits for its ingest is gone once that has ended.
            waiting = Dataset.state.in_(("queued", "running")), Dataset.upload_key.startswith("uploads/")
            uploads = session.scalars(sa.select(Dataset.upload_key).where(*waiting))
            keys = needed(session).keys.union(filter(None, uploads))
    finally:
        catalog.close()
    return sorted(key for key in keys if not (folder / OBJECTS / key).exists())
