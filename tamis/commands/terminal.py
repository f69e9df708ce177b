"""What a long command tells on standard error: what it does, how far it is, how long it takes, what would be quicker.

On a terminal a bar a stage. Elsewhere, as in a pipe, a notebook or CI, lines: every 10 seconds at first, later at each
further tenth of a stage.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, Protocol

from tamis.commands.stage import LONG_SECONDS, Quicker, Stage
from tamis.printable import printable
from tamis.progress import Progress, ignored, span

EVERY_SECONDS = LONG_SECONDS
# The log of a job of hours needs no line every 10 seconds; but one in 10 minutes says that it goes on.
AT_FIRST_SECONDS = 900.0
LATER_SECONDS = 600.0
LOOK_SECONDS = 0.25
DRAWINGS_A_SECOND = 5
BAR_WIDTH, STATE_WIDTH, TITLE_WIDTHS = 16, 40, (12, 44)


class Step(Protocol):
    """Begins a stage of that title; returns the callback that tells how far it is, in bytes or in pieces."""

    def __call__(self, title: str, in_bytes: bool = False) -> Progress: ...


def _nothing(title: str, total: int) -> str:
    return ""


@contextmanager
def steps(plan: str, *, quiet: bool = False, kept: str = "", quicker: Quicker = _nothing) -> Iterator[Step]:
    """Says at once what will be done, `plan`; then yields what begins each stage of it.

    quiet: says nothing. kept: what remains, and how to go on, when Ctrl-C, SIGTERM or SIGHUP ends it meanwhile.
    """
    shown = _silence() if quiet else _bars(plan, quicker) if _on_a_terminal() else _lines(plan, quicker)
    with _stoppable(kept), shown as step:
        yield step


def following(step: Step, title: str) -> Callable[[dict[str, Any]], None]:
    """A callback for `Client.wait` that shows each stage of a job as one of this command."""
    begun: dict[str, Progress] = {}

    def follow(job: dict[str, Any]) -> None:
        stage = job["progress"]["stage"] or title
        if stage not in begun:
            begun[stage] = step(stage)
        begun[stage](job["progress"]["done"], job["progress"]["total"])

    return follow


@contextmanager
def _stoppable(kept: str) -> Iterator[None]:
    """SIGTERM and SIGHUP end the work as Ctrl-C does, so that what is half done is removed."""
    changed = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Under nohup the second is ignored, and stays so.
            if signal.getsignal(number) == signal.SIG_DFL:
                changed[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as stopped:
        if kept:
            stopped.add_note(kept)
        raise
    finally:
        for number, before in changed.items():
            signal.signal(number, before)


def _on_a_terminal() -> bool:
    """Whether there can be bars; a bare training machine has no `rich`."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and find_spec("rich") is not None


@contextmanager
def _silence() -> Iterator[Step]:
    yield lambda title, in_bytes=False: ignored


@contextmanager
def _lines(plan: str, quicker: Quicker) -> Iterator[Step]:
    lines = _Lines(plan, quicker)
    watching = threading.Thread(target=lines.watch, name="progress", daemon=True)
    watching.start()
    try:
        yield lines.step
    finally:
        lines.ended.set()
        watching.join()
        lines.close()


class _Lines:
    """Written from a thread of their own, so that they come too while nothing moves."""

    def __init__(self, plan: str, quicker: Quicker) -> None:
        self.ended = threading.Event()
        self._quicker = quicker
        self._lock = threading.Lock()
        self._stage: Stage | None = None
        self._tenth = 0
        self._began = time.monotonic()
        self._say(plan)

    def step(self, title: str, in_bytes: bool = False) -> Progress:
        with self._lock:
            self.close()
            self._stage, self._tenth = Stage(title, in_bytes, self._quicker), 0
            return self._stage.move

    def close(self) -> None:
        stage = self._stage
        if stage is not None and stage.end() >= EVERY_SECONDS:
            self._say(f"{stage.title}: {stage.state()}")

    def watch(self) -> None:
        while not self.ended.wait(LOOK_SECONDS):
            with self._lock:
                self._say_what_is_due()

    def _say_what_is_due(self) -> None:
        now, stage = time.monotonic(), self._stage
        if stage is not None and (estimate := stage.estimate()):
            self._say(estimate)
            return
        if now - self._told < EVERY_SECONDS:
            return
        if stage is None:
            self._say(f"starting: {span(now - self._began)}")
        elif now - self._began < AT_FIRST_SECONDS or stage.tenth > self._tenth or now - self._told >= LATER_SECONDS:
            self._tenth = stage.tenth
            self._say(f"{stage.title}: {stage.state()}")

    def _say(self, line: str) -> None:
        self._told = time.monotonic()
        with suppress(OSError):
            print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def _bars(plan: str, quicker: Quicker) -> Iterator[Step]:
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.table import Table

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    spinner, stages = Spinner("line"), list[Stage]()
    least, most = TITLE_WIDTHS
    width = max(least, min(most, console.width - BAR_WIDTH - STATE_WIDTH - 4))

    def picture() -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        table.add_column(width=BAR_WIDTH)
        table.add_column(no_wrap=True, overflow="ellipsis")
        if not stages:
            table.add_row(spinner, "starting")
        # The latest, where there are more than the screen has lines.
        for stage in stages[-max(1, console.height - 2) :]:
            going = stage.ended is None
            total, done = (stage.total or None, stage.done) if going else (1, 1)
            bar = ProgressBar(total, done, BAR_WIDTH, pulse=going and not stage.total)
            table.add_row(spinner if going else "", stage.title, bar, stage.state())
        return table

    def step(title: str, in_bytes: bool = False) -> Progress:
        stage = Stage(printable(title), in_bytes, quicker)

        def move(done: int, total: int) -> None:
            stage.move(done, total)
            if estimate := stage.estimate():
                console.print(estimate)

        if stages:
            stages[-1].end()
        stages.append(stage)
        return move

    console.print(printable(plan))
    # What a command prints goes where its output goes, which may be a file.
    with Live(get_renderable=picture, console=console, refresh_per_second=DRAWINGS_A_SECOND, redirect_stdout=False):
        yield step
        if stages:
            stages[-1].end()
