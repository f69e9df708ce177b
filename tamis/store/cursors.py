"""Opaque cursors of lists: a named place in one, which a client gives back as it got it."""

import base64
import json
from collections.abc import Callable
from typing import Any

from tamis.errors import InputError


def write_place(name: str, place: int | str) -> str:
    return base64.urlsafe_b64encode(json.dumps({name: place}).encode()).decode()


def read_place(cursor: str, name: str, is_one: Callable[[Any], bool]) -> Any:
    """Raises InputError for what `write_place` did not write of that name, and where the place is none."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor.encode()))[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        place = None
    if not is_one(place):
        raise InputError("The cursor is not one this server gave.", "Start again without a cursor.")
    return place
