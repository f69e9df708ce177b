"""Resumable uploads: the protocol, limits and hostile input, on SQLite with a folder and PostgreSQL with S3."""

import base64
import errno
import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from samples import digit_files, write_tar

from service.app import create_app
from service.backend import Backend
from service.keys import create_key
from tamis.errors import ConflictError
from tamis.settings import Settings
from tamis.store.objects import PART
from tamis.store.schema import Dataset, Upload, new_id

# Starlette would rather have another HTTP client, which nothing else here needs.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")

TUS = {"tus-resumable": "1.0.0"}
BYTES = {**TUS, "content-type": "application/offset+octet-stream"}
DAY = 86_400


@pytest.fixture(scope="module", params=["sqlite and folder", "postgresql and s3"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("uploads")
    if request.param == "sqlite and folder":
        return Settings(data=folder)
    endpoint, bucket = request.getfixturevalue("s3")
    return Settings(
        data=folder,
        database_url=request.getfixturevalue("postgres_database"),
        object_store=f"s3://{bucket}/{folder.name}",
        s3_endpoint=endpoint,
    )


def client_of(settings: Settings, require_key: bool = False, **changes: Any) -> Any:
    from starlette.testclient import TestClient

    app = create_app(settings.model_copy(update=changes), require_key=require_key)
    return TestClient(app, base_url="http://localhost/api/v1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def running(settings: Settings) -> Iterator[Any]:
    with client_of(settings) as client:
        yield client


@pytest.fixture
def client(running: Any) -> Any:
    """A server without data sets, uploads or archives."""
    empty(running)
    return running


def empty(client: Any) -> None:
    backend = backend_of(client)
    with backend.catalog.session() as session:
        session.execute(sa.delete(Dataset))
    for key in kept(client):
        backend.objects.delete(key)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tar(tmp_path_factory.mktemp("archive") / "digits.tar", digit_files(20)).read_bytes()


def backend_of(client: Any) -> Backend:
    backend: Backend = client.app.state.backend
    return backend


def told(**pairs: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())


def new_dataset(client: Any, name: str = "digits") -> str:
    return str(client.post("/datasets", json={"name": name}).json()["id"])


def creation(client: Any, size: int | str, dataset: str | None = None, **headers: str) -> httpx.Response:
    sent = {**TUS, "upload-length": str(size), **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer: httpx.Response = client.post(f"/datasets/{dataset or new_dataset(client)}/uploads", headers=sent)
    return answer


def begun(client: Any, size: int, dataset: str | None = None, **metadata: str) -> str:
    """The address of a new upload."""
    answer = creation(client, size, dataset, **({"upload_metadata": told(**metadata)} if metadata else {}))
    assert answer.status_code == 201, answer.text
    return answer.headers["location"].removeprefix("/api/v1")


def patch(client: Any, address: str, offset: int, body: bytes, **headers: str) -> httpx.Response:
    sent = {**BYTES, "upload-offset": str(offset), **{name.replace("_", "-"): text for name, text in headers.items()}}
    answer: httpx.Response = client.patch(address, content=body, headers=sent)
    return answer


def offset(client: Any, address: str) -> int:
    answer = client.head(address, headers=TUS)
    assert answer.status_code == 204
    return int(answer.headers["upload-offset"])


def assert_problem(answer: httpx.Response, status: int, named: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in answer.json()["detail"]


def kept(client: Any) -> list[str]:
    return backend_of(client).objects.list("uploads/")


def stored(client: Any, dataset: str) -> bytes:
    backend = backend_of(client)
    with backend.catalog.session() as session:
        key = session.get_one(Dataset, dataset).upload_key
    assert key is not None
    return backend.objects.get(key)


def test_the_server_says_what_it_speaks(client: Any) -> None:
    for address in ("/datasets/any/uploads", "/uploads/any"):
        answer = client.options(address)
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == "1.0.0"
        assert answer.headers["tus-extension"] == "creation,checksum,expiration,termination"
        assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"
        assert int(answer.headers["tus-max-size"]) == backend_of(client).settings.max_upload_bytes


def test_an_upload_in_parts_becomes_the_archive_of_its_data_set(client: Any, archive: bytes) -> None:
    dataset = new_dataset(client)
    sha256 = hashlib.sha256(archive).hexdigest()
    address = begun(client, len(archive), dataset, filename="digits.tar", sha256=sha256, mine="ä")
    cuts = [0, 1, 700, 10_000, len(archive)]
    for start, end in itertools.pairwise(cuts):
        answer = client.head(address, headers=TUS)
        assert answer.headers["upload-offset"] == str(start)
        assert answer.headers["upload-length"] == str(len(archive))
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["upload-metadata"] == told(filename="digits.tar", sha256=sha256, mine="ä")
        assert parsedate_to_datetime(answer.headers["upload-expires"]) > datetime.now(UTC) + timedelta(days=6)
        answer = patch(client, address, start, archive[start:end])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))
        assert answer.headers["tus-resumable"] == "1.0.0"
    row = client.get(f"/datasets/{dataset}").json()
    assert (row["state"], row["bytes"]) == ("queued", len(archive))
    assert stored(client, dataset) == archive
    # No part of it is left beside it.
    assert len(kept(client)) == 1
    # For a client that lost the last answer: nothing more is wanted, and nothing can be taken back.
    assert offset(client, address) == len(archive)
    assert patch(client, address, len(archive), b"").status_code == 204
    assert_problem(client.delete(address, headers=TUS), 409, dataset)
    assert_problem(creation(client, 5, dataset), 409, "Create another data set")


def test_a_body_of_many_parts_is_stored_whole(client: Any) -> None:
    content = bytes(PART - 3) + digit_files(1)[0][1] + bytes(PART)
    address = begun(client, 4 * PART)
    assert patch(client, address, 0, content).status_code == 204
    assert offset(client, address) == len(content)
    assert patch(client, address, len(content), content[: PART + 1]).status_code == 204
    backend = backend_of(client)
    if backend.objects.local_path("x") is None:
        # Each part is an object, none larger than what a request holds in memory.
        assert max(backend.objects.head(key).size for key in kept(client)) == PART
    else:
        path = backend.objects.local_path(kept(client)[0])
        assert path is not None
        assert path.read_bytes() == content + content[: PART + 1]


def test_another_version_of_the_protocol_is_refused(client: Any) -> None:
    address = begun(client, 10)
    for headers in ({}, {"tus-resumable": "0.2.2"}):
        for answer in (
            client.post(f"/datasets/{new_dataset(client)}/uploads", headers={**headers, "upload-length": "5"}),
            client.patch(address, content=b"x", headers={**BYTES, "tus-resumable": "", **headers}),
            client.head(address, headers=headers),
            client.delete(address, headers=headers),
        ):
            assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")
    assert offset(client, address) == 0


def test_an_offset_that_is_not_the_uploads_is_refused(client: Any) -> None:
    address = begun(client, 10)
    assert patch(client, address, 0, b"abc").status_code == 204
    for wrong in (0, 2, 4, 10, 10**30):
        assert_problem(patch(client, address, wrong, b"xyz"), 409, "3 bytes")
    for malformed in ("", "-1", "+3", "3.0", "0x3", "three", "9" * 5000):
        answer = client.patch(address, content=b"xyz", headers={**BYTES, "upload-offset": malformed})
        assert_problem(answer, 400, "Upload-Offset")
    assert_problem(client.patch(address, content=b"xyz", headers={**TUS, "upload-offset": "3"}), 415, "octet-stream")
    assert offset(client, address) == 3


def test_what_does_not_exist_is_not_found(client: Any) -> None:
    assert client.head("/uploads/%00", headers=TUS).status_code in {404, 422}
    for address in ("/uploads/up_nonesuch", "/uploads/..%2f"):
        assert client.head(address, headers=TUS).status_code == 404
        assert_problem(patch(client, address, 0, b"x"), 404)
        assert_problem(client.delete(address, headers=TUS), 404)
    assert_problem(creation(client, 5, "ds_nonesuch"), 404)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_body_that_is_not_what_its_checksum_says_changes_nothing(client: Any, algorithm: str) -> None:
    address = begun(client, 10)
    digest = base64.b64encode(hashlib.new(algorithm, b"abc").digest()).decode()
    answer = patch(client, address, 0, b"abd", upload_checksum=f"{algorithm} {digest}")
    assert_problem(answer, 460, "Upload-Checksum")
    assert answer.json()["title"] == "Checksum Mismatch"
    assert offset(client, address) == 0
    assert patch(client, address, 0, b"abc", upload_checksum=f"{algorithm} {digest}").status_code == 204
    for malformed in ("md5 AAAA", "sha1", f"{algorithm} not base 64", digest):
        refused = patch(client, address, 3, b"abc", upload_checksum=malformed)
        assert refused.status_code in {400, 460}
    large = patch(client, begun(client, 2 * PART), 0, bytes(PART + 1), upload_checksum=f"{algorithm} {digest}")
    assert_problem(large, 413, str(PART))
    assert offset(client, address) == 3


def test_an_archive_that_is_not_what_its_sha256_says_is_discarded(client: Any, archive: bytes) -> None:
    dataset = new_dataset(client)
    address = begun(client, len(archive), dataset, sha256=hashlib.sha256(b"other").hexdigest())
    patch(client, address, 0, archive[:5000])
    assert_problem(patch(client, address, 5000, archive[5000:]), 460, "upload it again")
    assert client.head(address, headers=TUS).status_code == 404
    assert kept(client) == []
    assert client.get(f"/datasets/{dataset}").json()["state"] == "empty"


def test_what_is_no_archive_is_refused_at_its_end_and_another_taken(client: Any, archive: bytes) -> None:
    dataset = new_dataset(client)
    assert_problem(patch(client, begun(client, 5, dataset), 0, b"hello"), 422, "zip")
    assert kept(client) == []
    assert patch(client, begun(client, len(archive), dataset), 0, archive).status_code == 204
    assert client.get(f"/datasets/{dataset}").json()["state"] == "queued"


def test_a_body_beyond_the_length_is_refused(client: Any) -> None:
    address = begun(client, 10)
    assert_problem(patch(client, address, 0, b"x" * 11), 413, "10 bytes")
    assert offset(client, address) == 0
    assert patch(client, address, 0, b"x" * 9).status_code == 204
    assert_problem(patch(client, address, 9, b"xx"), 413)
    assert offset(client, address) == 9


@pytest.mark.parametrize(
    ("length", "status", "named"),
    [
        ("", 400, "Upload-Length"),
        ("-1", 400, "Upload-Length"),
        ("1e9", 400, "Upload-Length"),
        ("9" * 5000, 400, "Upload-Length"),
        ("0", 422, "empty"),
        (str(10**30), 413, "TAMIS_MAX_UPLOAD_BYTES"),
        (str(2**63), 413, "TAMIS_MAX_UPLOAD_BYTES"),
    ],
)
def test_a_length_that_cannot_be_taken_is_refused(client: Any, length: str, status: int, named: str) -> None:
    assert_problem(creation(client, length), status, named)
    assert kept(client) == []


@pytest.mark.parametrize(
    "metadata",
    [
        "filename not-base-64!",
        "filename /w==",  # no UTF-8
        "filename YQ==,filename Yg==",
        f"filename {base64.b64encode(b'a' + bytes(1)).decode()}",
        ", ,",
        "sha256 YWJj",
        "filename " + "YWFh" * 2000,
        "%00 \xff",
    ],
)
def test_metadata_that_cannot_be_read_is_refused(client: Any, metadata: str) -> None:
    headers = {**TUS, "upload-length": "5", "upload-metadata": metadata.encode("latin-1")}
    assert_problem(client.post(f"/datasets/{new_dataset(client)}/uploads", headers=headers), 400, "etadata")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.zip", "a.zip"),
        ("/", "archive"),
        ("..", ".."),
        ("x" * 400, "x" * 255),
        ("\u202egnp.tar", "\u202egnp.tar"),
    ],
)
def test_a_file_name_is_a_name_and_leads_nowhere(client: Any, archive: bytes, given: str, name: str) -> None:
    dataset = new_dataset(client)
    address = begun(client, len(archive), dataset, filename=given)
    assert client.get("/uploads").json()["items"][0]["name"] == name
    assert patch(client, address, 0, archive).status_code == 204
    [key] = kept(client)
    assert key.startswith(address.removeprefix("/"))


def test_requests_at_the_same_place_at_once_are_recorded_once(client: Any) -> None:
    address = begun(client, 5 * PART)
    bodies = [bytes([place]) * (PART + place) for place in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: patch(client, address, 0, body), bodies))
    assert {answer.status_code for answer in answers} <= {204, 409, 423}
    ended = offset(client, address)
    content = bytearray()
    backend = backend_of(client)
    path = backend.objects.local_path(address.removeprefix("/"))
    if path is not None:
        content += path.read_bytes()[:ended]
    else:
        with backend.catalog.session() as session:
            keys = session.scalars(sa.text("SELECT key FROM upload_parts ORDER BY start")).all()
        content += b"".join(backend.objects.get(key) for key in keys)
        assert sorted(kept(client)) == sorted(keys)
    # Each recorded part is one request's alone. The rest of the winner's body is refused where another
    # holds the upload just then: it goes on at the offset.
    assert len(content) == ended
    assert ended >= PART
    assert len(set(content[:PART])) == 1
    assert len(set(content[PART:])) <= 1


