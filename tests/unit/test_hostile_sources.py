"""Archives and images made to do harm: each has a defined outcome, and none fills memory, time or a place outside."""

import gzip
import io
import os
import re
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import (
    TREE,
    Files,
    kept,
    labels_of,
    parquet_bytes,
    png,
    refused,
    tar_bytes,
    tar_gz_bytes,
    upload,
    write,
    zip_bytes,
)
from PIL import Image

from tamis.errors import InputError
from tamis.ingest.shards import ingest
from tamis.sources import open_source

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
DOCTYPE = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>'


def huge_png(side: int) -> bytes:
    """A PNG of side x side pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes((side // 8 + 1) * 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    sink = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(sink, "JPEG")
    return sink.getvalue()


def test_images_made_to_do_harm_are_quarantined_with_the_reason(tmp_path: Path) -> None:
    files = {
        "1.png": png(),
        "huge.png": huge_png(30_000),
        "cut.jpg": jpeg()[:-200],
        "page.svg": SVG,
        "entity.svg": DOCTYPE,
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch ran) (w) file\n",
        "nothing.png": b"",
    }
    tracemalloc.start()
    result = ingest(open_source(write(tmp_path, files)), lambda key, content: None)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.index["sample_id"].to_pylist() == ["1.png"]
    reasons = {row["name"]: row["reason"] for row in result.quarantine.to_pylist()}
    assert "pixels" in reasons["huge.png"]
    assert "truncated" in reasons["cut.jpg"]
    assert reasons["nothing.png"] == "the file is empty"
    assert all("known format" in reasons[name] for name in ("page.svg", "entity.svg", "script.png"))
    assert most < 50 * 2**20
    assert {path.name for path in tmp_path.iterdir()} == set(files)


@pytest.mark.parametrize("pack", [zip_bytes, tar_bytes, tar_gz_bytes])
def test_names_that_differ_in_case_are_two_samples(pack: Callable[[Files], bytes]) -> None:
    assert list(kept(upload(pack({"A.png": png(1), "a.png": png(2), "a.PNG": png(3)})))) == ["A.png", "a.png", "a.PNG"]


@pytest.mark.parametrize("pack", [zip_bytes, tar_bytes])
def test_tens_of_thousands_of_empty_files_are_quick(pack: Callable[[Files], bytes]) -> None:
    content = pack({f"{number}.png": b"" for number in range(40_000)})
    start = time.process_time()
    source = upload(content)
    assert len(list(source)) == source.total == 40_000
    assert time.process_time() - start < 8


def test_a_zip_whose_members_are_bombs_together_is_an_error() -> None:
    content = zip_bytes({f"{number}.png": bytes(2**24) for number in range(3)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="expand more than 200 times"):
        upload(content)


def test_a_zip_that_lies_about_the_size_of_a_member_is_refused_there() -> None:
    content = bytearray(zip_bytes({"1.png": bytes(10**6), "2.png": png()}, zipfile.ZIP_DEFLATED))
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 10)
    source = upload(bytes(content))
    assert set(kept(source)) == {"2.png"}
    assert "damaged" in refused(source)["1.png"]


@pytest.mark.parametrize(
    "content",
    [
        tar_bytes({"1.png": png(), "x.bin": bytes(2**26)}),
        struct.pack(">4sIII", b"\0\0\x08\x03", 2**16, 28, 28) + bytes(2**16 * 28 * 28),
    ],
    ids=["tar", "idx"],
)
def test_a_gzip_bomb_is_an_error_before_it_has_expanded(content: bytes) -> None:
    bomb = gzip.compress(content)
    tracemalloc.start()
    with pytest.raises(InputError, match="expand more than 200 times"):
        list(upload(bomb))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 80 * 2**20


def test_a_gzip_bomb_inside_an_archive_is_refused_alone() -> None:
    images = struct.pack(">4sIII", b"\0\0\x08\x03", 2**16, 28, 28) + bytes(2**16 * 28 * 28)
    source = upload(zip_bytes({"t-images-idx3-ubyte.gz": gzip.compress(images), "1.png": png()}))
    assert "1.png" in kept(source)
    assert "expand more than 200 times" in refused(source)["t-images-idx3-ubyte.gz"]


def test_zip64_is_read() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive, archive.open("a/1.png", "w", force_zip64=True) as member:
        member.write(png(1))
    assert labels_of(upload(sink.getvalue())) == {"a/1.png": "a"}


def test_zip64_that_claims_the_impossible_is_refused() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("1.png", png(1))
        archive.writestr("2.png", png(2))
    content = bytearray(sink.getvalue())
    entry = content.index(b"PK\x01\x02")
    extra = struct.pack("<HHQQ", 1, 16, 2**62, 2**62)
    content[entry + 20 : entry + 28] = b"\xff" * 8
    content[entry + 30 : entry + 32] = struct.pack("<H", len(extra))
    content[entry + 46 + 5 : entry + 46 + 5] = extra
    end = content.index(b"PK\x05\x06")
    (size,) = struct.unpack("<I", content[end + 12 : end + 16])
    content[end + 12 : end + 16] = struct.pack("<I", size + len(extra))
    with pytest.raises(InputError, match=r"overlap|expand"):
        upload(bytes(content))


def test_a_zip_with_a_damaged_directory_is_an_error_wherever_it_is_damaged() -> None:
    content = zip_bytes(TREE)
    entry, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    for place in range(entry, end, 7):
        damaged = bytearray(content)
        damaged[place : place + 4] = b"\xff\xff\xff\xff"
        outcome = None
        try:
            list(upload(bytes(damaged)))
        except InputError as error:
            outcome = error.message
        assert outcome is None or re.search("damaged zip|members overlap|would expand", outcome)


def tar_header(name: str, size: bytes) -> bytes:
    """A member whose size field is as given."""
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "size",
    [
        b"\xff" * 12,
        b"\xff" * 11 + b"\x00",
        b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7,
        b"77777777777\0",
        b"-0000000001\0",
    ],
)
def test_a_tar_member_of_impossible_size_is_an_error(size: bytes) -> None:
    content = tar_bytes({"1.png": png()}).rstrip(b"\0")
    content += bytes(-len(content) % 512) + tar_header("2.png", size) + bytes(1024)
    for archive in (content, gzip.compress(content)):
        start = time.perf_counter()
        with pytest.raises(InputError, match="damaged"):
            list(upload(archive))
        assert time.perf_counter() - start < 5


def test_sparse_members_of_a_tar_are_refused() -> None:
    old = tarfile.TarInfo("old.png")
    old.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(old.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000000000\0"
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    new = tarfile.TarInfo("new.png")
    new.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**50)}
    numbers = b"1\n0\n1\n"
    source = upload(bytes(header) + tar_bytes([("1.png", png()), (new, numbers + bytes(512 - len(numbers)) + b"x")]))
    assert set(kept(source)) == {"1.png"}
    assert all("sparse" in reason for reason in refused(source).values())
    assert set(refused(source)) == {"old.png", "new.png"}


def test_headers_without_end_before_one_tar_member_fill_no_memory() -> None:
    headers = []
    for number in range(300):
        info = tarfile.TarInfo("1.png")
        info.pax_headers = {f"GNU.sparse.{number}.{key}": "x" * 900 for key in range(50)} | {"path": "x" * 9000}
        headers.append(info.tobuf(tarfile.PAX_FORMAT)[:-512])
    content = b"".join(headers) + tar_bytes({"1.png": png()})
    tracemalloc.start()
    assert [len(name) for name in refused(upload(content))] == [9000]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * 2**20


def test_nothing_is_written_by_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that would lead out of a folder, links and devices, read from a folder that stays as it was."""
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    link, hard = tarfile.TarInfo("link"), tarfile.TarInfo("hard")
    link.type, link.linkname = tarfile.SYMTYPE, ".."
    hard.type, hard.linkname = tarfile.LNKTYPE, "../../etc/passwd"
    device = tarfile.TarInfo("device.png")
    device.type, device.devmajor, device.devminor = tarfile.BLKTYPE, 8, 0
    names = ["../up.png", "/abs.png", "link/through.png"]
    archive = tar_bytes(
        [(link, b""), (hard, b""), (device, b""), *((name, png()) for name in names), ("1.png", png(1))]
    )
    result = ingest(upload(archive), lambda key, content: None)
    assert result.index["sample_id"].to_pylist() == ["link/through.png", "1.png"]
    assert set(result.quarantine["name"].to_pylist()) == {"link", "hard", "device.png", "../up.png", "/abs.png"}
    assert [path.name for path in tmp_path.rglob("*")] == ["inside"]


def test_deep_folders_and_long_names_are_read_or_refused(tmp_path: Path) -> None:
    deep = "/".join(["d" * 50] * 30)
    names = list(kept(upload(tar_bytes({f"{deep}/1.png": png(), "x" * 10_000 + ".png": png()}))))
    assert names == [f"{deep}/1.png", "x" * 10_000 + ".png"]


def test_parquet_metadata_that_is_no_json_does_no_harm() -> None:
    for text in ("[", "[" * 100_000, '{"info": 3}', '{"info": {"features": {"image": 3, "label": {"names": 5}}}}'):
        table = pa.table({"image": [png(1)], "label": [1]}).replace_schema_metadata({"huggingface": text})
        sink = io.BytesIO()
        pq.write_table(table, sink)
        assert list(labels_of(upload(sink.getvalue())).values()) == ["1"]


def test_a_disk_that_fails_is_no_fault_of_the_archive() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 1000:
                raise OSError(5, os.strerror(5))
            return super().read(size)

    for content in (tar_bytes({"1.png": os.urandom(20_000)}), parquet_bytes({"image": [os.urandom(20_000)]})):
        with pytest.raises(OSError, match="Input/output"):
            list(open_source(Failing(content)))
