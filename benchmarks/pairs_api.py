"""Pages of a curation's pairs over HTTP, many clients at once, beside a bare FastAPI that answers the same bytes."""

import asyncio
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.made import make_curation
from benchmarks.measure import machine

LIMIT = 50
SAMPLES_A_PAIR = 10
BARE = """
import sys, uvicorn
from fastapi import FastAPI, Response
content = open(sys.argv[1], "rb").read()
app = FastAPI()
@app.get("/{path:path}")
def answer(path: str) -> Response:
    return Response(content, media_type="application/json")
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


def run(count: int = 10_000_000, clients: int = 20, requests: int = 3000) -> Iterator[tuple[str, Any]]:
    """count: pairs. Yields each figure as it is known: milliseconds of an answer, from asking to its last byte."""
    yield "machine", machine()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        samples = max(count // SAMPLES_A_PAIR, 100)
        start = time.perf_counter()
        _, curation = make_curation(data, samples, count)
        yield "made", {"pairs": count, "samples": samples, "seconds": time.perf_counter() - start}
        path = f"/api/v1/curations/{curation}/pairs"
        with _server(
            [sys.executable, "-m", "tamis.commands.cli", "serve", "--no-worker", "--data", str(data), "--port"]
        ) as port:
            start = time.perf_counter()
            first = asyncio.run(_ask(port, [f"{path}?limit={LIMIT}"], 1))
            yield "first answer", {"seconds": time.perf_counter() - start}
            for name, paths in _questions(path, count, samples, requests).items():
                # Each list is chosen once and then remembered, as it is while somebody scrolls.
                asyncio.run(_ask(port, list({each.partition("&offset")[0] for each in paths})[:50], 1))
                yield name, _told(asyncio.run(_ask(port, paths, clients)))
        content = Path(folder) / "content"
        content.write_bytes(first[0][1])
        with _server([sys.executable, "-c", BARE, str(content)]) as port:
            yield "bare FastAPI", _told(asyncio.run(_ask(port, ["/pairs"] * requests, clients)))


def _questions(path: str, count: int, samples: int, requests: int) -> dict[str, list[str]]:
    draw = random.Random(0)
    cuts = ["sim_low=0.75&sim_high=0.85", "sim_low=0.8", "sim_high=0.78&sort=-similarity", "sort=similarity"]
    return {
        "scrolling anywhere": [f"{path}?limit={LIMIT}&offset={draw.randrange(count)}" for _ in range(requests)],
        "cuts": [
            f"{path}?limit={LIMIT}&{draw.choice(cuts)}&offset={draw.randrange(count // 4)}" for _ in range(requests)
        ],
        "two clusters": [
            f"{path}?limit={LIMIT}&cluster_a={draw.randrange(50)}&cluster_b={draw.randrange(50)}"
            for _ in range(requests)
        ],
        "one sample": [f"{path}?limit={LIMIT}&sample={draw.randrange(samples)}" for _ in range(requests)],
    }


def _told(answers: Sequence[tuple[float, bytes]]) -> dict[str, float]:
    milliseconds = 1000 * np.array([seconds for seconds, _ in answers])
    return {
        "median_ms": float(np.median(milliseconds)),
        "p99_ms": float(np.quantile(milliseconds, 0.99)),
        "bytes": float(np.mean([len(content) for _, content in answers])),
    }


async def _ask(port: int, paths: Sequence[str], clients: int) -> list[tuple[float, bytes]]:
    """Each client asks for its share of the paths, one after the other, over a connection of its own."""
    parts = await asyncio.gather(*(_client(port, paths[place::clients]) for place in range(clients)))
    return [answer for part in parts for answer in part]


async def _client(port: int, paths: Sequence[str]) -> list[tuple[float, bytes]]:
    # Sockets and not a client library, which would take more of the two cores than the server.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = []
    for path in paths:
        start = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path}: {head.decode()}")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        content = await reader.readexactly(int(length.partition(b":")[2]))
        found.append((time.perf_counter() - start, content))
    writer.close()
    return found


@contextmanager
def _server(command: Sequence[str]) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    process = subprocess.Popen([*command, str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()
