"""API keys: made, listed, revoked, and looked up at each request."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast, get_args

import sqlalchemy as sa

from tamis.errors import InputError, NotFoundError
from tamis.store.catalog import Catalog
from tamis.store.schema import ApiKey, new_id, now

# What a key may do, each also what those before it may.
Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# A key's last use is noted no more often than this, so that reading pages does not mean writing to the database.
NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Caller:
    """Whose request it is: the id and name of the key, and what that may. Both are empty where none is needed."""

    key_id: str
    name: str
    scope: Scope


ANYONE = Caller("", "", "admin")


def caller_with(catalog: Catalog, key: str) -> Caller | None:
    """Whose key it is; None if it was not made here, is revoked or has expired."""
    with catalog.reading() as session:
        row = session.scalar(sa.select(ApiKey).where(ApiKey.hash == _hash(key)))
    if row is None or not row.stands:
        return None
    moment = now()
    if row.last_used_at is None or moment - row.last_used_at > NOTED_EVERY:
        with catalog.session() as session:
            session.execute(sa.update(ApiKey).where(ApiKey.id == row.id).values(last_used_at=moment))
    return Caller(row.id, row.name, cast(Scope, row.scope))


def create_key(
    catalog: Catalog,
    name: str,
    scope: Scope = "admin",
    expires_at: datetime | None = None,
    quota_bytes: int | None = None,
) -> tuple[str, str]:
    """Makes a key and returns (id, key). The key itself is shown this once; only its hash is stored.

    quota_bytes: what the data sets and unfinished uploads that it makes may take together; no limit of its own if None.
    """
    if not name.strip() or not name.isprintable():
        raise InputError("A key needs a name of printable characters.", "Name it after who or what will use it.")
    key = f"tamis_{secrets.token_urlsafe(32)}"
    with catalog.session() as session:
        row = ApiKey(
            id=new_id("key"),
            name=name.strip(),
            hash=_hash(key),
            prefix=key[:12],
            scope=scope,
            expires_at=expires_at,
            quota_bytes=quota_bytes,
        )
        session.add(row)
        return row.id, key


def list_keys(catalog: Catalog) -> list[ApiKey]:
    with catalog.reading() as session:
        rows = list(session.scalars(sa.select(ApiKey).order_by(ApiKey.created_at)))
        session.expunge_all()
        return rows


def revoke_key(catalog: Catalog, key_id: str) -> None:
    with catalog.session() as session:
        row = session.get(ApiKey, key_id)
        if row is None:
            raise NotFoundError(f"There is no key {key_id}.", "`tamis keys list` shows them.")
        row.revoked_at = row.revoked_at or now()


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
