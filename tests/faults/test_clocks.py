"""A clock that is set while jobs run: leases hold, and who is dead is noticed none the less."""

import os
import signal
import time
from pathlib import Path

import pytest
from harness import serving, until, working
from samples import digit_files, write_tar

LEASE_SECONDS = 2.0
ENVIRONMENT = {"TAMIS_LEASE_SECONDS": str(LEASE_SECONDS)}
HOUR = 3600.0
# The process's clock, as many seconds ahead as a file says now.
PROGRAM = """
import datetime, pathlib
import tamis.store.catalog, tamis.store.leases, tamis.store.schema
real = tamis.store.schema.now
def ahead():
    return real() + datetime.timedelta(seconds=float(pathlib.Path({file!r}).read_text()))
for room in (tamis.store.catalog, tamis.store.leases, tamis.store.schema):
    room.now = ahead
"""


@pytest.mark.slow
def test_a_clock_that_is_set_takes_no_job_from_a_worker_nor_keeps_one_of_a_dead(tmp_path: Path) -> None:
    data, clock = tmp_path / "data", tmp_path / "clock"
    clock.write_text("0")

    def adopted() -> int:
        return sum(log.read_text().count("adopting") for log in data.glob("worker-*.log"))

    with (
        serving(data, "--no-worker", env=ENVIRONMENT) as server,
        working(data, "set", env=ENVIRONMENT, first=PROGRAM.format(file=str(clock))) as set_worker,
    ):
        client = server.client
        dataset = client.upload(write_tar(tmp_path / "few.tar", digit_files(100)), "few")["id"]
        client.wait(f"/datasets/{dataset}", timeout=60)
        curation = client.curate(dataset, encoder="simclr", steps=100_000, classes=10)["id"]
        address = f"/curations/{curation}"

        def steps() -> int:
            progress = client._get(address)["progress"]
            return int(progress["done"]) if progress["stage"] == "train encoder" else 0

        until(steps, 60, "the training")
        with working(data, "steady", env=ENVIRONMENT) as steady:
            for ahead in (HOUR, -HOUR, HOUR):
                clock.write_text(str(ahead))
                before = steps()
                time.sleep(2.5 * LEASE_SECONDS)
                assert steps() > before
            assert (set_worker.poll(), steady.poll(), adopted()) == (None, None, 0)
            # Its lease says now that it holds for another hour.
            os.kill(set_worker.pid, signal.SIGKILL)
            until(adopted, 30, "the steady one to take over")
            client.cancel(address)
