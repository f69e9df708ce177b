"""How far a job of a server is, in one line that is told anew: on a terminal and in a notebook alike."""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from tamis.printable import printable

# Called with the job, as the server tells of it.
JobProgress: TypeAlias = Callable[[dict[str, Any]], None]


def told_in_a_line() -> JobProgress:
    """Writes to standard error: over the line before on a terminal and in a notebook, elsewhere a line a stage."""
    over = sys.stderr.isatty() or "ipykernel" in sys.modules
    last = ""

    def tell(job: dict[str, Any]) -> None:
        nonlocal last
        line = _line(job)
        if over:
            end = "\n" if job["state"] not in ("queued", "running") else ""
            sys.stderr.write(f"\r{line:{len(last)}}{end}")
        elif line.partition(":")[0] != last.partition(":")[0]:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        last = line

    return tell


def _line(job: dict[str, Any]) -> str:
    now = job["progress"]
    if job["state"] != "running":
        return printable(f"{job['id']} {job['state']}")
    told = f"{now['done']:,} of {now['total']:,} {now['message']}" if now["total"] else now["message"]
    return printable(f"{job['id']} {now['stage']}: {told}".rstrip(" :"))
