"""Trials at scale: the whole job, with a SIGKILL of server, worker or both at a moment that chance chose.

FAULT_TRIALS says how many, 50 unless it is set. What was accepted is there in the end, once, and with the same bytes.
"""

import os
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import Restarting, working
from samples import digit_files, write_tar

TRIALS = int(os.environ.get("FAULT_TRIALS", "50"))
ENVIRONMENT = {"TAMIS_LEASE_SECONDS": "1"}
RECIPE = {"encoder": "simclr", "steps": 6, "classes": 10, "seed": 0}
PATIENCE = 600.0


@dataclass
class Trial:
    """A server and a worker in a folder of their own, either of which may be killed and started again."""

    folder: Path
    archive: Path
    workers: int = 0
    running: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.server = Restarting(self.folder, ENVIRONMENT)
        self.running.callback(self.server.close)
        self.worker = self.start_worker("w")

    def start_worker(self, name: str) -> Any:
        return self.running.enter_context(working(self.folder, name, env=ENVIRONMENT))

    def kill(self, server: bool, worker: bool, same: bool) -> None:
        """same: whether the worker comes back under its own name, or another has to notice that it is gone."""
        if worker:
            self.worker.kill()
            self.worker.wait()
        if server:
            self.server.kill()
            self.server.restart()
        if worker:
            self.worker = self.start_worker("w" if same else "another")

    def ask(self, send: Callable[[str], httpx.Response], *expected: int) -> Any:
        """What a client does that gives up late: the same request again, until there is an answer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = send(f"{self.server.server.url}/api/v1")
                if answer.status_code < 500:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "the server does not come back"
            time.sleep(0.1)
        assert answer.status_code in expected, answer.text
        return answer

    def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"idempotency-key": path}
        return self.ask(lambda url: httpx.post(url + path, json=body, headers=headers), 200, 201, 202).json()

    def done(self, path: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while (row := self.ask(lambda url: httpx.get(url + path), 200).json())["state"] != "succeeded":
            assert row["state"] in ("queued", "running"), row
            assert time.monotonic() < deadline, f"{path} is lost: {row}"
            time.sleep(0.1)

    def whole_job(self) -> dict[str, bytes]:
        """The manifest's files."""
        dataset = f"/datasets/{self.post('/datasets', {'name': 'few'})['id']}"
        content = self.archive.read_bytes()
        # A second try finds the first one's archive there.
        self.ask(lambda url: httpx.post(f"{url}{dataset}/archive", content=content), 202, 409)
        self.done(dataset)
        curation = self.post("/curations", {"dataset": dataset.rpartition("/")[2], **RECIPE})["id"]
        self.done(f"/curations/{curation}")
        self.post(f"/curations/{curation}/decisions", {"sample": 3, "verdict": "drop"})
        manifest = self.post(f"/curations/{curation}/manifests", {})["id"]
        self.done(f"/manifests/{manifest}")
        files = self.ask(lambda url: httpx.get(f"{url}/manifests/{manifest}"), 200).json()["files"]
        return {
            name: self.ask(lambda url, n=name: httpx.get(f"{url}/manifests/{manifest}/{n}"), 200).content
            for name in files
        }

    def left(self) -> dict[str, Any]:
        """What is there in the end: rows, jobs by kind and state, and keys of objects."""
        with closing(sqlite3.connect(self.folder / "tamis.sqlite", timeout=10)) as connection:
            ask = connection.execute
            deadline = time.monotonic() + PATIENCE
            open_jobs = "SELECT count(*) FROM workflow_status WHERE status IN ('PENDING', 'ENQUEUED')"
            while ask(open_jobs).fetchone() != (0,):
                assert time.monotonic() < deadline, "a job does not end"
                time.sleep(0.1)
            tables = ("datasets", "curations", "decisions", "manifests", "embeddings", "shards")
            rows = {table: ask(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
            jobs = Counter(ask("SELECT name, status FROM workflow_status").fetchall())
        objects = self.folder / "objects"
        keys = sorted(str(file.relative_to(objects)) for file in objects.rglob("*") if file.is_file())
        # A write that a kill cut off is no object, and is swept.
        return {"rows": rows, "jobs": jobs, "objects": [key for key in keys if "#" not in key]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tar(tmp_path_factory.mktemp("archive") / "few.tar", digit_files(60))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_kills_at_random_moments_lose_and_double_nothing(archive: Path, tmp_path: Path) -> None:
    quiet = Trial(tmp_path / "quiet", archive)
    began = time.monotonic()
    with quiet.running:
        manifest, left = quiet.whole_job(), quiet.left()
    lasted = time.monotonic() - began
    wrong: list[str] = []
    told: Counter[str] = Counter()
    for number in range(TRIALS):
        draw = random.Random(number)
        victims = draw.choice(["worker", "worker", "worker", "server", "both"])
        moment, same = draw.uniform(0, lasted), draw.random() < 0.5
        trial = Trial(tmp_path / str(number), archive)
        found: list[Any] = []
        thread = threading.Thread(target=lambda t=trial, f=found: f.extend([t.whole_job(), t.left()]))
        with trial.running:
            thread.start()
            time.sleep(moment)
            told[f"{victims} killed{'' if thread.is_alive() else ' after the end'}"] += 1
            trial.kill(victims in ("server", "both"), victims in ("worker", "both"), same)
            thread.join()
        if not found:
            wrong.append(f"trial {number}: lost")
        elif found != [manifest, left]:
            wrong.append(f"trial {number}: {found[1]} and not {left}")
    print(f"{TRIALS} trials: {dict(told)}; wrong: {len(wrong)}")
    assert not wrong
