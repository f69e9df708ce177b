"""`make fuzz`: mutates files of every format for FUZZ_SECONDS, and ends with the smallest case that shows a fault.

Hypothesis draws and shrinks the cases; each round has a seed of its own, so that a longer run sees more. Pytest finds
this file only when it is named.
"""

import os
import time
from itertools import count

from hypothesis import HealthCheck, Phase, given, seed, settings
from targets import TARGETS, check

CASES_A_ROUND = 200
SECONDS = float(os.environ.get("FUZZ_SECONDS", "600"))


def test_nothing_but_refusals_comes_out_of_mutated_files() -> None:
    deadline, tried = time.monotonic() + SECONDS, 0
    for number in count(time.time_ns()):
        for target in TARGETS:
            tried += round_of(target, number, deadline)
        if time.monotonic() > deadline:
            break
    print(f"{tried} cases in {SECONDS:g} seconds")
    assert tried


def round_of(target: str, number: int, deadline: float) -> int:
    """How many cases were tried before the deadline."""
    tried = 0

    @seed(number)
    @settings(
        max_examples=CASES_A_ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(TARGETS[target][1])
    def one_round(case: object) -> None:
        nonlocal tried
        if time.monotonic() < deadline:
            tried += 1
            check(target, case)

    one_round()
    return tried
