"""Every image file of a source decoded, measured and hashed, in processes beside the one that reads."""

import hashlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process

from tamis.errors import InputError
from tamis.images import ImageFacts, inspect
from tamis.sources import RawSample, Refused

# What a process takes at a time. Most of it fits a pipe, so that the reader need not wait while it is taken.
BATCH_SAMPLES = 64
BATCH_BYTES = 2**19
# Of how many batches no more are held than this many for each process, and than this many bytes.
AHEAD = 6
HELD_BYTES = 64 * 2**20
MAX_PROCESSES = 16
# Sources that end within so many samples and bytes are checked before processes would have started.
FEW_SAMPLES = 1024
FEW_BYTES = 8 * 2**20


@dataclass(frozen=True)
class CheckedImage:
    """A sample that decodes."""

    sample: RawSample
    sha256: str
    facts: ImageFacts


# Of one file: its hash and facts, or why it is refused.
_Found = tuple[str, ImageFacts] | str


def checked(source: Iterable[RawSample | Refused]) -> Iterator[CheckedImage | Refused]:
    """The samples in their order. Processes and not threads, because Pillow's own code runs in Python for the most part
    where images are small."""
    batches = _batches(source)
    few: list[list[RawSample | Refused]] = []
    size = samples = 0
    for batch in batches:
        few.append(batch)
        samples += len(batch)
        size += _bytes(batch)
        if samples >= FEW_SAMPLES or size >= FEW_BYTES:
            break
    else:
        for batch in few:
            yield from _joined(batch, check_files(_files(batch)))
        return
    yield from _in_processes(few, batches)


def _in_processes(
    few: Iterable[list[RawSample | Refused]], rest: Iterable[list[RawSample | Refused]]
) -> Iterator[CheckedImage | Refused]:
    processes = min(os.cpu_count() or 1, MAX_PROCESSES)
    waiting: deque[tuple[list[RawSample | Refused], Future[list[_Found]]]] = deque()
    held = 0
    # A fork of a process that has threads may hang.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin)
    try:
        for batch in (batch for batches in (few, rest) for batch in batches):
            waiting.append((batch, pool.submit(check_files, _files(batch))))
            held += _bytes(batch)
            while len(waiting) > AHEAD * processes or held > HELD_BYTES:
                batch, found = waiting.popleft()
                held -= _bytes(batch)
                yield from _joined(batch, found.result())
        while waiting:
            batch, found = waiting.popleft()
            yield from _joined(batch, found.result())
    finally:
        pool.shutdown(cancel_futures=True)


def check_files(files: Sequence[bytes]) -> list[_Found]:
    """What there is to know of each file."""
    return [_check(data) for data in files]


def _check(data: bytes) -> _Found:
    try:
        facts = inspect(data)
    except InputError as error:
        return error.message
    return hashlib.sha256(data).hexdigest(), facts


def _joined(batch: Sequence[RawSample | Refused], found: Iterable[_Found]) -> Iterator[CheckedImage | Refused]:
    results = iter(found)
    for sample in batch:
        if isinstance(sample, Refused):
            yield sample
            continue
        result = next(results)
        yield Refused(sample.sample_id, result) if isinstance(result, str) else CheckedImage(sample, *result)


def _batches(source: Iterable[RawSample | Refused]) -> Iterator[list[RawSample | Refused]]:
    batch: list[RawSample | Refused] = []
    size = 0
    for sample in source:
        batch.append(sample)
        size += len(sample.data) if isinstance(sample, RawSample) else 0
        if len(batch) == BATCH_SAMPLES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _files(batch: Iterable[RawSample | Refused]) -> list[bytes]:
    return [sample.data for sample in batch if isinstance(sample, RawSample)]


def _bytes(batch: Iterable[RawSample | Refused]) -> int:
    return sum(len(data) for data in _files(batch))


def _begin() -> None:
    """Of each process: an interrupt is for the parent to answer, and when the parent is killed, nothing remains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
