"""What the programs write to standard error: progress on a terminal, silence in a pipe, and the log of a service."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tamis.progress import Progress, ignored, pace

REDRAW_SECONDS = 0.1


class Step(Protocol):
    """Begins a progress bar; returns the callback that moves it."""

    def __call__(self, title: str, in_bytes: bool = False) -> Progress: ...


@contextmanager
def steps() -> Iterator[Step]:
    """Yields `step(title)`, which begins a progress bar and returns the callback that moves it; a bar of
    `step(title, in_bytes=True)` shows sizes.

    Where standard error is no terminal, or `rich` is not installed (as on a bare training machine), nothing is shown.
    """
    if not sys.stderr.isatty():
        yield _quiet_step
        return
    try:
        from rich import progress
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        yield _quiet_step
        return
    counts, sizes = progress.MofNCompleteColumn(), progress.DownloadColumn()

    class Amount(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Any:
            return (sizes if task.fields["in_bytes"] else counts).render(task)

    class Pace(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Any:
            return remaining.render(task) if task.fields["in_bytes"] else Text(task.fields["pace"])

    remaining = progress.TimeRemainingColumn()
    columns = (
        progress.TextColumn("{task.description:<24}"),
        progress.BarColumn(),
        Amount(),
        progress.TimeElapsedColumn(),
        Pace(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bars:

        def step(title: str, in_bytes: bool = False) -> Progress:
            task = bars.add_task(title, total=None, in_bytes=in_bytes, pace="")
            drawn, words = 0.0, pace()

            def move(done: int, total: int) -> None:
                nonlocal drawn
                # Reports come by the sample, and to draw one takes longer than to check an image.
                if time.monotonic() - drawn >= REDRAW_SECONDS or 0 < total <= done:
                    bars.update(task, completed=done, total=total or None, pace=words(done, total))
                    drawn = time.monotonic()

            return move

        yield step


def following(step: Step, title: str) -> Callable[[dict[str, Any]], None]:
    """A callback for `Client.wait` that shows each stage of a job as its own bar."""
    bars: dict[str, Progress] = {}

    def follow(job: dict[str, Any]) -> None:
        stage = job["progress"]["stage"] or title
        if stage not in bars:
            bars[stage] = step(stage)
        bars[stage](job["progress"]["done"], job["progress"]["total"])

    return follow


def _quiet_step(title: str, in_bytes: bool = False) -> Progress:
    return ignored
