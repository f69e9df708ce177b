"""A training step alone and beside other work on the same cores: what it costs there against its share of them.

A thread that never waits gets one share of a core, which is read off processes that do nothing but compute. A step of
which all threads got one would take its time on the processor, divided by their number and by that share.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.measure import in_fresh_process, machine, resident_bytes
from tamis.encoders.spec import EncoderSpec
from trainer.data import ImageSet
from trainer.recipe import Recipe
from trainer.training import train_encoder

# Steps before the clock starts.
WARM_UP = 3
# As all commands wait, and as OpenMP does by itself.
WAITING = {"asleep": {"OMP_WAIT_POLICY": "PASSIVE"}, "spinning": {}}
BUSY = "while True: pass"


def run(count: int = 20, rounds: int = 2, load: int = 6, image_size: int = 24) -> Iterator[tuple[str, Any]]:
    """Yields each figure as it is known. count: steps a run. load: processes that compute beside it."""
    yield "machine", {**machine(), "cores": os.cpu_count()}
    yield "size", {"steps": count, "pixels": image_size, "rounds": rounds, "load": load}
    alone: dict[str, list[dict[str, float]]] = {name: [] for name in WAITING}
    beside: dict[str, list[dict[str, float]]] = {name: [] for name in WAITING}
    for _ in range(rounds):
        for name, environment in WAITING.items():
            alone[name].append(_steps(environment, count, image_size, []))
            with _busy(load) as processes:
                beside[name].append(_steps(environment, count, image_size, processes))
    # What others do here lengthens a step, but hardly adds to the processor's time of one that does not spin.
    needed = min(figures["used"] for figures in alone["asleep"]) / torch.get_num_threads()
    for name in WAITING:
        yield (
            name,
            {
                "seconds_a_step_alone": min(figures["seconds"] for figures in alone[name]),
                "seconds_a_step": median(figures["seconds"] for figures in beside[name]),
                "times_its_share": median(figures["seconds"] * figures["share"] / needed for figures in beside[name]),
            },
        )


def train(steps: int, image_size: int, processes: Sequence[int]) -> dict[str, float]:
    """Seconds a step, seconds on a processor it used, and what share of a core each of the processes had meanwhile;
    in a process of its own."""
    before = resident_bytes()
    pixels = np.random.default_rng(0).integers(0, 255, (1500, 3, image_size, image_size), np.uint8)
    images = ImageSet(pixels, tuple(map(str, range(len(pixels)))))
    clock: list[tuple[float, float, float]] = []

    def progress(done: int, total: int) -> None:
        if done in (WARM_UP, total):
            clock.append((time.perf_counter(), time.process_time(), sum(map(_seconds_used, processes))))

    train_encoder(
        images, EncoderSpec("small", image_size), Recipe(steps=WARM_UP + steps), device="cpu", progress=progress
    )
    seconds, used, used_by_others = (end - start for start, end in zip(*clock, strict=True))
    share = used_by_others / seconds / max(1, len(processes))
    return {"seconds": seconds / steps, "used": used / steps, "share": share, "bytes_before": before}


def _steps(environment: dict[str, str], count: int, image_size: int, processes: Sequence[int]) -> dict[str, float]:
    with patch.dict(os.environ):
        os.environ.pop("OMP_WAIT_POLICY", None)
        os.environ.update(environment)
        return in_fresh_process("benchmarks.shared:train", steps=count, image_size=image_size, processes=processes)


@contextmanager
def _busy(count: int) -> Iterator[list[int]]:
    """Ids of processes that compute until the end of the block."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def _seconds_used(process: int) -> float:
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
