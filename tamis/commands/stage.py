"""One stage of a long command: how far it is, in words."""

import time
from collections.abc import Callable
from typing import TypeAlias

from tamis.progress import Pace, span

# Work that takes longer is told of before it is done; where nothing is new for so long, that is told too.
LONG_SECONDS = 10.0
# An estimate from less says little.
ESTIMATE_SECONDS = 2.0

# From a stage's title and how many it counts to, to what would make it shorter; "" where nothing would.
Quicker: TypeAlias = Callable[[str, int], str]


class Stage:
    """title: what it does. in_bytes: whether it counts bytes. Times are of `time.monotonic`."""

    def __init__(self, title: str, in_bytes: bool, quicker: Quicker) -> None:
        self.title = title
        self.done = self.total = 0
        self.began = self.moved = time.monotonic()
        self.ended: float | None = None
        self._in_bytes = in_bytes
        self._quicker = quicker
        self._pace = Pace(in_bytes)
        self._estimated = False
        self._words = ""

    def move(self, done: int, total: int) -> None:
        """How many are done, and of how many, 0 where that is not known."""
        if (done, total) == (self.done, self.total):
            return
        self.done, self.total, self.moved = done, total, time.monotonic()
        self._words = self._pace.words(done, total)

    def end(self) -> float:
        """What comes now is no part of it; returns the seconds it took."""
        self.ended = time.monotonic()
        return self.ended - self.began

    @property
    def tenth(self) -> int:
        """How many tenths are done."""
        return 10 * self.done // self.total if self.total else 0

    def state(self) -> str:
        """Such as "120 of 600, 3.1 a second, 2 min left"; once it has ended, "600 in 3 min"."""
        now = self.ended or time.monotonic()
        if self.ended:
            return " in ".join(filter(None, (self._counted(), span(now - self.began))))
        still, age = now - self.moved, now - self.began
        stuck = f"nothing new for {span(still)}" if self.done and still >= LONG_SECONDS else ""
        begun = f"begun {span(age)} ago" if age >= 1 else "begun"
        return ", ".join(filter(None, (self._counted(), stuck or self._words or begun)))

    def estimate(self) -> str:
        """Once, when the pace is known and there is long to go: about how long, and what would be quicker; else ""."""
        left = self._pace.seconds_left
        if self._estimated or left is None or time.monotonic() - self.began < ESTIMATE_SECONDS:
            return ""
        self._estimated = True
        if left < LONG_SECONDS:
            return ""
        quicker = self._quicker(self.title, self.total)
        return f"{self.title}: about {span(left)}" + (f"; quicker: {quicker}" if quicker else "")

    def _counted(self) -> str:
        """Such as "120 of 600", or "3.1 of 9.0 MB"; "" before anything is counted."""
        whole = 0 < self.total <= self.done
        counts = [self.done, self.total] if self.total and not whole else [self.done] if self.done else []
        if self._in_bytes:
            return " of ".join(f"{count / 1e6:,.1f}" for count in counts) + " MB" * bool(counts)
        return " of ".join(f"{count:,}" for count in counts)
