"""`tamis serve`, `worker`, `gc` and `keys`: a server of one's own, and who may use it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from tamis.commands.groups import WHAT
from tamis.commands.options import Data, Result, flag, number, settings_at
from tamis.commands.tables import print_table

keys = App(name="keys")


def serve(
    *,
    host: Annotated[
        str, Parameter(help="Address to listen on; other than loopback asks for an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, Parameter(help="0 takes a free one.", validator=number(0, 65535))] = 8080,
    no_worker: Annotated[bool, flag("Leave the jobs to `tamis worker`.")] = False,
    keys: Annotated[bool, flag("Ask for API keys on loopback too, as behind a proxy on this machine.")] = False,
    data: Data = None,
    reload: Annotated[bool, flag("Restart when the code changes, for development.")] = False,
) -> Result:
    from service.main import serve as serve_until_ended

    serve_until_ended(settings_at(data), host=host, port=port, with_worker=not no_worker, keys=keys, reload=reload)
    return None


def worker(
    *,
    queues: Annotated[str, Parameter(help="Which to take jobs from, comma-separated.")] = "cpu,gpu,train",
    id: Annotated[
        str | None, Parameter(help="A name that stays over restarts, so that a restart resumes at once.")
    ] = None,
    data: Data = None,
    parent: Annotated[int | None, Parameter(show=False)] = None,
) -> Result:
    from worker.durable.main import run_worker

    run_worker(settings_at(data, **({"worker_id": id} if id else {})), queues.split(","), parent=parent)
    return None


def gc(
    *, dry_run: Annotated[bool, flag("Only tell what would be removed.", WHAT)] = False, data: Data = None
) -> Result:
    from tamis.store.catalog import open_catalog
    from tamis.store.garbage import collect_garbage
    from tamis.store.objects import open_objects

    settings = settings_at(data)
    removed, freed = collect_garbage(open_catalog(settings), open_objects(settings), dry_run=dry_run)
    print(f"{removed:,} objects of {freed / 1e6:,.1f} MB {'would be' if dry_run else 'were'} removed.")
    return {"objects": removed, "bytes": freed, "dry_run": dry_run}


def backup(
    folder: Annotated[Path, Parameter(help="A new folder to copy to.", group=WHAT)], /, *, data: Data = None
) -> Result:
    from tamis.store.backup import back_up

    count, size = back_up(settings_at(data), folder)
    print(f"{folder}: the catalogue and {count:,} objects of {size / 1e6:,.1f} MB")
    return {"folder": str(folder), "objects": count, "bytes": size}


def restore(
    folder: Annotated[Path, Parameter(help="What `tamis backup` made.", group=WHAT)], /, *, data: Data = None
) -> Result:
    from tamis.store.backup import restore as restore_from

    settings = settings_at(data)
    restore_from(settings, folder)
    print(f"{settings.data} is as {folder}; jobs that ran go on once `tamis serve` does.")
    return {"data": str(settings.data)}


@keys.command
def create(
    name: Annotated[str, Parameter(help="Whose it is.", group=WHAT)],
    /,
    *,
    scope: Annotated[
        Literal["read", "write", "admin"],
        Parameter(help="What it may: read; also send and start work; also delete data sets.", group=WHAT),
    ] = "admin",
    days: Annotated[
        float | None, Parameter(help="It expires after so many; never if not given.", group=WHAT, validator=number(0))
    ] = None,
    quota_bytes: Annotated[
        int | None,
        Parameter(help="What it may have stored; no limit of its own if not given.", group=WHAT, validator=number(0)),
    ] = None,
    data: Data = None,
) -> Result:
    """Creates a key, which is shown once."""
    from service.keys import create_key

    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    key_id, key = create_key(_catalog(data), name, scope, expires_at, quota_bytes)
    print(f"{key_id}  {key}\nStore it now: it is not shown again.")
    return {"id": key_id, "key": key, "scope": scope, "expires_at": expires_at}


@keys.command(name="list")
def list_(*, data: Data = None) -> Result:
    """Lists the keys."""
    from service.keys import list_keys

    rows = [
        {
            "id": row.id,
            "name": row.name,
            "prefix": row.prefix,
            "scope": row.scope,
            "quota_bytes": row.quota_bytes,
            "revoked": row.revoked_at is not None,
            "expires_at": row.expires_at,
        }
        for row in list_keys(_catalog(data))
    ]
    print_table(
        ["ID", "KEY", "MAY", "STATE", "NAME"],
        [(row["id"], f"{row['prefix']}...", row["scope"], _state(row), row["name"]) for row in rows],
    )
    return {"keys": rows}


def _state(row: dict[str, Any]) -> str:
    if row["revoked"]:
        return "revoked"
    if row["expires_at"] is None:
        return "standing"
    return f"{'expires' if row['expires_at'] > datetime.now(UTC) else 'expired'} {row['expires_at']:%Y-%m-%d %H:%M}"


@keys.command
def revoke(
    id: Annotated[str, Parameter(help="As `tamis keys list` shows it.", group=WHAT)], /, *, data: Data = None
) -> Result:
    """Revokes a key, at once and for good."""
    from service.keys import revoke_key

    revoke_key(_catalog(data), id)
    print(f"{id} is revoked.")
    return {"id": id, "revoked": True}


def _catalog(data: Path | None) -> Any:
    from tamis.store.catalog import open_catalog

    return open_catalog(settings_at(data))
