"""A folder as a tar stream: the same files give the same bytes, from any place on; and what a refusal of it is."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import idx_images, idx_labels, labels_of, png, refused, tar_bytes, upload
from samples import write_folder

import tamis
from tamis import InputError
from tamis.client.packing import pack
from tamis.errors import ConflictError
from tamis.sources import open_source

FILES = (("a/1.png", b"x" * 700), ("a/2.png", b""), ("b/" + "long" * 40 + ".png", b"y" * 512), ("b/é.png", b"z"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("packing") / "photos", FILES)


def test_the_stream_is_a_tar_of_the_files_and_of_the_size_told(folder: Path) -> None:
    packed = pack(folder)
    content = b"".join(packed.chunks())
    assert len(content) == packed.size
    assert packed.sha256() == hashlib.sha256(content).hexdigest() == pack(folder).sha256()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    assert found == dict(FILES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(start=st.integers(0, 7000))
def test_the_stream_goes_on_from_any_place(folder: Path, start: int) -> None:
    for source in (folder, folder / "a" / "1.png"):
        packed = pack(source)
        assert b"".join(packed.chunks(start)) == b"".join(packed.chunks())[start:]


def test_a_file_that_became_shorter_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x" * 100)
    packed = pack(tmp_path)
    (tmp_path / "1.png").write_bytes(b"x" * 99)
    with pytest.raises(InputError, match="became shorter"):
        list(packed.chunks())


class _Refusing(BaseHTTPRequestHandler):
    """A server that makes a data set and takes no archive."""

    def do_GET(self) -> None:
        self._answer(200, {"id": "ds_1", "state": "empty"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        refused = self.path.partition("?")[0].endswith("/archive")
        self._answer(409 if refused else 201, {"detail": "the database refused"} if refused else {"id": "ds_1"})

    def _answer(self, status: int, body: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_a_refused_upload_is_no_lost_answer(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with (
            tamis.Client(f"http://127.0.0.1:{server.server_port}") as client,
            pytest.raises(ConflictError, match="refused"),
        ):
            client.upload(tmp_path, "refused")
        server.shutdown()


def test_a_link_out_of_the_folder_is_sent_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "private").write_bytes(b"secret")
    photos = write_folder(tmp_path / "photos", (("1.png", b"x"),))
    (photos / "inside.png").symlink_to("1.png")
    assert [path.name for path, _ in pack(photos).members] == ["1.png", "inside.png"]
    (photos / "2.png").symlink_to(tmp_path / "private")
    with pytest.raises(InputError, match=r"2\.png is a link to .*private.*--follow-links"):
        pack(photos)
    assert b"secret" in b"".join(pack(photos, follow_links=True).chunks())


def test_what_is_not_sent_is_told_by_the_server_as_it_is_here(tmp_path: Path) -> None:
    photos = write_folder(tmp_path / "photos", (("a/1.png", png(1)), ("b.png", png(2))))
    (photos / "a/dead.png").symlink_to("nowhere.png")
    (photos / "a/loop.png").symlink_to("loop.png")
    (photos / "again").symlink_to("a")
    os.mkfifo(photos / "a/pipe.png")
    (photos / "piped.png").symlink_to("a/pipe.png")
    write_folder(tmp_path / "far", (("deep/3.png", png(3)),))
    (tmp_path / "far/deep/around").symlink_to(tmp_path / "far/deep")
    (photos / "far").symlink_to(tmp_path / "far")
    packed = pack(photos, follow_links=True)
    content = b"".join(packed.chunks())
    assert len(content) == packed.size
    assert b"".join(packed.chunks(2000)) == content[2000:]
    here, there = open_source(photos), upload(content)
    assert labels_of(there) == labels_of(here) == {"a/1.png": "a", "b.png": None, "far/deep/3.png": "far"}
    told = {
        "a/dead.png": "a link that leads nowhere",
        "a/loop.png": "a link that leads nowhere",
        "a/pipe.png": "a device, pipe or socket, not a file",
        "again": "a link to a folder; its files are read where they are",
        "far/deep/around": "a link to a folder around this one",
        "piped.png": "a device, pipe or socket, not a file",
    }
    assert list(refused(there).items()) == list(refused(here).items()) == list(told.items())


def test_a_reason_in_an_archive_of_others_is_short_and_fit_to_be_shown() -> None:
    member = tarfile.TarInfo("1.png")
    member.pax_headers = {"TAMIS.refused": "\u202e" + "x" * 1000}
    source = upload(tar_bytes([(member, png()), ("2.png", png())]))
    assert set(labels_of(source)) == {"2.png"}
    assert refused(source) == {"1.png": ("\\u202e" + "x" * 1000)[:200]}


def test_a_folder_of_nothing_that_can_be_sent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dead.png").symlink_to("nowhere.png")
    with pytest.raises(InputError, match=r"no files that can be sent; the first, dead\.png: a link that leads nowhere"):
        pack(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no file or folder"):
        pack(tmp_path / "pipe")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_of_many_images_is_sent_with_the_labels_beside_it(tmp_path: Path, suffix: str) -> None:
    pack_up = gzip.compress if suffix else bytes
    images, labels = tmp_path / f"t-images-idx3-ubyte{suffix}", tmp_path / f"t-labels-idx1-ubyte{suffix}"
    images.write_bytes(pack_up(idx_images(2)))
    (tmp_path / "other.png").write_bytes(png())
    alone = pack(images)
    assert (alone.name, b"".join(alone.chunks())) == (images.name, images.read_bytes())
    labels.write_bytes(pack_up(idx_labels([4, 5])))
    source = upload(b"".join(pack(images).chunks()))
    assert labels_of(source) == labels_of(open_source(images))
    assert list(labels_of(source).values()) == ["4", "5"]
    assert refused(source) == {}
