"""Who may call: API keys, sent as a bearer token; and for browsers, only pages of this very server may change things."""

import hashlib
import ipaddress
import secrets
from datetime import UTC, datetime
from urllib.parse import urlsplit

import sqlalchemy as sa
from fastapi import Request

from tamis.errors import AuthenticationError, InputError, NotFoundError
from tamis.store.catalog import ApiKey, Catalog, new_id

READING = {"GET", "HEAD", "OPTIONS"}


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def authenticate(request: Request) -> None:
    """FastAPI dependency. Raises AuthenticationError unless the request carries a standing key, or none is required."""
    _same_origin(request)
    if not request.app.state.require_key:
        return
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    catalog: Catalog = request.app.state.backend.catalog
    if scheme.lower() != "bearer" or not _is_standing(catalog, key.strip()):
        raise AuthenticationError(
            "This server needs an API key.",
            "Make one with `tamis keys create NAME` beside the server and send it as `Authorization: Bearer KEY`.",
        )


def _same_origin(request: Request) -> None:
    """Refuses state changes sent by a page of another site, which a browser would send even to a loopback address."""
    origin = request.headers.get("origin")
    if request.method in READING or origin is None:
        return
    if urlsplit(origin).netloc != request.headers.get("host", ""):
        raise AuthenticationError(f"Requests from pages of {origin} are refused.", "Open the dashboard of this server.")


def _is_standing(catalog: Catalog, key: str) -> bool:
    with catalog.session() as session:
        row = session.scalar(sa.select(ApiKey).where(ApiKey.hash == _hash(key), ApiKey.revoked_at.is_(None)))
        if row is None:
            return False
        row.last_used_at = datetime.now(UTC)
        return True


def create_key(catalog: Catalog, name: str) -> tuple[str, str]:
    """Makes a key and returns (id, key). The key itself is shown this once; only its hash is stored."""
    if not name.strip():
        raise InputError("A key needs a name.", "Name it after who or what will use it.")
    key = f"tamis_{secrets.token_urlsafe(32)}"
    with catalog.session() as session:
        row = ApiKey(id=new_id("key"), name=name, hash=_hash(key), prefix=key[:12])
        session.add(row)
        return row.id, key


def list_keys(catalog: Catalog) -> list[ApiKey]:
    with catalog.session() as session:
        rows = list(session.scalars(sa.select(ApiKey).order_by(ApiKey.created_at)))
        session.expunge_all()
        return rows


def revoke_key(catalog: Catalog, key_id: str) -> None:
    with catalog.session() as session:
        row = session.get(ApiKey, key_id)
        if row is None:
            raise NotFoundError(f"There is no key {key_id}.", "`tamis keys list` shows them.")
        row.revoked_at = row.revoked_at or datetime.now(UTC)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
