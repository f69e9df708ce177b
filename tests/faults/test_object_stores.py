"""A bucket that is slow, answers 500, or cuts answers short: jobs wait, nothing is left out, the bytes are the same."""

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from harness import Server, serving, until, working
from samples import digit_files, write_tar

SLOW_SECONDS = 0.3
OUTAGE_SECONDS = 6.0
RECIPE = {"encoder": "simclr", "steps": 6, "classes": 10, "seed": 0}


class Bucket(ThreadingHTTPServer):
    """Passes requests on to a real S3 server, and behaves as it is told: well, slow, refusing or cutting."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind, self.manner, self.bad = urlsplit(behind).netloc, "well", 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class Passing(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        manner = self.server.manner
        if manner == "slow":
            time.sleep(SLOW_SECONDS)
        elif manner == "refusing":
            self.server.bad += 1
            self.send_response(500)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        line = http.client.HTTPConnection(self.server.behind)
        line.request(self.command, self.path, body, dict(self.headers))
        answer = line.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("content-length") if self.command == "HEAD" else str(len(content))
        self.send_header("content-length", length or "0")
        self.end_headers()
        if manner == "cutting" and self.command == "GET":
            self.server.bad += 1
            content = content[: len(content) // 2]
            self.close_connection = True
        self.wfile.write(content)
        line.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815  as http.server calls them


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tar(tmp_path_factory.mktemp("archive") / "few.tar", digit_files(60))


@pytest.fixture
def bucket(s3: tuple[str, str]) -> Iterator[Bucket]:
    running = Bucket(s3[0])
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def in_bucket(bucket: Bucket, s3: tuple[str, str], folder: Path) -> dict[str, str]:
    return {
        "TAMIS_LEASE_SECONDS": "2",
        "TAMIS_OBJECT_STORE": f"s3://{s3[1]}/{folder.parent.name}-{folder.name}",
        "TAMIS_S3_ENDPOINT": bucket.url,
    }


def manifest_of(server: Server, curation: str, folder: Path) -> dict[str, bytes]:
    server.client.wait(f"/curations/{curation}", timeout=120)
    server.client.manifest(curation, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def expected(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("quiet")
    with serving(folder / "data") as server:
        dataset = server.client.upload(archive, "few")["id"]
        server.client.wait(f"/datasets/{dataset}", timeout=60)
        return manifest_of(server, server.client.curate(dataset, **RECIPE)["id"], folder / "manifest")


@pytest.mark.slow
@pytest.mark.parametrize("manner", ["slow", "refusing", "cutting"])
def test_a_bucket_that_misbehaves_ends_no_job_and_changes_no_byte(
    manner: str, archive: Path, bucket: Bucket, s3: tuple[str, str], expected: dict[str, bytes], tmp_path: Path
) -> None:
    data, env = tmp_path / "data", in_bucket(bucket, s3, tmp_path)
    with serving(data, "--no-worker", env=env) as server:
        client = server.client
        dataset = client.upload(archive, "few")["id"]

        def until_over(path: str) -> None:
            """Once in the ingest, once in the curation: the job waits and says so, or goes on."""
            bucket.manner, bucket.bad = manner, 0
            if manner == "slow":
                return
            words = "waiting for the object store ("
            until(lambda: client._get(path)["progress"]["message"].startswith(words), 60, f"{path} to wait")
            time.sleep(OUTAGE_SECONDS)
            assert client._get(path)["state"] == "running"
            assert bucket.bad
            bucket.manner = "well"

        bucket.manner = manner
        with working(data, "only", env=env) as worker:
            until_over(f"/datasets/{dataset}")
            found = client.wait(f"/datasets/{dataset}", timeout=120)
            assert (found["samples"], found["quarantined"]) == (60, 0)
            bucket.manner = manner
            curation = client.curate(dataset, **RECIPE)["id"]
            until_over(f"/curations/{curation}")
            client.wait(f"/curations/{curation}", timeout=180)
            bucket.manner = "well"
            assert manifest_of(server, curation, tmp_path / "found") == expected
            assert worker.poll() is None


def test_a_request_says_that_the_bucket_does_not_answer(bucket: Bucket, s3: tuple[str, str], tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--no-worker", env=in_bucket(bucket, s3, tmp_path)) as server:
        dataset = server.client._create("/datasets", {"name": "few"})["id"]
        bucket.manner = "refusing"
        began = time.monotonic()
        address = f"{server.url}/api/v1/datasets/{dataset}/archive"
        answer = httpx.post(address, content=b"x" * 1000, timeout=60)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:tamis:problem:unavailable")
        assert "The object store does not answer" in answer.json()["detail"]
        assert time.monotonic() - began < 20
        bucket.manner = "well"
        assert httpx.get(f"{server.url}/api/v1/datasets/{dataset}").json()["state"] == "empty"