def test_parts_may_go_to_different_servers(client: Any, settings: Settings, archive: bytes) -> None:
    elsewhere = settings if settings.object_store == "" else settings.model_copy(update={"data": settings.data / "b"})
    dataset = new_dataset(client)
    address = begun(client, len(archive), dataset, sha256=hashlib.sha256(archive).hexdigest())
    with client_of(elsewhere) as other:
        for place, start in enumerate(range(0, len(archive), 5000)):
            server = (client, other)[place % 2]
            assert offset(server, address) == start
            assert patch(server, address, start, archive[start : start + 5000]).status_code == 204
        assert offset(other, address) == len(archive)
    assert stored(client, dataset) == archive


def test_last_bytes_that_another_request_overtook_are_a_conflict_and_no_damage(client: Any) -> None:
    uploads, content = backend_of(client).uploads, b"0123456789"
    upload = begun(client, len(content), sha256=hashlib.sha256(content).hexdigest()).rsplit("/", 1)[1]
    uploads.add(upload, 0, content[:4])
    # Of a connection that was cut, while its sender went on at 4.
    uploads.add(upload, 4, content[4:6])
    with pytest.raises(ConflictError), uploads.completed(upload, 4, content[4:]):
        pass
    with uploads.completed(upload, 6, content[6:]) as (key, _):
        assert backend_of(client).objects.get(key) == content
    uploads.remove(upload)


