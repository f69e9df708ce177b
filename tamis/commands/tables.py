"""What commands print of a server's objects: many as a table, one as its facts."""

from collections.abc import Mapping, Sequence
from typing import Any

from tamis.printable import printable


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints columns, each as wide as what is in it; numbers to the right."""
    right = [bool(rows) and isinstance(value, int) for value in (rows[0] if rows else headings)]
    cells = [[f"{value:,}" if isinstance(value, int) else printable(str(value)) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for line in (headings, *cells):
        padded = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        )
        print("  ".join(padded).rstrip())


def print_facts(values: Mapping[str, Any], under: str = "") -> None:
    """Prints a line a value, those within others by both names; but not what is empty."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            print_facts(value, f"{under}{name} ")
        elif value not in (None, "", [], {}):
            print(printable(f"{under}{name}: {value}"))
