"""How a job waits until what is away or full is there again."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from tamis.store.catalog import Catalog, advance
from tamis.store.outages import WAITING, outage_of
from tamis.store.schema import model_of

log = logging.getLogger("tamis.worker")

# Seconds before each new try, the last again and again.
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# What has gone well for so long and fails again is another outage.
OVER_SECONDS = 60.0

R = TypeVar("R")


def wait_out(catalog: Catalog, row_id: str, function: Callable[[], R]) -> R:
    """What the function returns, called again after growing pauses for as long as an outage stops it.

    The row of the job says meanwhile what is waited for. Raises CancelledError when it was cancelled.
    """
    tries = 0
    while True:
        began = time.monotonic()
        try:
            return function()
        except Exception as problem:
            cause = outage_of(problem)
            if cause is None:
                raise
            tries = 0 if time.monotonic() - began > OVER_SECONDS else tries
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            if tries == 0 or pause == PAUSES[-1]:
                log.warning("%s waits for %s", row_id, cause)
            _tell(catalog, row_id, f"{WAITING}{cause}")
            time.sleep(pause)
            tries += 1


def _tell(catalog: Catalog, row_id: str, message: str) -> None:
    model = model_of(row_id)
    if model is None:
        return
    try:
        advance(catalog, model, row_id, message=message)
    except Exception as problem:
        # Where the database itself is away, it cannot be told. A cancelled job is no outage.
        if outage_of(problem) is None:
            raise
