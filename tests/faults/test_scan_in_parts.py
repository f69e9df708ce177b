"""A scan that two worker processes share ends in the bytes of a quiet run, also when one of them is killed."""

import io
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from harness import Server, serving, until, working
from samples import digit_embeddings, digit_files, write_tar

from tamis.settings import Settings
from tamis.store.catalog import Catalog, open_catalog
from tamis.store.checkpoints import sweep_checkpoints
from tamis.store.jobs import Jobs, open_jobs
from tamis.store.leases import live_workers
from tamis.store.objects import open_objects

# Longer than a busy machine keeps a worker from renewing its lease: here others would take it at once.
ENVIRONMENT = {"TAMIS_LEASE_SECONDS": "6"}
REQUEST = {"encoder": "embeddings", "classes": 10, "seed": 3}
# As many parts as workers, however small the set; a checkpoint after each of the scan's three tiles. A part's first
# tile waits for the file `first`, each later one for the file `later`.
IN_PARTS = """
import time
from pathlib import Path
import tamis.scan.pairs, tamis.scan.cpu, worker.durable.curate, worker.durable.layout, worker.durable.runtime

# What comes after a result would keep a worker from the next one's parts.
worker.durable.layout.lay_out = lambda place, result: None
worker.durable.curate.PART_SECONDS = 1e-9
# Every tile is told, however soon it follows another.
worker.durable.runtime.REPORT_SECONDS = 0.0
tamis.scan.pairs.PORTION, tamis.scan.pairs.SAVE_SECONDS = 1, 0.0
add = tamis.scan.cpu.Scan._add

def when_told(scan, *arguments):
    if scan._task.k:
        gate = Path({gates!r}, "later" if hasattr(scan, "begun") else "first")
        scan.begun = True
        while not gate.exists():
            time.sleep(0.02)
    add(scan, *arguments)

tamis.scan.cpu.Scan._add = when_told
"""


@dataclass(frozen=True)
class Stack:
    """A server without a worker, a data set on it, and the key and the manifest of its curation in a single pass.

    gates: the folder whose files let the workers' tiles pass.
    """

    gates: Path
    server: Server
    catalog: Catalog
    jobs: Jobs
    dataset: str
    result_key: str
    manifest: dict[str, bytes]

    def part(self, curation: str, part: int) -> Any:
        """The workflow of a part."""
        (found,) = self.jobs.client.list_workflows(workflow_ids=[f"scan-{curation}-{part}"])
        return found

    def holders(self, curation: str) -> list[str]:
        """Who works on part 0 and who on part 1; empty until both are worked on."""
        parts = [f"scan-{curation}-{part}" for part in range(2)]
        # A part that waits in the queue has the name of who put it there.
        found = self.jobs.client.list_workflows(workflow_ids=parts, status="PENDING")
        holder = {part.workflow_id: part.executor_id for part in found}
        return [holder[part] for part in parts] if len(found) == 2 else []

    def tiles_stored(self, curation: str, part: int) -> int:
        file = self.server.data / "objects" / "checkpoints" / f"scan-{curation}-{part}.npz"
        return int(np.load(io.BytesIO(file.read_bytes()))["done"]) if file.is_file() else 0

    def open(self, *gates: str) -> None:
        for gate in gates:
            (self.gates / gate).touch()

    def shut(self, *gates: str) -> None:
        for gate in gates:
            (self.gates / gate).unlink(missing_ok=True)

    def sweep(self) -> int:
        """As the server does, but at once for a job that has ended."""
        objects = open_objects(Settings(data=self.server.data))
        return sweep_checkpoints(self.catalog, objects, self.jobs, age=timedelta(0))

    def checkpoints(self, curation: str = "") -> list[str]:
        """Names of what is kept of one scan, or of all."""
        folder = self.server.data / "objects" / "checkpoints"
        return sorted(path.name for path in folder.glob("*.npz") if curation in path.name)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("parts")
    gates = folder / "gates"
    gates.mkdir()
    data, embeddings = folder / "data", folder / "embeddings.npy"
    np.save(embeddings, digit_embeddings())
    with serving(data, "--no-worker") as server:
        with working(data, "quiet", env=ENVIRONMENT):
            dataset = server.client.upload(write_tar(folder / "digits.tar", digit_files()), "digits")["id"]
            server.client.wait(f"/datasets/{dataset}", timeout=60)
            server.client.send_embeddings(dataset, embeddings)
            curation = server.client.curate(dataset, **REQUEST)["id"]
            server.client.wait(f"/curations/{curation}", timeout=60)
            manifest = manifest_of(server, curation, folder / "manifest")
        catalog = open_catalog(Settings(data=data))
        jobs = open_jobs(catalog.engine)
        assert jobs.client.list_workflows(workflow_id_prefix="scan-") == []
        yield Stack(gates, server, catalog, jobs, dataset, result_key(server, curation), manifest)
        jobs.close()
        catalog.close()


