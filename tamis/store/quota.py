"""The quota: what data sets and unfinished uploads may take together."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from tamis.errors import QuotaError
from tamis.store.schema import Dataset, Upload, now

# Any fixed number will do: it names the lock that keeps two requests from taking the same room.
_ADVISORY_LOCK = 0x74616D71
ROOM_HINT = "Delete data sets or unfinished uploads that are no longer needed, or raise TAMIS_QUOTA_BYTES."


def is_unfinished() -> tuple["sa.ColumnElement[bool]", ...]:
    """Conditions on uploads: neither finished nor expired."""
    return Upload.received < Upload.size, Upload.expires_at > now()


def bytes_taken(session: Session) -> tuple[int, int]:
    """Bytes of the data sets (their archives, until the images are in shards), and those that uploads have claimed."""
    stored = sa.select(sa.func.coalesce(sa.func.sum(Dataset.bytes), 0))
    unfinished = sa.select(sa.func.coalesce(sa.func.sum(Upload.size), 0)).where(*is_unfinished())
    return int(session.scalar(stored) or 0), int(session.scalar(unfinished) or 0)


def room_left(session: Session, quota: int | None, but: str = "") -> int | None:
    """Bytes that may still be stored, None without a quota. but: the id of a data set that does not count."""
    if quota is None:
        return None
    own = session.scalar(sa.select(Dataset.bytes).where(Dataset.id == but)) or 0
    return max(quota - sum(bytes_taken(session)) + own, 0)


def claim_room(session: Session, quota: int | None, size: int, but: str = "") -> None:
    """Raises QuotaError unless `size` more bytes fit. Until the transaction ends, no other claims the same room."""
    if quota is None:
        return
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    left = room_left(session, quota, but)
    if left is not None and size > left:
        raise QuotaError(
            f"{size} bytes were to be stored, and {left} of the {quota} this server may hold are left.", ROOM_HINT
        )
