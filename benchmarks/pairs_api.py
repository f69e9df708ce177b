"""Pages of a curation's pairs over HTTP, many clients at once, beside a bare FastAPI that answers the same bytes."""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.made import make_curation
from benchmarks.measure import machine
from benchmarks.over_http import ask, server, told

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
        with server(
            [sys.executable, "-m", "tamis.commands.cli", "serve", "--no-worker", "--data", str(data), "--port"]
        ) as (port, _):
            start = time.perf_counter()
            first = asyncio.run(ask(port, [f"{path}?limit={LIMIT}"], 1))
            yield "first answer", {"seconds": time.perf_counter() - start}
            for name, paths in _questions(path, count, samples, requests).items():
                # Each list is chosen once and then remembered, as it is while somebody scrolls.
                asyncio.run(ask(port, list({each.partition("&offset")[0] for each in paths})[:50], 1))
                yield name, told(asyncio.run(ask(port, paths, clients)))
        content = Path(folder) / "content"
        content.write_bytes(first[0][1])
        with server([sys.executable, "-c", BARE, str(content)]) as (port, _):
            yield "bare FastAPI", told(asyncio.run(ask(port, ["/pairs"] * requests, clients)))


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
