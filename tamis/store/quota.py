"""The quota: what data sets and unfinished uploads may take together."""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.orm import Session

from tamis.errors import QuotaError
from tamis.store.schema import ApiKey, Dataset, Upload, now

# Any fixed number will do: it names the lock that keeps two requests from taking the same room.
_ADVISORY_LOCK = 0x74616D71
ROOM_HINT = "Delete data sets or unfinished uploads that are no longer needed, or raise TAMIS_QUOTA_BYTES."


def is_unfinished() -> tuple["sa.ColumnElement[bool]", ...]:
    """Conditions on uploads: neither finished nor expired."""
    return Upload.received < Upload.size, Upload.expires_at > now()


def bytes_taken(session: Session, key_id: str | None = None) -> tuple[int, int]:
    """Bytes of the data sets (their archives, until the images are in shards), and those that uploads have claimed;
    of all, or of what one key has made."""
    stored = sa.select(sa.func.coalesce(sa.func.sum(Dataset.bytes), 0))
    unfinished = sa.select(sa.func.coalesce(sa.func.sum(Upload.size), 0)).where(*is_unfinished())
    if key_id is not None:
        stored = stored.where(Dataset.key_id == key_id)
        unfinished = unfinished.join(Dataset).where(Dataset.key_id == key_id)
    return int(session.scalar(stored) or 0), int(session.scalar(unfinished) or 0)


def room_left(session: Session, quota: int | None, dataset_id: str) -> int | None:
    """Bytes that the data set may have, None without a quota: of the server's, and of that of the key that made it."""
    return min((room for _, room in _rooms(session, quota, dataset_id)), default=None)


def claim_room(session: Session, quota: int | None, size: int, dataset_id: str) -> None:
    """Raises QuotaError unless the data set may have `size` bytes. Until the transaction ends, no other claims the
    same room."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    for whose, left in _rooms(session, quota, dataset_id):
        if size > left:
            hint = ROOM_HINT if whose == "server" else "Delete what it made and nobody needs, or use another key."
            raise QuotaError(f"{size} bytes were to be stored, and this {whose} may store {left} more.", hint)


def _rooms(session: Session, quota: int | None, dataset_id: str) -> Iterator[tuple[str, int]]:
    """Whose quota it is, and the bytes left of it beside those that the data set has."""
    known = session.execute(sa.select(Dataset.bytes, Dataset.key_id).where(Dataset.id == dataset_id)).one_or_none()
    own, key_id = known or (0, None)
    if quota is not None:
        yield "server", max(quota - sum(bytes_taken(session)) + own, 0)
    of_key = session.scalar(sa.select(ApiKey.quota_bytes).where(ApiKey.id == key_id))
    if of_key is not None:
        yield "key", max(of_key - sum(bytes_taken(session, key_id)) + own, 0)
