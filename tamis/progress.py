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


class Pace:
    """How fast a job goes: the mean since its first report, so that one which goes on from a checkpoint tells its own.

    in_bytes: whether it counts bytes. seconds_left: of the latest report; None while nothing can be said.
    """

    def __init__(self, in_bytes: bool = False) -> None:
        self._in_bytes = in_bytes
        self._first: tuple[int, float] | None = None
        self.seconds_left: float | None = None

    def words(self, done: int, total: int) -> str:
        """Such as "3,400 a second, 12 s left", from a report: how many are done, and of how many or 0.

        "" until the rate has settled, and at the end.
        """
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
        count, seconds = done - self._first[0], now - self._first[1]
        self.seconds_left = None
        if count <= 0 or seconds < SETTLED_SECONDS or 0 < total <= done:
            return ""
        rate = count / seconds
        if not total:
            return self._rate(rate)
        self.seconds_left = (total - done) / rate
        return f"{self._rate(rate)}, {span(self.seconds_left)} left"

    def _rate(self, rate: float) -> str:
        if self._in_bytes:
            return f"{rate / 1e6:,.1f} MB a second"
        return f"{rate:,.0f} a second" if rate >= 10 else f"{rate:.2g} a second"


def span(seconds: float) -> str:
    """Such as "40 s", "6 min", "3 h"."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
