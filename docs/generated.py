"""What the pages of commands and of REST are made of: the program itself, asked while they are built."""

import html
import tempfile
from pathlib import Path
from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs for each page."""
    made = {"commands.md": ("<!-- commands -->", commands), "rest.md": ("<!-- operations -->", operations)}
    if page.file.src_uri not in made:
        return markdown
    mark, make = made[page.file.src_uri]
    return markdown.replace(mark, make())


def commands() -> str:
    from tamis.commands.app import app

    text: str = app.generate_docs(output_format="markdown", include_hidden=False, heading_level=2)
    return text


def operations() -> str:
    """Every operation of the server's own description, in the order of its routes."""
    from service.app import create_app
    from tamis.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        paths = create_app(Settings(data=Path(folder)), require_key=True).openapi()["paths"]
    rows = [
        f"| `{method.upper()}` | `{path}` | {_first_paragraph(told)} |"
        for path, methods in paths.items()
        for method, told in methods.items()
    ]
    return "\n".join(["| | address | |", "|---|---|---|", *rows])


def _first_paragraph(told: dict[str, Any]) -> str:
    text = told.get("description") or told["summary"]
    # Their brackets, bars and angles are text, and not Markdown.
    return html.escape(" ".join(text.partition("\n\n")[0].split())).replace("[", "&#91;").replace("|", "&#124;")
