"""What the benchmarks share: clocks, memory, and the machine's limits."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

# Between two looks at how much memory a process holds.
LOOK_SECONDS = 0.02


def seconds(work: Callable[[], Any], repeats: int = 1) -> float:
    """The least of several runs: what the work takes when nothing else disturbs the machine."""
    return min(_timed(work) for _ in range(repeats))


def wait_for(device: torch.device) -> None:
    """Until what was asked of it is done: a GPU is not waited for otherwise."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_peak(dtype: torch.dtype, size: int = 4096, repeats: int = 5) -> float:
    """Operations a second of one large square matrix product, a multiplication and an addition counting as two."""
    left = torch.randn(size, size).to(dtype)
    return 2 * size**3 / seconds(lambda: left @ left.T, repeats)


def in_fresh_process(function: str, **arguments: Any) -> dict[str, Any]:
    """Calls `module:name` in a process of its own and returns its result with `peak_bytes`, the memory it took at most
    beyond what it held when the call began."""
    # Not `ru_maxrss`, in which Linux counts what the starting process held as well.
    program = (
        "import importlib, json, sys\n"
        "module, name = sys.argv[1].split(':')\n"
        "work = getattr(importlib.import_module(module), name)\n"
        "result = work(**json.loads(sys.argv[2]))\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(json.dumps({**result, 'peak_bytes': int(status['VmHWM'].split()[0]) * 1024"
        " - result.pop('bytes_before')}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, function, json.dumps(arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def resident_bytes(process: int | str = "self") -> int:
    """Memory this process, or another, holds now."""
    with open(f"/proc/{process}/statm") as file:  # noqa: PTH123  not a file in the usual sense
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Anonymous:
    """A context that watches this process's memory but for files that are mapped, whose pages the system takes back.

    most: bytes of it at most, beyond what it held when the context was entered.
    """

    def __enter__(self) -> "Anonymous":
        self._before = anonymous_bytes()
        self.most, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.most = max(self.most, anonymous_bytes() - self._before)


def anonymous_bytes() -> int:
    """Memory this process holds now, but for mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def started_bytes() -> int:
    """Memory the processes hold that this one started, and those they started. What they share counts for each."""
    found = 0
    for process in _started(os.getpid()):
        with suppress(OSError):
            found += resident_bytes(process)
    return found


def family_bytes(process: int) -> int:
    """Memory a process holds together with those it started, and those they started; what is shared counts once."""
    found = 0
    for member in {process, *_started(process)}:
        with suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            found += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return found


def machine() -> dict[str, Any]:
    model = "unknown"
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _started(process: int) -> set[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    wanted = {process}
    while wanted:
        wanted = {child for child, parent in parents.items() if parent in wanted}
        found |= wanted
    return found


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