def test_a_second_finish_at_once_makes_no_second_job(client: Any, archive: bytes) -> None:
    dataset = new_dataset(client)
    address = begun(client, len(archive), dataset, sha256=hashlib.sha256(archive).hexdigest())
    patch(client, address, 0, archive[:100])
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: patch(client, address, 100, archive[100:]).status_code, range(6)))
    assert answers.count(204) == 1
    assert set(answers) <= {204, 409, 423}
    assert stored(client, dataset) == archive
    assert len(kept(client)) == 1


def test_unfinished_uploads_are_listed_and_ended(client: Any) -> None:
    dataset = new_dataset(client, "one")
    first, second = begun(client, 10, dataset, filename="a.tar"), begun(client, 20)
    patch(client, first, 0, b"abc")
    [row] = client.get("/uploads", params={"dataset": dataset}).json()["items"]
    assert (row["dataset"], row["dataset_name"], row["name"], row["size"], row["received"]) == (
        *(dataset, "one", "a.tar"),
        *(10, 3),
    )
    assert row["metadata"] == {"filename": "a.tar"}
    assert len(client.get("/uploads").json()["items"]) == 2
    assert client.delete(first, headers=TUS).status_code == 204
    assert client.head(first, headers=TUS).status_code == 404
    assert_problem(patch(client, first, 3, b"x"), 404)
    assert [item["id"] for item in client.get("/uploads").json()["items"]] == [second.removeprefix("/uploads/")]
    assert all(key.startswith(second.removeprefix("/")) for key in kept(client))


