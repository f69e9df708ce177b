"""Work in parallel threads, each of which fetches its items itself and has a place of its own to work in."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch

from tamis.progress import Progress

Item = TypeVar("Item")

REPORT_SECONDS = 0.1


def threads() -> list[None]:
    """A place for each of PyTorch's threads, where they need nothing to work in."""
    return [None] * torch.get_num_threads()


def in_parallel(
    work: Callable[[Item, Any], None],
    items: Sequence[Item],
    spaces: Sequence[Any],
    progress: Progress | None = None,
) -> None:
    """Does every item on one of as many threads as there are spaces, each of which one thread has to itself.

    The threads fetch their items themselves: handing over one by one would cost the cores a third thread's time.
    """
    upcoming, stopped = iter(items), threading.Event()
    lock, done = threading.Lock(), [0] * len(spaces)

    def fetch(number: int) -> None:
        while not stopped.is_set():
            with lock:
                item = next(upcoming, stopped)
            if item is stopped:
                return
            work(cast(Item, item), spaces[number])
            done[number] += 1

    with _one_thread_each(), ThreadPoolExecutor(len(spaces), "scan") as pool:
        running = [pool.submit(fetch, number) for number in range(len(spaces))]
        try:
            while wait(running, timeout=REPORT_SECONDS, return_when=FIRST_EXCEPTION).not_done:
                if any(future.done() and future.exception() for future in running):
                    break
                if progress is not None:
                    progress(sum(done), len(items))
        finally:
            stopped.set()
        for future in running:
            future.result()
    if progress is not None:
        progress(sum(done), len(items))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keeps PyTorch from using several threads for one product."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
