"""`tamis curate` as a newcomer types it: the whole command on three folders, its time, memory and words.

Icons, 1,500 images of 64 x 64 pixels; 2,000 photos of 500 x 375; and 8,000 images of mixed sizes, formats and modes,
some damaged. benchmarks/image_folders.py says what they are made of. Each run begins with nothing of an earlier one.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import detect
from benchmarks.image_folders import SETS, make
from benchmarks.measure import family_bytes, machine
from benchmarks.sizes import SIZES

COUNTS = {"icons": 1500, "photos": 2000, "mixture": 8000}
# Between two looks at the memory.
LOOK_SECONDS = 1.0


def run(
    count: int | None = None,
    folder: str | None = None,
    sets: Sequence[str] = tuple(SETS),
    options: Sequence[str] = (),
    detection: bool = False,
) -> Iterator[tuple[str, Any]]:
    """Yields the figures of each set as they are known.

    count: images of a set at most. folder: where the images are made, and found again by the next run; without it they
    are made anew and vanish. options: more words for the command line, as ["--seed", "1"]. detection: also what the
    default score finds by the size of the images that the small network is shown, which takes hours.
    """
    yield "machine", {**machine(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="tamis-") if folder is None else nullcontext(folder) as place:
        for name in sets:
            planned = SETS[name](min(COUNTS[name], count or COUNTS[name]))
            images = Path(place) / f"{name}-{len(planned)}"
            size = make(images, planned)
            yield name, {"images": len(planned), "megabytes": round(size / 1e6), **curated(images, options)}
    if detection:
        yield from detect.run(sizes=SIZES)


def curated(images: Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """Runs the command on a folder, with no terminal, and returns what it took. Raises RuntimeError where it fails.

    peak_mb: of the memory of all its processes together, what several share counted once. peak_of_one_mb: of the
    largest one, as the kernel recorded it. first_line_seconds, longest_silence_seconds: of its words on standard error.
    """
    with tempfile.TemporaryDirectory(prefix="tamis-") as name:
        clean = Path(name)
        places = {"TMPDIR": clean, "TAMIS_DATA": clean / "data", "TAMIS_CACHE": clean / "cache"}
        program = Path(sysconfig.get_path("scripts")) / "tamis"
        command = [program, "curate", images, "-o", clean / "out", "--json", *options]
        output = clean / "output"
        began = time.perf_counter()
        with output.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdout=sink,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **{key: str(value) for key, value in places.items()}},
            )
            spoke = [began]
            listening = threading.Thread(target=_listen, args=(process, spoke))
            listening.start()
            try:
                peak, usage = _watched(process)
            except BaseException:
                process.kill()
                raise
            ended = time.perf_counter()
            listening.join()
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}.")
        result = json.loads(output.read_text().splitlines()[-1])
    total = ended - began
    return {
        "seconds": round(total, 1),
        "stages": result.get("seconds", {}),
        "images_a_second": round(result["counts"]["samples"] / total, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(peak / 1e6),
        "peak_of_one_mb": round(usage.ru_maxrss * 1024 / 1e6),
        "first_line_seconds": round(spoke[1] - began, 1) if len(spoke) > 1 else None,
        "longest_silence_seconds": round(max(after - before for before, after in pairwise([*spoke, ended])), 1),
        "samples": result["counts"]["samples"],
        "refused": len(result["quarantine"]),
        "kept": result["counts"]["kept"],
    }


def _listen(process: subprocess.Popen[bytes], spoke: list[float]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        spoke.append(time.perf_counter())
        sys.stderr.buffer.write(line)


def _watched(process: subprocess.Popen[bytes]) -> tuple[int, Any]:
    """Waits for the end; returns the most bytes it and what it started held at once, and its resource usage."""
    peak = 0
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)
            return peak, usage
        peak = max(peak, family_bytes(process.pid))
        time.sleep(LOOK_SECONDS)