def test_a_deleted_data_set_takes_its_uploads_with_it(client: Any) -> None:
    dataset = new_dataset(client)
    addresses = [begun(client, 10, dataset) for _ in range(2)]
    for address in addresses:
        patch(client, address, 0, b"abc")
    assert len(kept(client)) == 2
    assert client.delete(f"/datasets/{dataset}").status_code == 204
    assert [client.head(address, headers=TUS).status_code for address in addresses] == [404, 404]
    assert kept(client) == []


def test_a_repeated_creation_gives_the_same_upload(client: Any) -> None:
    dataset = new_dataset(client)
    first = creation(client, 10, dataset, idempotency_key="k")
    again = creation(client, 10, dataset, idempotency_key="k")
    assert first.headers["location"] == again.headers["location"]
    assert_problem(creation(client, 11, dataset, idempotency_key="k"), 409, "idempotency key")
    assert creation(client, 10, dataset).headers["location"] != first.headers["location"]


def test_methods_a_client_cannot_send_are_taken_from_a_header(client: Any) -> None:
    address = begun(client, 10)
    sent = {**BYTES, "upload-offset": "0", "x-http-method-override": "PATCH"}
    assert client.post(address, content=b"abc", headers=sent).headers["upload-offset"] == "3"
    assert_problem(client.post(address, headers={**TUS, "x-http-method-override": "PUT"}), 405)
    assert client.post(address, headers={**TUS, "x-http-method-override": "DELETE"}).status_code == 204
    assert client.head(address, headers=TUS).status_code == 404


