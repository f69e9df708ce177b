"""What the programs write to standard error: progress on a terminal, silence in a pipe, and the log of a service."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tamis.pace import pace

Progress = Callable[[int, int], None]
REDRAW_SECONDS = 0.1


@contextmanager
def steps() -> Iterator[Callable[[str], Progress]]:
    """Yields `step(title)`, which begins a progress bar and returns the callback that moves it.

    Where standard error is no terminal, or `rich` is not installed (as on a bare training machine), nothing is shown.
    """
    if not sys.stderr.isatty():
        yield lambda title: _quiet
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
    except ImportError:
        yield lambda title: _quiet
        return
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def step(title: str) -> Progress:
            task = bars.add_task(title, total=None, pace="")
            drawn, words = 0.0, pace()

            def move(done: int, total: int) -> None:
                nonlocal drawn
                # Reports come by the sample, and to draw one takes longer than to check an image.
                if time.monotonic() - drawn >= REDRAW_SECONDS or 0 < total <= done:
                    bars.update(task, completed=done, total=total or None, pace=words(done, total))
                    drawn = time.monotonic()

            return move

        yield step


def log_to_stderr() -> None:
    """The log of a long-running program: its own lines, and from libraries only warnings."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for name in ("alembic", "dbos", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)


def following(step: Callable[[str], Progress], title: str) -> Callable[[dict[str, Any]], None]:
    """A callback for `Client.wait` that shows each stage of a job as its own bar."""
    bars: dict[str, Progress] = {}

    def follow(job: dict[str, Any]) -> None:
        stage = job["progress"]["stage"] or title
        if stage not in bars:
            bars[stage] = step(stage)
        bars[stage](job["progress"]["done"], job["progress"]["total"])

    return follow


def _quiet(done: int, total: int) -> None:
    pass
