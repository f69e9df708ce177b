"""Every image file of a source decoded, measured and hashed, in processes beside the one that reads."""

import gc
import hashlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import ForkServerContext
from typing import NamedTuple

from tamis.errors import InputError
from tamis.images import ImageFacts, Thumbnails, inspect, made_here
from tamis.sources import RawSample, Refused

# What a process takes at a time: of small images so many that handing them over costs little.
BATCH_SAMPLES = 256
BATCH_BYTES = 2**19
# Of how many batches no more are held than this many for each process, and than this many bytes.
AHEAD = 6
HELD_BYTES = 64 * 2**20
MAX_PROCESSES = 16
# Sources that end within so many samples and bytes are checked before processes would have started.
FEW_SAMPLES = 1024
FEW_BYTES = 8 * 2**20


class CheckedImage(NamedTuple):
    """A sample that decodes."""

    sample: RawSample
    sha256: str
    facts: ImageFacts


class Checked(NamedTuple):
    """Some samples that follow each other in a source, each kind in order: those that decode, and the others."""

    images: list[CheckedImage]
    refused: list[Refused]


class _Batch(NamedTuple):
    """Samples as they came; the files among them that are to be decoded; how many bytes all are."""

    samples: list[RawSample | Refused | CheckedImage]
    files: list[bytes]
    size: int


# Of one file: its hash, width, height and thumbnails, or why it is refused.
_Found = tuple[str, int, int, Thumbnails] | str


def checked(source: Iterable[RawSample | Refused]) -> Iterator[Checked]:
    """All samples in their order. Processes and not threads, because Pillow's own code runs in Python for the most part
    where images are small."""
    batches = _batches(source)
    few: list[_Batch] = []
    size = samples = 0
    for batch in batches:
        few.append(batch)
        samples += len(batch.samples)
        size += batch.size
        if samples >= FEW_SAMPLES or size >= FEW_BYTES:
            break
    else:
        for batch in few:
            yield _joined(batch, check_files(batch.files))
        return
    yield from _in_processes(chain(few, batches))


def _in_processes(batches: Iterable[_Batch]) -> Iterator[Checked]:
    processes = min(os.cpu_count() or 1, MAX_PROCESSES)
    # No process is asked where nothing is to be decoded, nor started before.
    waiting: deque[tuple[_Batch, Future[list[_Found]] | None]] = deque()
    held = 0
    pool = ProcessPoolExecutor(processes, _processes(), initializer=_begin)
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(check_files, batch.files) if batch.files else None))
            held += batch.size
            while len(waiting) > AHEAD * processes or held > HELD_BYTES:
                batch, found = waiting.popleft()
                held -= batch.size
                yield _joined(batch, found.result() if found else ())
        for batch, found in waiting:
            yield _joined(batch, found.result() if found else ())
    finally:
        pool.shutdown(cancel_futures=True)


def _processes() -> ForkServerContext:
    """Processes forked from one that has loaded this module and has no threads: of one that has, a fork may hang. The
    first takes as long as a new process, those of later ingests a hundredth of a second."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def check_files(files: Sequence[bytes]) -> list[_Found]:
    """What there is to know of each file."""
    return [_check(data) for data in files]


def _check(data: bytes) -> _Found:
    try:
        facts = inspect(data)
    except InputError as error:
        return error.message
    # A plain tuple, for it crosses to another process.
    return hashlib.sha256(data).hexdigest(), *facts


def _joined(batch: _Batch, found: Iterable[_Found]) -> Checked:
    results = iter(found)
    images: list[CheckedImage] = []
    refused: list[Refused] = []
    for sample in batch.samples:
        if isinstance(sample, CheckedImage):
            images.append(sample)
            continue
        if isinstance(sample, Refused):
            refused.append(sample)
            continue
        result = next(results)
        if isinstance(result, str):
            refused.append(Refused(sample.sample_id, result))
        else:
            images.append(CheckedImage(sample, result[0], ImageFacts(*result[1:])))
    return Checked(images, refused)


def _batches(source: Iterable[RawSample | Refused]) -> Iterator[_Batch]:
    samples: list[RawSample | Refused | CheckedImage] = []
    files: list[bytes] = []
    size = 0
    for sample in source:
        if isinstance(sample, RawSample):
            size += len(sample.data)
            facts = sample.size and made_here(sample.size, sample.data)
            if facts:
                samples.append(CheckedImage(sample, hashlib.sha256(sample.data).hexdigest(), facts))
            else:
                samples.append(sample)
                files.append(sample.data)
        else:
            samples.append(sample)
        if len(samples) == BATCH_SAMPLES or size >= BATCH_BYTES:
            yield _Batch(samples, files, size)
            samples, files, size = [], [], 0
    if samples:
        yield _Batch(samples, files, size)


def _begin() -> None:
    """Of each process: an interrupt is for the parent to answer, and when the parent is killed, nothing remains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is loaded stays: to look through it for garbage would take a tenth of the time.
    gc.freeze()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
