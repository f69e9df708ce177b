"""A worker that has too little memory: the job says so and what to do, the worker lives; and one that a job kills."""

import resource
from pathlib import Path
from typing import Any

import pytest
from harness import await_line, serving, tamis_process, until, working
from samples import digit_files, write_tar

import tamis

ENVIRONMENT = {"TAMIS_LEASE_SECONDS": "2"}
# As the kernel would, when the machine has no memory left; and sooner given up than after ten deaths.
DEADLY = """
import os, signal
import trainer.frameworks.learner, worker.durable.lease
worker.durable.lease.MOST_DEATHS = 3
trainer.frameworks.learner.Learner.learn = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""


def limit_memory(pid: int, more: int | None) -> None:
    """Address space: what the process has and so many bytes; None for as much as there is."""
    taken = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (hard if more is None else taken + more, hard))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_that_lacks_memory_says_so_and_its_worker_lives(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--no-worker", env=ENVIRONMENT) as server, working(data, "only", env=ENVIRONMENT) as worker:
        client = server.client
        dataset = client.upload(write_tar(tmp_path / "few.tar", digit_files(100)), "few")["id"]
        client.wait(f"/datasets/{dataset}", timeout=60)
        # Room for threads, which take address space alone, and not for a batch of two views of so many pixels.
        limit_memory(worker.pid, 2**28)
        curation = client.curate(dataset, encoder="simclr", steps=2, image_size=384, classes=10, seed=0)["id"]
        with pytest.raises(tamis.TamisError, match=r"too little memory .*TAMIS_MEMORY_BUDGET"):
            client.wait(f"/curations/{curation}", timeout=120)
        assert worker.poll() is None
        limit_memory(worker.pid, None)
        smaller = client.curate(dataset, encoder="simclr", steps=2, classes=10, seed=0)["id"]
        assert client.wait(f"/curations/{smaller}", timeout=180)["state"] == "succeeded"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_that_kills_every_worker_is_ended_and_goes_on_when_it_is_tried_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--no-worker", env=ENVIRONMENT) as server:
        client = server.client
        dataset = client.upload(write_tar(tmp_path / "few.tar", digit_files(60)), "few")["id"]
        with working(data, "well", env=ENVIRONMENT):
            client.wait(f"/datasets/{dataset}", timeout=60)
        curation = client.curate(dataset, encoder="simclr", steps=2, classes=10, seed=0)["id"]

        def found() -> Any:
            return client._get(f"/curations/{curation}")

        # Under the same name, and under others, which have to notice.
        for name in ("one", "one", "other"):
            assert found()["state"] in ("queued", "running")
            arguments = ("worker", "--id", name, "--data", str(data))
            with tamis_process(*arguments, data=data, env=ENVIRONMENT, first=DEADLY) as (worker, log):
                await_line(log, r"takes jobs from|adopting", worker)
                assert worker.wait(60) == -9
        with working(data, "last", env=ENVIRONMENT, first=DEADLY):
            until(lambda: found()["state"] == "failed", 60, "the end")
        assert "3 workers died while they held this" in found()["error"]
        with working(data, "well", env=ENVIRONMENT):
            client._create(f"/jobs/{curation}/retry", {})
            client.wait(f"/curations/{curation}", timeout=120)
