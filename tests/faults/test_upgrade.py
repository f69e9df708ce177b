"""A server of an earlier state of this repository is ended in the middle of a job; the present one goes on with it."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from harness import Server, await_line, serving, until, working
from samples import digit_files, write_tar

import tamis

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"TAMIS_LEASE_SECONDS": "2"}
RECIPE = {"encoder": "simclr", "steps": 150, "classes": 10, "seed": 0}


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code before the latest change of the tables."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git, or no history of this code")
    latest = max((ROOT / "migrations" / "versions").glob("[0-9]*.py"))
    added = git("log", "--diff-filter=A", "--format=%H", "--", str(latest)).decode().split()
    if not added or not git("rev-list", "--parents", "-1", added[-1]).decode().split()[1:]:
        pytest.skip("the history of this code does not reach back to its latest migration")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(git("archive", f"{added[-1]}^"))) as archive:
        archive.extractall(folder, filter="data")
    assert not (folder / "migrations" / "versions" / latest.name).exists()
    return folder


def manifest_of(server: Server, curation: str, folder: Path) -> dict[str, bytes]:
    server.client.wait(f"/curations/{curation}", timeout=180)
    server.client.manifest(curation, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_of_an_earlier_server_is_ended_by_the_present_one(earlier: Path, tmp_path: Path, end: int) -> None:
    archive, data = write_tar(tmp_path / "few.tar", digit_files(60)), tmp_path / "data"
    command = [sys.executable, "-m", "tamis.commands.cli", "serve", "--port", "0", "--data", str(data)]
    data.mkdir()
    log = data / "earlier.log"
    with log.open("wb") as file:
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(earlier)}
        old = subprocess.Popen(command, cwd=earlier, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        with tamis.Client(await_line(log, r"Tamis serves (\S+),", old)) as client:
            dataset = client.upload(archive, "few")["id"]
            client.wait(f"/datasets/{dataset}", timeout=120)
            curation = client.curate(dataset, **RECIPE)["id"]

            def trains() -> bool:
                progress = client.curation(curation)["progress"]
                return bool(progress["stage"] == "train encoder" and progress["done"])

            until(trains, 120, "the training")
    finally:
        # The server and its worker.
        if end == signal.SIGTERM:
            old.terminate()
        else:
            os.killpg(old.pid, signal.SIGKILL)
        old.wait(60)
    with serving(data, "--no-worker", env=ENVIRONMENT) as server, working(data, "present", env=ENVIRONMENT):
        found = manifest_of(server, curation, tmp_path / "found")
        again = server.client.upload(archive, "again")["id"]
        server.client.wait(f"/datasets/{again}", timeout=60)
    with serving(tmp_path / "quiet", env=ENVIRONMENT) as server:
        dataset = server.client.upload(archive, "few")["id"]
        server.client.wait(f"/datasets/{dataset}", timeout=60)
        assert found == manifest_of(server, server.client.curate(dataset, **RECIPE)["id"], tmp_path / "expected")
