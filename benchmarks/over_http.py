"""What benchmarks of a server share: one that runs, clients that ask, and how long they waited."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

Answers = list[tuple[float, bytes]]


def told(answers: Answers) -> dict[str, float]:
    milliseconds = 1000 * np.array([seconds for seconds, _ in answers])
    return {
        "median_ms": float(np.median(milliseconds)),
        "p99_ms": float(np.quantile(milliseconds, 0.99)),
        "bytes": float(np.mean([len(content) for _, content in answers])),
    }


async def ask(port: int, paths: Sequence[str], clients: int) -> Answers:
    """Each client asks for its share of the paths, one after the other, over a connection of its own."""
    parts = await asyncio.gather(*(client(port, paths[place::clients]) for place in range(clients)))
    return [answer for part in parts for answer in part]


async def client(port: int, paths: Iterable[str]) -> Answers:
    """One after the other, over one connection."""
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
def server(command: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Starts it on a free port, which is its last argument; yields the port and the process's number."""
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
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()
