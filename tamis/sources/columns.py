"""Columns of tables that others made: which one is meant, what its values are, and what is wrong with rows."""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa

from tamis.sources.entries import EntryError, Refused
from tamis.sources.names import shown

_WRITTEN = (pa.types.is_date, pa.types.is_time, pa.types.is_timestamp, pa.types.is_duration, pa.types.is_decimal)
# A fault of rows, and what to do about it.
UNFIT = "have a label that is no single text, number or date, and go without", "give each row one"


@lru_cache(64)
def find_column(names: tuple[str, ...], wanted: tuple[str, ...]) -> str | None:
    """The first of `wanted` that is among the names, there in any case and with spaces around it; None if none is.

    Raises EntryError where two columns may be meant.
    """
    for each in wanted:
        alike = [name for name in names if name.strip().lower() == each]
        if alike.count(each) == 1:
            return each
        if len(alike) > 1:
            told = " and ".join(repr(shown(name)) for name in alike)
            raise EntryError(f"its columns {told} may both be meant: keep one of them")
        if alike:
            return alike[0]
    return None


def values_of(column: pa.Array) -> list[Any]:
    """A column's values as Python has them; dates, times and decimals as Arrow writes them: what Python would make of
    these depends on what else is installed."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if any(is_one(kind) for is_one in _WRITTEN):
        column = column.cast(pa.string())
    elif pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    return list(column.to_pylist())


class Fields(dict[str, Any]):
    """A JSON object, of its pairs of name and value; `names` has one twice that is there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = tuple(name for name, _ in pairs)


class Tally:
    """What is wrong with rows of a table: each fault is told once, with how many rows have it and the first of them."""

    def __init__(self) -> None:
        self._counts = Counter[tuple[str, str]]()
        self._first: dict[tuple[str, str], str] = {}

    def add(self, fault: tuple[str, str], place: str) -> None:
        """fault: what such rows do, and what to do about it. place: of the row."""
        self._counts[fault] += 1
        self._first.setdefault(fault, place)

    def told(self, table: str, rows: int) -> Iterator[Refused]:
        """rows: of the whole table."""
        for (what, remedy), count in self._counts.items():
            place = self._first[what, remedy]
            yield Refused(table, f"{count:,} of its {rows:,} rows {what}, such as {place}: {remedy}")
