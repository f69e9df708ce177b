"""Every image file of a source decoded, measured and hashed, in processes beside the one that reads."""

import gc
import hashlib
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import NamedTuple, Self

from tamis.errors import InputError, TamisError
from tamis.images import AS_IT_IS, PILLOW, ImageFacts, Thumbnails, inspect, serves_as_it_is
from tamis.sources import RawSample, Refused

# What a process takes at a time: of small images so many that handing them over costs little.
BATCH_SAMPLES = 256
BATCH_BYTES = 2**19
# Of how many batches no more are held than this many for each process, and than this many bytes.
AHEAD = 6
HELD_BYTES = 64 * 2**20
MAX_PROCESSES = 16


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
    """Samples as they came, and how many bytes their files are."""

    samples: list[RawSample | Refused]
    size: int


# Of one file: its hash, width, height and thumbnails, or why it is refused.
_Found = tuple[str, int, int, Thumbnails] | str


def checked(source: Iterable[RawSample | Refused], thumbnails: bool = True) -> Iterator[Checked]:
    """All samples in their order, with thumbnails if these are wanted.

    Processes and not threads: what a file may bring down is not the one who asks; and where images are small, most of
    Pillow's work is Python.
    """
    processes = min(os.cpu_count() or 1, MAX_PROCESSES)
    waiting: deque[tuple[_Batch, list[bytes], Future[list[_Found]]]] = deque()
    held = 0
    with _Processes(processes, thumbnails) as pool:
        for batch in _batches(source):
            files = [sample.data for sample in batch.samples if isinstance(sample, RawSample) and not _known(sample)]
            waiting.append((batch, files, pool.begin(files)))
            held += batch.size
            while len(waiting) > AHEAD * processes or held > HELD_BYTES:
                batch, files, found = waiting.popleft()
                held -= batch.size
                yield _joined(batch.samples, _found(files, found, thumbnails))
        for batch, files, found in waiting:
            yield _joined(batch.samples, _found(files, found, thumbnails))


def _known(sample: RawSample) -> bool:
    """Whether there is nothing to find out by decoding it."""
    return sample.size is not None and serves_as_it_is(sample.size, sample.data)


def _found(files: Sequence[bytes], checking: Future[list[_Found]], thumbnails: bool) -> list[_Found]:
    try:
        return checking.result()
    except BrokenProcessPool:
        # One of the files that were being checked ended its process, or somebody else did.
        with _Processes(1, thumbnails) as pool:
            return [_found_alone(pool, data) for data in files]


def _found_alone(pool: "_Processes", data: bytes) -> _Found:
    try:
        return pool.begin([data]).result()[0]
    except BrokenProcessPool:
        return "decoding the image ends the process that tries, for want of memory or by a fault of the decoder"


class _Processes:
    """Processes that check files, begun anew when one of them dies, for a pool does not outlive that."""

    def __init__(self, count: int, thumbnails: bool) -> None:
        self._count, self._thumbnails = count, thumbnails
        self._pool: ProcessPoolExecutor | None = None

    def begin(self, files: Sequence[bytes]) -> Future[list[_Found]]:
        """No process is asked where there is nothing to decode, nor started before."""
        if not files:
            nothing: Future[list[_Found]] = Future()
            nothing.set_result([])
            return nothing
        try:
            return self._started().submit(check_files, files, self._thumbnails)
        except BrokenProcessPool:
            self._end()
            return self._started().submit(check_files, files, self._thumbnails)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Forked from a process that has loaded this module and has no threads: of one that has, a fork may hang.
            # The first takes as long as a new process, those of later ingests a hundredth of a second.
            context = get_context("forkserver")
            context.set_forkserver_preload([__name__])
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_begin)
            try:
                # Where no process can be started at all, no file is to blame. All begin now: one that begins while
                # another is found dead is overlooked by the pool (CPython 3.11), whose end then waits for it for ever.
                for begun in [self._pool.submit(check_files, ()) for _ in range(self._count)]:
                    begun.result()
            except BrokenProcessPool as error:
                raise TamisError(
                    "A process to decode images in could not be started.",
                    "A program that ingests keeps its own work below `if __name__ == '__main__':`.",
                ) from error
        return self._pool

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def check_files(files: Sequence[bytes], thumbnails: bool = True) -> list[_Found]:
    """What there is to know of each file."""
    return [_check(data, thumbnails) for data in files]


def _check(data: bytes, thumbnails: bool) -> _Found:
    try:
        facts = inspect(data, thumbnails)
    except InputError as error:
        return error.message
    # A plain tuple, for it crosses to another process.
    return hashlib.sha256(data).hexdigest(), *facts


def _joined(samples: Iterable[RawSample | Refused], found: Iterable[_Found]) -> Checked:
    results = iter(found)
    images: list[CheckedImage] = []
    refused: list[Refused] = []
    for sample in samples:
        if isinstance(sample, Refused):
            refused.append(sample)
        elif sample.size is not None and _known(sample):
            digest = hashlib.sha256(sample.data).hexdigest()
            images.append(CheckedImage(sample, digest, ImageFacts(*sample.size, AS_IT_IS)))
        elif isinstance(result := next(results), str):
            refused.append(Refused(sample.sample_id, result))
        else:
            images.append(CheckedImage(sample, result[0], ImageFacts(*result[1:])))
    return Checked(images, refused)


def _batches(source: Iterable[RawSample | Refused]) -> Iterator[_Batch]:
    samples: list[RawSample | Refused] = []
    size = 0
    for sample in source:
        samples.append(sample)
        if isinstance(sample, RawSample):
            size += len(sample.data)
        if len(samples) == BATCH_SAMPLES or size >= BATCH_BYTES:
            yield _Batch(samples, size)
            samples, size = [], 0
    if samples:
        yield _Batch(samples, size)


def _begin() -> None:
    """Of each process: an interrupt is for the parent to answer, and when the parent is killed, nothing remains. What
    Pillow, or a library below it such as libtiff, warns of is no text for the parent's screen: what matters of it is a
    reason to refuse the file."""
    warnings.filterwarnings("ignore", module=PILLOW)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is loaded stays: to look through it for garbage would take a tenth of the time.
    gc.freeze()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
