"""The client for programs of coroutines: each method of `Client`, awaited while a thread waits for the answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from tamis.client.client import Client
from tamis.client.following import JobProgress

P = ParamSpec("P")
T = TypeVar("T")

_NOTHING: Any = object()


def _awaited(
    method: Callable[Concatenate[Client, P], T],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    @wraps(method)
    async def awaited(self: "AsyncClient", /, *arguments: P.args, **named: P.kwargs) -> T:
        return await self._in_thread(partial(method, self._client, *arguments, **named))

    return awaited


def _iterated(
    method: Callable[Concatenate[Client, P], Iterator[T]],
) -> Callable[Concatenate["AsyncClient", P], AsyncIterator[T]]:
    @wraps(method)
    async def iterated(self: "AsyncClient", /, *arguments: P.args, **named: P.kwargs) -> AsyncIterator[T]:
        found = method(self._client, *arguments, **named)
        while (item := await self._in_thread(partial(next, found, _NOTHING))) is not _NOTHING:
            yield item

    return iterated


class AsyncClient:
    """`Client` for coroutines: the same methods, to be awaited, and lists to be gone through by `async for`.

    Use as an asynchronous context manager, or await `close()`. What is called with progress is called in a thread. An
    await that is cancelled ends at once; what was asked of the server goes on there, and a request on its way to its
    end.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        api_key: str | None = None,
        timeout: float = 60.0,
        at_once: int = 16,
    ) -> None:
        """url to timeout: as of `Client`. at_once: how many requests may be on their way together."""
        self._client = Client(url, api_key, timeout)
        self._threads = ThreadPoolExecutor(at_once, "tamis-client")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._in_thread(self._client.close)
        self._threads.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def wait(
        self, job: str, progress: JobProgress | bool | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """As of `Client`; no thread is held between two looks."""
        async for row, pause in self.looks(job, progress, timeout):
            if pause is None:
                return row
            await asyncio.sleep(pause)
        raise AssertionError("the last look has no pause")

    cancel = _awaited(Client.cancel)
    content = _awaited(Client.content)
    curate = _awaited(Client.curate)
    curation = _awaited(Client.curation)
    curations = _awaited(Client.curations)
    dataset = _awaited(Client.dataset)
    datasets = _awaited(Client.datasets)
    delete_dataset = _awaited(Client.delete_dataset)
    download = _awaited(Client.download)
    encoders = _awaited(Client.encoders)
    experiment = _awaited(Client.experiment)
    export = _awaited(Client.export)
    image = _awaited(Client.image)
    items = _iterated(Client.items)
    jobs = _awaited(Client.jobs)
    looks = _iterated(Client.looks)
    make_manifest = _awaited(Client.make_manifest)
    manifest = _awaited(Client.manifest)
    manifest_view = _awaited(Client.manifest_view)
    manifests = _awaited(Client.manifests)
    pairs = _iterated(Client.pairs)
    quarantine = _iterated(Client.quarantine)
    register = _awaited(Client.register)
    request = _awaited(Client.request)
    send_embeddings = _awaited(Client.send_embeddings)
    send_encoder = _awaited(Client.send_encoder)
    train = _awaited(Client.train)
    training = _awaited(Client.training)
    trainings = _awaited(Client.trainings)
    upload = _awaited(Client.upload)
