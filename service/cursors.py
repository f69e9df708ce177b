"""Opaque cursors of lists that are cut from an immutable table: a place in its order."""

from typing import Any

from tamis.store.cursors import read_place, write_place

# The largest offset that survives JSON, and far below what the table engine refuses.
MAX_OFFSET = 2**53


def write_cursor(offset: int) -> str:
    return write_place("offset", offset)


def place_of_page(offset: int, limit: int, total: int) -> dict[str, Any]:
    """Where a page stands in its list: total, offset, and the cursors of the pages beside it."""
    return {
        "total": total,
        "offset": offset,
        "next": write_cursor(offset + limit) if offset + limit < total else None,
        "previous": write_cursor(max(0, offset - limit)) if offset > 0 else None,
    }


def read_cursor(cursor: str | None) -> int:
    """The offset; 0 without a cursor. Raises InputError for what `write_cursor` did not write."""
    if cursor is None:
        return 0
    return int(read_place(cursor, "offset", lambda offset: type(offset) is int and 0 <= offset <= MAX_OFFSET))