def test_a_key_is_needed_where_keys_are(settings: Settings) -> None:
    with client_of(settings, require_key=True) as client:
        _, key = create_key(backend_of(client).catalog, "uploads")
        for method, address in (("POST", "/datasets/x/uploads"), ("PATCH", "/uploads/x"), ("HEAD", "/uploads/x")):
            assert client.request(method, address, headers=TUS).status_code == 401
        client.headers["authorization"] = f"Bearer {key}"
        address = begun(client, 10)
        assert patch(client, address, 0, b"abc").status_code == 204
        refused = patch(client, address, 3, b"abc", origin="https://evil.example")
        assert_problem(refused, 400)


def test_an_upload_left_for_too_long_is_gone_and_its_bytes_with_it(settings: Settings, archive: bytes) -> None:
    with client_of(settings, upload_seconds=1.0) as client:
        empty(client)
        dataset = new_dataset(client)
        left, finished = begun(client, 10), begun(client, len(archive), dataset)
        patch(client, left, 0, b"abc")
        assert patch(client, finished, 0, archive).status_code == 204
        time.sleep(1.05)
        assert client.head(left, headers=TUS).status_code in {404, 410}
        assert client.get("/uploads").json()["items"] == []
        backend_of(client).uploads.sweep()
        assert client.head(left, headers=TUS).status_code == 404
        assert_problem(patch(client, left, 3, b"x"), 404)
        # What a data set has taken over stays.
        assert client.head(finished, headers=TUS).status_code == 404
        assert stored(client, dataset) == archive
        assert len(kept(client)) == 1


