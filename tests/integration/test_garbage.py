"""Objects go with the last thing that needs them, and nothing else does; the quota counts what is stored."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import httpx
import pytest
from harness import Server, serving
from samples import digit_files, write_folder, write_tar

import tamis
from service.backend import Backend, open_backend
from tamis.errors import BusyError
from tamis.settings import Settings
from tamis.store.garbage import AGE, collect_garbage
from tamis.store.schema import Curation, Dataset, Shard

QUOTA = 200_000


@pytest.fixture
def backend(settings: Settings) -> Iterator[Backend]:
    opened = open_backend(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a quota, which no other module uses."""
    folder = tmp_path_factory.mktemp("garbage")
    roots = folder / "roots"
    roots.mkdir()
    env = {"TAMIS_QUOTA_BYTES": str(QUOTA), "TAMIS_ALLOWED_ROOTS": str(roots)}
    with serving(folder / "data", env=env) as running:
        yield running


def files(server: Server) -> set[str]:
    folder = server.data / "objects"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def make_old(folder: Path) -> None:
    then = time.time() - AGE.total_seconds() - 60
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def test_what_no_row_needs_is_removed_once_it_is_old(backend: Backend) -> None:
    with backend.catalog.session() as session:
        session.add(Dataset(id="ds_1", name="a", state="succeeded", fingerprint="f", index_key="index/i.parquet"))
        session.flush()
        session.add(
            Shard(dataset_id="ds_1", ordinal=0, key="shards/s.x", thumbnails_key="thumbnails/t.x", first=0, count=1)
        )
        session.add(Curation(id="cu_1", dataset_id="ds_1", state="succeeded", parameters={}, result_key="curations/c"))
    kept = {
        *("index/i.parquet", "shards/s.x", "thumbnails/t.x", "curations/c/one", "curations/c/two"),
        *("features/e/s.npy", "blends/e/f-0.npy"),
    }
    lost = {"index/j.parquet", "shards/z.x", "curations/d/one", "features/e/z.npy", "blends/e/g-0.npy", "encoders/n.pt"}
    for key in kept | lost:
        backend.objects.put(key, b"12345")
    assert collect_garbage(backend.catalog, backend.objects) == (0, 0)
    folder = backend.objects.local_path("index")
    assert folder is not None
    make_old(folder.parent)
    assert collect_garbage(backend.catalog, backend.objects, dry_run=True) == (len(lost), 5 * len(lost))
    assert set(backend.objects.list("")) == kept | lost
    with backend.catalog.session() as session:
        session.add(Dataset(id="ds_2", name="b", state="running"))
    with pytest.raises(BusyError, match="ds_2"):
        collect_garbage(backend.catalog, backend.objects)
    with backend.catalog.session() as session:
        session.get_one(Dataset, "ds_2").state = "failed"
    assert collect_garbage(backend.catalog, backend.objects) == (len(lost), 5 * len(lost))
    assert set(backend.objects.list("")) == kept


def test_a_data_set_is_deleted_with_its_bytes_but_not_those_of_another(own: Server, tmp_path: Path) -> None:
    client, before = own.client, files(own)
    digits = digit_files(60)
    both = write_tar(tmp_path / "digits.tar", [*digits, ("copy.png", digits[0][1])])
    first, second = (client.upload(both, name)["id"] for name in ("first", "second"))
    for dataset in (first, second):
        client.wait(f"/datasets/{dataset}", timeout=60)
    stored = files(own)
    assert len(stored - before) >= 3
    # As many classes as samples, two of which are equal.
    failed = client.curate(first, encoder="simclr", steps=2, classes=61)["id"]
    with pytest.raises(tamis.TamisError):
        client.wait(f"/curations/{failed}", timeout=60)
    httpx.delete(f"{own.url}/api/v1/datasets/{first}").raise_for_status()
    assert stored <= files(own)
    httpx.delete(f"{own.url}/api/v1/datasets/{second}").raise_for_status()
    assert not files(own) & (stored - before)


def test_a_data_set_with_a_result_stays(server: Server, tmp_path: Path) -> None:
    dataset = server.client.upload(write_tar(tmp_path / "digits.tar", digit_files(60)), "kept")["id"]
    server.client.wait(f"/datasets/{dataset}", timeout=60)
    curation = server.client.curate(dataset, encoder="simclr", steps=2, classes=5)["id"]
    server.client.wait(f"/curations/{curation}", timeout=120)
    stored = files(server)
    assert httpx.delete(f"{server.url}/api/v1/datasets/{dataset}").status_code == 409
    make_old(server.data / "objects")
    told = forked.run("gc", "--data", server.data, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout.splitlines()[-1])["dry_run"] is False
    client: Any = server.client
    client.wait(f"/manifests/{client.make_manifest(curation)['id']}", timeout=60)
    assert {name for name in stored if name.startswith(("shards", "index", "thumbnails"))} <= files(server)


def test_the_quota_counts_what_is_stored_however_it_came(own: Server) -> None:
    client = own.client
    large = digit_files(1700)
    folder = write_folder(own.data.parent / "roots" / "large", large)
    assert sum(len(content) for _, content in large) > QUOTA
    registered = client.register(f"file://{folder}", "registered")["id"]
    with pytest.raises(tamis.TamisError, match="bytes that are left"):
        client.wait(f"/datasets/{registered}", timeout=60)
    made = httpx.post(f"{own.url}/api/v1/datasets", json={"name": "chunked"}).json()["id"]
    chunks = (bytes(50_000) for _ in range(20))
    answer = httpx.post(f"{own.url}/api/v1/datasets/{made}/archive", content=chunks)
    assert answer.status_code == 507
    assert answer.json()["type"] == "urn:tamis:problem:quota-exceeded"
