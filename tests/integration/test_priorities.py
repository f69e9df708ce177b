"""A worker takes the jobs of the highest priority first, and as many at once as the settings say."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from harness import serving, working
from samples import digit_files, write_tar

import tamis


def test_the_highest_goes_first_and_its_parts_have_its_priority(tmp_path: Path) -> None:
    data = tmp_path / "data"
    archive = write_tar(tmp_path / "few.tar", digit_files(20))
    with serving(data, "--no-worker") as server:
        client = server.client
        asked = ("low", "normal", "high", "normal", "high")
        waiting = [client.upload(archive, priority, priority=priority)["id"] for priority in asked]
        assert [client.dataset(row)["priority"] for row in waiting] == list(asked)
        with working(data, "one", env={"TAMIS_CPU_JOBS": "1"}):
            rows = [client.wait(f"/datasets/{row}", timeout=60) for row in waiting]
            begun = sorted(rows, key=lambda row: str(row["started_at"]))
            assert [waiting.index(row["id"]) for row in begun] == [2, 4, 1, 3, 0]
            ends = [row["finished_at"] for row in begun[:-1]]
            assert all(end <= row["started_at"] for end, row in zip(ends, begun[1:], strict=True))
            curation = client.curate(waiting[0], encoder="simclr", steps=1, classes=2, priority="high")["id"]
            assert "priority" not in client.curation(curation)["parameters"]
            client.wait(f"/curations/{curation}", timeout=120)
        with closing(sqlite3.connect(data / "tamis.sqlite")) as connection:
            of_curation = "SELECT DISTINCT priority FROM workflow_status WHERE workflow_uuid LIKE ?"
            assert connection.execute(of_curation, (f"%{curation}%",)).fetchall() == [(1,)]
        with pytest.raises(tamis.InputError, match="priority"):
            client.curate(waiting[0], priority="urgent")
