"""Opaque cursors of lists that are cut from an immutable table: a place in its order."""

import base64
import json

from tamis.errors import InputError

# The largest offset that survives JSON, and far below what the table engine refuses.
MAX_OFFSET = 2**53


def write_cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"offset": offset}).encode()).decode()


def read_cursor(cursor: str | None) -> int:
    """The offset; 0 without a cursor. Raises InputError for what `write_cursor` did not write."""
    if cursor is None:
        return 0
    try:
        offset = json.loads(base64.urlsafe_b64decode(cursor.encode()))["offset"]
    except (ValueError, KeyError, TypeError, RecursionError):
        offset = None
    if type(offset) is not int or not 0 <= offset <= MAX_OFFSET:
        raise InputError("The cursor is not one this server gave.", "Start again without a cursor.")
    return offset
