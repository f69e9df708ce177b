"""`tamis doctor` tells of each part of a server whether it works, and which does not."""

import json
import socket
from pathlib import Path

import pytest

from tamis.commands.cli import main
from tamis.settings import Settings
from tamis.store.catalog import open_catalog
from tamis.store.leases import take_lease


def test_what_is_well_is_told(
    tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMIS_DATABASE_URL", database_url)
    monkeypatch.setattr("tamis.commands.doctor.LEAST_FREE", 1)
    assert main(["doctor", "--data", str(tmp_path / "data"), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("well ") for line in lines[:-1])
    checks = json.loads(lines[-1])["checks"]
    assert list(checks) == ["versions", "device", "data folder", "database", "object store", "workers"]
    assert "0037" in checks["database"]
    assert checks["workers"] == "alive: 0 on cpu, 0 on gpu, 0 on train"
    assert not list((tmp_path / "data" / "objects").rglob("doctor*"))


def test_each_part_that_does_not_work_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    monkeypatch.setenv("TAMIS_OBJECT_STORE", str(tmp_path / "file" / "objects"))
    monkeypatch.setenv("TAMIS_DATABASE_URL", f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    monkeypatch.setattr("tamis.commands.doctor.LEAST_FREE", 2**60)
    assert main(["doctor", "--data", str(tmp_path / "data")]) == 1
    told = capsys.readouterr()
    wrong = [line for line in told.out.splitlines() if line.startswith("WRONG")]
    assert [line.split()[1].rstrip(":") for line in wrong] == ["data", "database", "object", "workers"]
    assert "GiB left" in wrong[0]
    assert "data folder, database, object store, workers" in told.err


@pytest.mark.parametrize(("host", "seconds", "status"), [("", 60.0, 0), ("another", 60.0, 1), ("", -1.0, 1)])
def test_a_worker_is_well_while_one_of_this_machine_keeps_its_lease(
    tmp_path: Path, host: str, seconds: float, status: int
) -> None:
    catalog = open_catalog(Settings(data=tmp_path))
    take_lease(catalog, "worker", "holder", seconds, host=host or socket.gethostname(), pid=1, queues="cpu")
    catalog.close()
    assert main(["doctor", "--worker", "--data", str(tmp_path)]) == status
