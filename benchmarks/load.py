"""A server under load: readers until the slowest wait twice as long, uploads and open pages beside them, hours of it.

Of whatever database the settings name: `TAMIS_DATABASE_URL=postgresql+psycopg://... tamis bench load`, an empty one.
"""

import asyncio
import io
import itertools
import random
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.made import make_curation
from benchmarks.measure import machine, resident_bytes
from benchmarks.over_http import Answers, ask, client, server, told
from tamis.settings import load_settings

MOST_CLIENTS = 256
SAMPLES_A_PAIR = 10
# Beside which uploads and open pages are measured, and in the soak.
READERS = 4
LOOKS = 10


def run(
    count: int = 200_000, requests: int = 2000, pages: int = 200, upload: int = 2**25, seconds: float = 600
) -> Iterator[tuple[str, Any]]:
    """count: pairs. requests: of each measurement. pages: open at once, each a stream of events. upload: bytes of an
    archive. seconds: of the soak. Yields each figure as it is known."""
    yield "machine", {**machine(), "database": load_settings().database.partition(":")[0]}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        samples = max(count // SAMPLES_A_PAIR, 100)
        dataset, curation = make_curation(data, samples, count)
        command = [sys.executable, "-m", "tamis.commands.cli", "serve", "--no-worker", "--data", str(data), "--port"]
        with server(command) as (port, process):
            paths = _mixed(dataset, curation, count, samples, requests)
            asyncio.run(ask(port, paths[:200], 1))
            yield from _rising(port, paths)
            yield "readers alone", told(asyncio.run(ask(port, paths, READERS)))
            yield "readers beside uploads", asyncio.run(_beside_uploads(port, paths, upload))
            yield f"readers beside {pages} open pages", asyncio.run(_beside_pages(port, paths, pages))
            yield "soak", asyncio.run(_soak(port, process, paths, seconds))


def _mixed(dataset: str, curation: str, count: int, samples: int, requests: int) -> list[str]:
    """What people who look through a curation ask for: pages of pairs, one sample, lists and the dashboard."""
    draw = random.Random(0)
    api, of = "/api/v1", f"/api/v1/curations/{curation}"
    kinds = [
        lambda: f"{of}/pairs?limit=50&offset={draw.randrange(count)}",
        lambda: f"{of}/pairs?limit=50&sample={draw.randrange(samples)}",
        lambda: of,
        lambda: f"{of}/decisions",
        lambda: f"{api}/datasets/{dataset}",
        lambda: f"{api}/curations",
        lambda: f"{api}/jobs",
        lambda: "/",
    ]
    return [draw.choice(kinds)() for _ in range(requests)]


def _rising(port: int, paths: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Twice as many clients each time, until the slowest hundredth waits twice as long as for one."""
    alone = 0.0
    for clients in itertools.takewhile(lambda number: number <= MOST_CLIENTS, (2**n for n in itertools.count())):
        start = time.perf_counter()
        figures = told(asyncio.run(ask(port, paths, clients)))
        rate = len(paths) / (time.perf_counter() - start)
        alone = alone or figures["p99_ms"]
        yield f"{clients} clients", {**figures, "requests_a_second": rate}
        if figures["p99_ms"] > 2 * alone:
            return


async def _beside_uploads(port: int, paths: Sequence[str], size: int) -> dict[str, Any]:
    """Archives are sent one after the other for as long as the readers ask."""
    content, ended, sent = _archive(size), asyncio.Event(), 0
    start = time.perf_counter()

    async def send() -> None:
        nonlocal sent
        while not ended.is_set():
            made = await _post(port, "/api/v1/datasets", b'{"name": "sent"}', "application/json")
            name = made.partition(b'"id":"')[2].partition(b'"')[0].decode()
            await _post(port, f"/api/v1/datasets/{name}/archive", content, "application/octet-stream")
            sent += size

    sending = asyncio.create_task(send())
    answers = await ask(port, paths, READERS)
    ended.set()
    await sending
    return {**told(answers), "uploaded_bytes_a_second": sent / (time.perf_counter() - start)}


async def _post(port: int, path: str, body: bytes, kind: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    writer.write(f"{head}connection: close\r\n\r\n".encode() + body)
    answer = await reader.read()
    if not answer.startswith(b"HTTP/1.1 20"):
        raise RuntimeError(f"{path}: {answer[:500].decode()}")
    writer.close()
    return answer


async def _beside_pages(port: int, paths: Sequence[str], pages: int) -> dict[str, Any]:
    """Each open page listens for what changes in any job."""
    listening = []
    for _ in range(pages):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/v1/jobs/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        listening.append((reader, writer))
    answers = await ask(port, paths, READERS)
    for reader, writer in listening:
        if reader.at_eof():
            raise RuntimeError("a page was closed")
        writer.close()
    return told(answers)


async def _soak(port: int, process: int, paths: Sequence[str], seconds: float) -> dict[str, Any]:
    """The server's memory over the time, which is to stay level after the first tenth."""
    held, answers, ends = [], Answers(), time.perf_counter() + seconds
    while time.perf_counter() < ends:
        part = min(time.perf_counter() + seconds / LOOKS, ends)
        for found in await asyncio.gather(*(client(port, _until(part, paths)) for _ in range(READERS))):
            answers += [(took, b"") for took, _ in found]
        held.append(resident_bytes(process))
    figures = told(answers)
    figures.pop("bytes")
    return {
        **figures,
        "seconds": seconds,
        "requests": len(answers),
        "held_bytes": held,
        "grown_bytes": held[-1] - held[0],
    }


def _until(moment: float, paths: Sequence[str]) -> Iterator[str]:
    return itertools.takewhile(lambda _: time.perf_counter() < moment, itertools.cycle(paths))


def _archive(size: int) -> bytes:
    """A tar of one file of random bytes, which a worker would refuse; here is none."""
    sink, noise = io.BytesIO(), np.random.default_rng(0).bytes(size)
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo("noise.png")
        info.size = size
        archive.addfile(info, io.BytesIO(noise))
    return sink.getvalue()