def test_an_expired_upload_is_told_apart_until_it_is_removed(client: Any) -> None:
    address = begun(client, 10)
    with backend_of(client).catalog.session() as session:
        session.execute(sa.update(Upload).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert client.head(address, headers=TUS).status_code == 410
    assert_problem(patch(client, address, 0, b"x"), 410, "Begin a new one")


def test_objects_that_a_killed_process_left_are_removed_a_day_later(
    client: Any, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(client)
    address, dataset = begun(client, 10), new_dataset(client)
    patch(client, address, 0, b"abc")
    assert client.post(f"/datasets/{dataset}/archive", content=archive).status_code == 202
    expected = kept(client)
    fresh = f"uploads/{new_id('up')}"
    with monkeypatch.context() as earlier:
        earlier.setattr(time, "time", lambda: datetime.now(UTC).timestamp() - 2 * DAY)
        stray = [f"uploads/{new_id('up')}", f"uploads/{new_id('up')}/{new_id('up')}", "uploads/odd"]
    for key in (fresh, *stray):
        backend.objects.put(key, b"left")
    assert backend.uploads.sweep() == 3
    assert kept(client) == sorted([*expected, fresh])


def test_the_quota_holds_for_data_sets_and_unfinished_uploads_together(settings: Settings, archive: bytes) -> None:
    size = len(archive)
    with client_of(settings, quota_bytes=3 * size) as client:
        empty(client)
        first = new_dataset(client)
        assert client.post(f"/datasets/{first}/archive", content=archive).status_code == 202
        second = new_dataset(client)
        claimed = begun(client, 2 * size, second)
        assert_problem(creation(client, 1), 507, "TAMIS_QUOTA_BYTES")
        other = new_dataset(client)
        assert_problem(client.post(f"/datasets/{other}/archive", content=archive), 507, "Delete data sets")
        assert len(kept(client)) == (2 if backend_of(client).objects.local_path("x") else 1)
        assert client.delete(claimed, headers=TUS).status_code == 204
        # A body of unknown length is refused once it is known.
        small = begun(client, size + 1)
        assert_problem(client.post(f"/datasets/{other}/archive", content=iter([archive])), 507)
        client.delete(small, headers=TUS)
        assert patch(client, begun(client, size, second), 0, archive).status_code == 204
        assert client.post(f"/datasets/{other}/archive", content=archive).status_code == 202
        assert_problem(creation(client, 1), 507)
        client.delete(f"/datasets/{first}")
        begun(client, size)


def test_a_full_disk_is_told_and_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with client_of(Settings(data=tmp_path)) as client:
        address = begun(client, 10)
        with monkeypatch.context() as disk:
            disk.setattr(os, "write", full)
            assert_problem(patch(client, address, 0, b"abc"), 507, "disk is full")
        assert offset(client, address) == 0
        assert patch(client, address, 0, b"abc").status_code == 204


def test_room_is_claimed_by_one_of_those_who_ask_at_once(settings: Settings) -> None:
    with client_of(settings, quota_bytes=100) as client:
        empty(client)
        datasets = [new_dataset(client) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda dataset: creation(client, 60, dataset).status_code, datasets))
        assert sorted(answers) == [201] + [507] * 7


def test_metrics_tell_what_is_stored_and_on_its_way(client: Any, archive: bytes) -> None:
    assert client.post(f"/datasets/{new_dataset(client)}/archive", content=archive).status_code == 202
    begun(client, 1234)
    text = client.get("http://localhost/metrics").text
    assert f"tamis_stored_bytes {float(len(archive))}" in text
    assert "tamis_upload_bytes 1234.0" in text
    assert "tamis_uploads 1.0" in text
