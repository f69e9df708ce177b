"""`tamis doctor`: whether a server's parts are there and work, each tried with the server's own settings."""

import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from tamis.commands.options import Data, Result, flag, settings_at
from tamis.errors import ConflictError
from tamis.printable import printable
from tamis.version import __version__

GIB = 2**30
# Room below which a curation of a usual data set may not end.
LEAST_FREE = 5 * GIB
CLOCK_SECONDS = 5.0


def doctor(
    *,
    worker: Annotated[bool, flag("Only whether a worker of this machine, or container, is alive.")] = False,
    data: Data = None,
) -> Result:
    settings = settings_at(data)
    told, failed = {}, []
    for name, check in _checks(settings, worker):
        try:
            told[name] = check()
            mark = "well"
        except Exception as problem:  # whatever is wrong with a part is what is asked for
            told[name] = str(problem) or type(problem).__name__
            failed.append(name)
            mark = "WRONG"
        print(printable(f"{mark:5}  {name}: {told[name].splitlines()[0]}"))
    if failed:
        raise ConflictError(f"Not well: {', '.join(failed)}.", "Mend what is told above.")
    return {"checks": told}


def _checks(settings: Any, worker: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    if worker:
        yield "worker", lambda: _worker(settings)
        return
    yield "versions", _versions
    yield "device", lambda: _device(settings)
    yield "data folder", lambda: _folder(settings)
    yield "database", lambda: _database(settings)
    yield "object store", lambda: _objects(settings)
    yield "workers", lambda: _workers(settings)


def _versions() -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    libraries = ("torch", "faiss-cpu", "faiss-gpu", "dbos", "sqlalchemy", "fastapi", "obstore", "pyarrow")
    installed = (f"{name} {version(name)}" for name in libraries if _is_installed(name))
    return ", ".join([f"Tamis {__version__}", f"Python {python}", *installed])


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _device(settings: Any) -> str:
    from tamis.device import resolve_device

    settings.require_device()
    return f"{resolve_device(settings.device)} for TAMIS_DEVICE={settings.device}"


def _folder(settings: Any) -> str:
    settings.data.mkdir(parents=True, exist_ok=True)
    file = settings.data / "doctor"
    file.write_bytes(b"well")
    file.unlink()
    free = shutil.disk_usage(settings.data).free
    if free < LEAST_FREE:
        raise ConflictError(f"{settings.data} has {free / GIB:.1f} GiB left.", "Make room, or set TAMIS_DATA.")
    return f"{settings.data.resolve()} can be written, {free / GIB:,.0f} GiB left"


def _database(settings: Any) -> str:
    from tamis.store.catalog import open_catalog, revision_and_time

    catalog = open_catalog(settings)
    try:
        revision, moment = revision_and_time(catalog)
        ahead, kind = moment - time.time(), catalog.engine.dialect.name
    finally:
        catalog.close()
    if abs(ahead) > CLOCK_SECONDS:
        raise ConflictError(f"The database's clock is {ahead:+.0f} s from this machine's.", "Set both by NTP.")
    return f"{kind} answers, tables of revision {revision}, clocks agree"


def _objects(settings: Any) -> str:
    from tamis.store.objects import open_objects

    objects, key, content = open_objects(settings), f"uploads/doctor-{time.time_ns()}", b"well"
    objects.put(key, content)
    try:
        if objects.get(key) != content:
            raise ConflictError(f"{settings.objects} gives back other bytes than it was given.")
    finally:
        objects.delete(key)
    return f"{settings.objects} stores and gives back"


def _workers(settings: Any) -> str:
    from tamis.store.catalog import open_catalog
    from tamis.store.jobs import QUEUES
    from tamis.store.leases import live_workers

    catalog = open_catalog(settings)
    try:
        counts = {queue: live_workers(catalog, queue) for queue in QUEUES}
    finally:
        catalog.close()
    return "alive: " + ", ".join(f"{count} on {queue}" for queue, count in counts.items())


def _worker(settings: Any) -> str:
    from tamis.store.catalog import open_catalog
    from tamis.store.leases import live_workers

    host = socket.gethostname()
    catalog = open_catalog(settings)
    try:
        count = live_workers(catalog, host=host)
    finally:
        catalog.close()
    if not count:
        raise ConflictError(f"No worker of {host} has kept its lease fresh.", "See the worker's log.")
    return f"{count} of {host} alive"
