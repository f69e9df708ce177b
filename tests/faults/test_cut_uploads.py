"""Uploads whose connection is cut, and whose server or sender is killed by SIGKILL: not a byte is lost or doubled."""

import base64
import hashlib
import io
import random
import socket
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from harness import Restarting, serving, until
from samples import digit_files, write_folder

import tamis
from tamis.settings import Settings
from tamis.store.catalog import open_catalog
from tamis.store.objects import PART, open_objects
from tamis.store.schema import Dataset

MB = 10**6
TUS = {"tus-resumable": "1.0.0"}
CUTS, KILLS = 10, (3, 7)


def archive_of(size: int) -> bytes:
    """A tar of about `size` random bytes."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo("0/noise.png")
        info.size = size
        archive.addfile(info, io.BytesIO(np.random.default_rng(size).bytes(size)))
    return sink.getvalue()


def stored(settings: Settings, dataset: str) -> bytes:
    catalog = open_catalog(settings)
    with catalog.session() as session:
        key = session.get_one(Dataset, dataset).upload_key
    catalog.close()
    assert key is not None
    return open_objects(settings).get(key)


@pytest.fixture(params=["50 MB to a folder", "30 MB to s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, dict[str, str]]:
    """How much to send, and the environment of the server."""
    if request.param == "50 MB to a folder":
        return 50 * MB, {}
    endpoint, bucket = request.getfixturevalue("s3")
    return 30 * MB, {"TAMIS_OBJECT_STORE": f"s3://{bucket}/{tmp_path.name}", "TAMIS_S3_ENDPOINT": endpoint}


@pytest.fixture
def restarting(tmp_path: Path) -> Iterator[Restarting]:
    running = Restarting(tmp_path / "data")
    yield running
    running.close()


def test_ten_cuts_and_two_kills_leave_the_bytes_that_were_sent(
    place: tuple[int, dict[str, str]], tmp_path: Path
) -> None:
    size, environment = place
    content, cuts = archive_of(size), random.Random(size)
    sha256 = base64.b64encode(hashlib.sha256(content).hexdigest().encode()).decode()
    running = Restarting(tmp_path / "data", environment)
    url = f"{running.server.url}/api/v1"
    dataset = httpx.post(f"{url}/datasets", json={"name": "cut"}).json()["id"]
    headers = {**TUS, "upload-length": str(len(content)), "upload-metadata": f"sha256 {sha256}"}
    location = httpx.post(f"{url}/datasets/{dataset}/uploads", headers=headers).headers["location"]
    sent = 0
    for number, cut in enumerate(sorted(cuts.sample(range(1, len(content)), CUTS))):
        begin = offset(running.server.url + location)
        assert begin <= sent
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as line:
            send_a_part(line, location, begin, len(content), content[begin : max(cut, begin)])
            sent = max(cut, begin)
            if number in KILLS:
                running.kill()
            elif number % 2:
                # Reset, as when a machine is gone, and not closed in order.
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if number in KILLS:
            running.restart()
    finish(running.server.url + location, content)
    running.close()
    settings = Settings(
        data=tmp_path / "data",
        object_store=environment.get("TAMIS_OBJECT_STORE", ""),
        s3_endpoint=environment.get("TAMIS_S3_ENDPOINT"),
    )
    # Compared as a whole, and not printed.
    assert hashlib.sha256(stored(settings, dataset)).digest() == hashlib.sha256(content).digest()
    assert len(open_objects(settings).list("uploads/")) == 1


def offset(address: str) -> int:
    return int(httpx.head(address, headers=TUS).headers["upload-offset"])


def send_a_part(line: socket.socket, location: str, begin: int, length: int, body: bytes) -> None:
    line.sendall(
        f"PATCH {location} HTTP/1.1\r\nhost: localhost\r\ntus-resumable: 1.0.0\r\nupload-offset: {begin}\r\n"
        f"content-type: application/offset+octet-stream\r\ncontent-length: {length - begin}\r\n\r\n".encode()
    )
    line.sendall(body)


def finish(address: str, content: bytes) -> None:
    """Sends the rest in one request, once the server has put away what came over connections that are gone."""

    def arrived() -> bool:
        begin = offset(address)
        headers = {**TUS, "upload-offset": str(begin), "content-type": "application/offset+octet-stream"}
        answer = httpx.patch(address, content=content[begin:], headers=headers, timeout=60)
        assert answer.status_code in {204, 409, 423}, answer.text
        return answer.status_code == 204

    until(arrived, 20, "the rest to be taken")


def test_the_client_goes_on_after_the_server_was_killed_and_came_back(restarting: Restarting, tmp_path: Path) -> None:
    content = archive_of(6 * PART)
    (tmp_path / "noise.tar").write_bytes(content)
    seen: list[int] = []

    def kill_once(done: int, total: int) -> None:
        if not any(seen) and done:
            restarting.kill()
            restarting.restart()
        assert total == len(content)
        seen.append(done)

    dataset = restarting.server.client.upload(tmp_path / "noise.tar", "killed", kill_once)
    assert dataset["state"] == "queued"
    assert seen == sorted(seen)
    assert seen[-1] == len(content)
    assert stored(Settings(data=restarting.server.data), dataset["id"]) == content


def test_the_same_upload_by_another_process_goes_on_where_the_first_was_killed(
    restarting: Restarting, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "photos", digit_files(10))
    for number in range(5):
        (folder / f"noise{number}.png").write_bytes(np.random.default_rng(number).bytes(2 * PART))
    client = restarting.server.client
    command = [sys.executable, "-m", "tamis.commands.cli", "upload", str(folder), "--name", "killed"]
    sender = subprocess.Popen([*command, "--server", restarting.server.url])

    def begun() -> Any:
        return [row for row in unfinished(restarting) if row["received"]]

    [upload] = until(begun, 60, "the first bytes")
    sender.kill()
    sender.wait()
    [upload] = unfinished(restarting)
    seen: list[int] = []
    dataset = client.upload(folder, "killed", lambda done, total: seen.append(done))
    assert seen[0] >= upload["received"] > 0
    assert (dataset["id"], dataset["bytes"]) == (upload["dataset"], upload["size"])
    assert [row["name"] for row in client.datasets()] == ["killed"]
    sent = stored(Settings(data=restarting.server.data), dataset["id"])
    assert hashlib.sha256(sent).hexdigest() == upload["sha256"]
    with tarfile.open(fileobj=io.BytesIO(sent)) as archive:
        assert len(archive.getnames()) == 15
    # The same again, once it is finished, is a data set of its own.
    assert client.upload(folder, "killed")["id"] != dataset["id"]


def unfinished(restarting: Restarting) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = httpx.get(f"{restarting.server.url}/api/v1/uploads").json()["items"]
    return rows


def test_a_file_that_changed_while_it_was_sent_is_told_and_not_stored(restarting: Restarting, tmp_path: Path) -> None:
    file = tmp_path / "noise.tar"
    file.write_bytes(archive_of(3 * PART))

    def change(done: int, total: int) -> None:
        if done == PART:
            with file.open("r+b") as changed:
                changed.seek(2 * PART + 5)
                changed.write(b"changed")

    client = restarting.server.client
    with pytest.raises(tamis.ChecksumError, match="SHA-256"):
        client.upload(file, "changed", change)
    assert [row["state"] for row in client.datasets()] == ["empty"]
    assert list((restarting.server.data / "objects" / "uploads").iterdir()) == []


def test_a_data_set_that_got_another_archive_meanwhile_is_told(restarting: Restarting, tmp_path: Path) -> None:
    (tmp_path / "noise.tar").write_bytes(archive_of(3 * PART))

    overtaken: list[int] = []

    def overtake(done: int, total: int) -> None:
        if done == PART and not overtaken:
            overtaken.append(done)
            [upload] = unfinished(restarting)
            address = f"{restarting.server.url}/api/v1/datasets/{upload['dataset']}/archive"
            assert httpx.post(address, content=archive_of(1000)).status_code == 202

    with pytest.raises(tamis.ConflictError, match="Create another data set"):
        restarting.server.client.upload(tmp_path / "noise.tar", "overtaken", overtake)


def test_what_a_server_refuses_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "noise.tar").write_bytes(archive_of(2 * PART))
    limits = {"TAMIS_QUOTA_BYTES": str(PART)}
    with serving(tmp_path / "data", "--no-worker", env=limits) as server:
        started = time.monotonic()
        with pytest.raises(tamis.QuotaError, match="TAMIS_QUOTA_BYTES"):
            server.client.upload(tmp_path / "noise.tar", "too large")
        assert time.monotonic() - started < 5
