"""How far a long job is: reports of progress, and in words how fast it goes and how long it will take."""

import time
from collections.abc import Callable
from typing import TypeAlias

# Called with how many are done, and of how many, 0 where that is not known.
Progress: TypeAlias = Callable[[int, int], None]


def ignored(done: int, total: int) -> None:
    """The Progress that nobody looks at."""


def counted_from(first: int, total: int, progress: Progress) -> Progress:
    """For a part that begins after `first` of `total`: the Progress that tells the whole's."""
    return lambda done, _: progress(first + done, total)


# Before this, a rate says more about the start than about the job.
SETTLED_SECONDS = 1.0


def pace() -> Callable[[int, int], str]:
    """A function of progress reports (done, of how many or 0) to words such as "3,400 a second, 12 s left".

    The rate is the mean since the first report, so that a job which goes on from a checkpoint tells its own; "" until
    it has settled, and at the end.
    """
    first: tuple[int, float] | None = None

    def words(done: int, total: int) -> str:
        nonlocal first
        now = time.monotonic()
        if first is None:
            first = done, now
        count, seconds = done - first[0], now - first[1]
        if count <= 0 or seconds < SETTLED_SECONDS or 0 < total <= done:
            return ""
        rate = count / seconds
        shown = f"{rate:,.0f} a second" if rate >= 10 else f"{rate:.2g} a second"
        return f"{shown}, {_span((total - done) / rate)} left" if total else shown

    return words


def _span(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
