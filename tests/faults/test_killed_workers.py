"""kill -9 of the worker in every stage; the same worker or another goes on, and the result is that of a quiet run."""

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Server, await_line, serving, tamis_process, until, working
from samples import digit_embeddings, digit_files, write_tar

import tamis

ENVIRONMENT = {"TAMIS_LEASE_SECONDS": "2"}
RECIPE = {"encoder": "simclr", "steps": 12, "classes": 10, "seed": 0}
# Two shards.
COUNT = 1100
TABLES = ("datasets", "curations", "manifests", "trainings")
WORKER = "first"


def manifest_of(server: Server, curation: str, folder: Path) -> dict[str, bytes]:
    server.client.manifest(curation, folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tar(tmp_path_factory.mktemp("archive") / "digits.tar", digit_files(COUNT))


@pytest.fixture(scope="module")
def undisturbed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("quiet")
    with serving(folder / "data") as server:
        dataset = server.client.upload(archive, "digits")
        server.client.wait(f"/datasets/{dataset['id']}")
        curation = server.client.curate(dataset["id"], **RECIPE)
        server.client.wait(f"/curations/{curation['id']}")
        return manifest_of(server, curation["id"], folder / "manifest")


def progress_of(server: Server, row_id: str) -> tuple[str, str]:
    """State and stage of a job, straight from the database, so that short stages are seen too."""
    connection = sqlite3.connect(server.data / "tamis.sqlite", timeout=10)
    try:
        for table in TABLES:
            row = connection.execute(f"SELECT state, stage FROM {table} WHERE id = ?", (row_id,)).fetchone()
            if row is not None:
                return row
        raise AssertionError(f"no row {row_id}")
    finally:
        connection.close()


def kill_in(stage: str, server: Server, row_id: str, worker: Any) -> None:
    """SIGKILL once the job is in the stage; fails if it got past it first."""
    deadline = time.monotonic() + 90
    while progress_of(server, row_id) != ("running", stage):
        assert time.monotonic() < deadline, f"{row_id} is {progress_of(server, row_id)}, not in {stage}"
        assert worker.poll() is None
        time.sleep(0.002)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert progress_of(server, row_id) == ("running", stage)


def test_a_worker_killed_in_each_stage_loses_nothing(
    undisturbed: dict[str, bytes], archive: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with serving(data, "--no-worker") as server:
        client = server.client
        dataset = client.upload(archive, "digits")["id"]
        with working(data, WORKER, env=ENVIRONMENT) as worker:
            kill_in("ingest", server, dataset, worker)
        # The same id again resumes at once.
        with working(data, WORKER, env=ENVIRONMENT) as worker:
            client.wait(f"/datasets/{dataset}", timeout=60)
            curation = client.curate(dataset, **RECIPE)["id"]
            kill_in("train encoder", server, curation, worker)
        # Another id adopts the job when the lease has run out.
        with working(data, "second", env=ENVIRONMENT) as worker:
            kill_in("embed", server, curation, worker)
        with working(data, "second", env=ENVIRONMENT) as worker:
            kill_in("curate", server, curation, worker)
        with working(data, "third", env=ENVIRONMENT) as worker:
            client.wait(f"/curations/{curation}", timeout=120)
            manifest = client.make_manifest(curation)["id"]
            kill_in("manifest", server, manifest, worker)
        with working(data, "fourth", env=ENVIRONMENT):
            client.wait(f"/manifests/{manifest}", timeout=60)
            folder = client.download(manifest, tmp_path / "manifest")
            assert {path.name: path.read_bytes() for path in sorted(folder.iterdir())} == undisturbed


def test_a_killed_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    data, few = tmp_path / "data", 120
    np.save(tmp_path / "embeddings.npy", digit_embeddings(few))
    with serving(data, "--no-worker") as server:
        client = server.client
        dataset = client.upload(write_tar(tmp_path / "few.tar", digit_files(few)), "few")["id"]
        with working(data, WORKER, env=ENVIRONMENT) as worker:
            client.wait(f"/datasets/{dataset}", timeout=60)
            client.send_embeddings(dataset, tmp_path / "embeddings.npy")
            curation = client.curate(dataset, encoder="embeddings", classes=10)["id"]
            client.wait(f"/curations/{curation}", timeout=120)
            manifest = client.make_manifest(curation)["id"]
            client.wait(f"/manifests/{manifest}", timeout=60)
            quiet = client.train(manifest, steps=30)["id"]
            expected = client.wait(f"/trainings/{quiet}", timeout=120)["result"]
            disturbed = client.train(manifest, steps=30)["id"]
            checkpoints = data / "objects" / "checkpoints"
            until((checkpoints / f"training-{disturbed}.pt").is_file, 60, "a checkpoint")
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
        assert progress_of(server, disturbed)[0] == "running"
        with working(data, "second", env=ENVIRONMENT):
            found = client.wait(f"/trainings/{disturbed}", timeout=120)["result"]
        assert found["encoder_fingerprint"] == expected["encoder_fingerprint"]
        assert found["probe"] == expected["probe"]
        # A save that the kill cut off is for the server to sweep.
        assert not list(checkpoints.glob("*.pt"))


def test_a_job_whose_holder_has_no_lease_any_more_is_adopted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--no-worker") as server:
        dataset = server.client.upload(write_tar(tmp_path / "few.tar", digit_files(60)), "few")["id"]
        with working(data, WORKER, env=ENVIRONMENT) as worker:
            server.client.wait(f"/datasets/{dataset}", timeout=60)
            curation = server.client.curate(dataset, **{**RECIPE, "steps": 30})["id"]
            kill_in("train encoder", server, curation, worker)
        # As if another worker had claimed the lease just before this one took the job.
        with closing(sqlite3.connect(data / "tamis.sqlite", timeout=10)) as connection, connection:
            assert connection.execute("DELETE FROM worker_leases").rowcount == 1
        with working(data, "second", env=ENVIRONMENT):
            server.client.wait(f"/curations/{curation}", timeout=120)


def test_the_server_starts_its_worker_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with tamis_process("serve", "--port", "0", "--data", str(data), data=data) as (process, log):
        client = tamis.Client(await_line(log, r"Tamis serves (\S+),", process))

        def worker_pid() -> int | None:
            connection = sqlite3.connect(data / "tamis.sqlite", timeout=10)
            row = connection.execute("SELECT pid FROM worker_leases").fetchone()
            connection.close()
            return row[0] if row else None

        first = until(worker_pid, 30, "a worker")
        os.kill(first, signal.SIGKILL)
        until(lambda: worker_pid() not in (None, first), 30, f"another worker, see {log}")
        archive = write_tar(tmp_path / "few.tar", digit_files(20))
        dataset = client.upload(archive, "few")
        assert client.wait(f"/datasets/{dataset['id']}", timeout=60)["samples"] == 20
