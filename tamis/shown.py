"""What notebooks show of a value: a small table of HTML, whatever its words hold."""

from collections.abc import Mapping
from html import escape


def facts(title: str, rows: Mapping[str, object]) -> str:
    """rows: names and values, in words; those that are None are left out."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
        if value is not None
    )
    return f"<table><caption style='text-align:left'><b>{escape(title)}</b></caption>{cells}</table>"