def manifest_of(server: Server, curation: str, folder: Path) -> dict[str, bytes]:
    server.client.manifest(curation, folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def query(server: Server, statement: str, *values: str) -> list[Any]:
    connection = sqlite3.connect(server.data / "tamis.sqlite", timeout=10)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def result_key(server: Server, curation: str) -> str:
    """Made of a hash of all bytes of the curation."""
    ((key,),) = query(server, "SELECT result_key FROM curations WHERE id = ?", curation)
    assert key
    return str(key)


@contextmanager
def two_workers(stack: Stack) -> Iterator[dict[str, Any]]:
    """Two processes that share every scan, by their names. At the end no tile waits."""
    program = IN_PARTS.format(gates=str(stack.gates))
    # One that was ended in the midst of anything counts until its lease is over; there are as many parts as workers.
    until(lambda: live_workers(stack.catalog, "cpu") == 0, 30, "the end of the workers before")
    with ExitStack() as running:
        running.callback(lambda: stack.open("first", "later"))
        yield {
            name: running.enter_context(working(stack.server.data, name, env=ENVIRONMENT, first=program))
            for name in (f"left-{time.monotonic_ns()}", f"right-{time.monotonic_ns()}")
        }


def in_mid_part(stack: Stack, workers: dict[str, Any]) -> tuple[str, str]:
    """A new curation without the second tile of part 0, and the name of the worker that has done that part's first."""
    stack.shut("first", "later")
    curation = stack.server.client.curate(stack.dataset, **REQUEST)["id"]
    holders = until(lambda: stack.holders(curation), 60, "both parts being worked on")
    assert set(holders) == set(workers)
    stack.open("first")
    until(lambda: stack.tiles_stored(curation, 0) == 1, 60, "the first tile's checkpoint")
    until(lambda: stack.part(curation, 1).status == "SUCCESS", 60, "the other part's only tile")
    # For who takes part 0 up, its second tile is the first.
    stack.shut("first")
    return curation, holders[0]


def test_two_workers_share_a_scan_and_the_death_of_one_changes_no_byte(stack: Stack, tmp_path: Path) -> None:
    with two_workers(stack) as workers:
        curation, holder = in_mid_part(stack, workers)
        os.kill(workers[holder].pid, signal.SIGKILL)
        workers[holder].wait()
        assert stack.part(curation, 0).status == "PENDING"
        assert stack.tiles_stored(curation, 0) == 1
        until(lambda: progress_of(stack, curation) == (2, 3), 10, "the progress of both parts")
        assert stack.sweep() == 0
        stack.open("first", "later")
        stack.server.client.wait(f"/curations/{curation}", timeout=60)
        assert stack.part(curation, 0).executor_id in set(workers) - {holder}
        assert result_key(stack.server, curation) == stack.result_key
        assert manifest_of(stack.server, curation, tmp_path / "manifest") == stack.manifest
        until(lambda: not stack.checkpoints(), 10, "no checkpoint")
        assert query(stack.server, "SELECT * FROM scan_parts") == []


def test_cancelling_a_curation_ends_its_parts_and_nothing_blocks_the_next(stack: Stack) -> None:
    with two_workers(stack) as workers:
        curation, _ = in_mid_part(stack, workers)
        assert httpx.delete(f"{stack.server.url}/api/v1/curations/{curation}").status_code == 202
        assert stack.part(curation, 0).status == "CANCELLED"
        stack.open("first", "later")
        time.sleep(2)
        assert stack.tiles_stored(curation, 0) == 1
        left = stack.checkpoints(curation)
        # One more than there are places for those that wait for their parts.
        count = len(workers) * Settings().cpu_jobs + 1
        stack.shut("later")
        asked = [stack.server.client.curate(stack.dataset, **REQUEST)["id"] for _ in range(count)]
        until(lambda: stack.tiles_stored(asked[0], 0) == 1, 120, "the next curation's first checkpoint")
        kept = stack.checkpoints(asked[0])
        assert stack.sweep() == len(left) > 0
        assert stack.checkpoints(curation) == []
        assert set(kept) <= set(stack.checkpoints(asked[0]))
        stack.open("later")
        for another in asked:
            stack.server.client.wait(f"/curations/{another}", timeout=60)
            assert stack.part(another, 1).status == "SUCCESS"
            assert result_key(stack.server, another) == stack.result_key


def progress_of(stack: Stack, curation: str) -> tuple[int, int]:
    ((done, total),) = query(stack.server, "SELECT done, total FROM curations WHERE id = ?", curation)
    return done, total
