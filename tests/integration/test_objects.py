"""The object store's promises, on a folder and on a real S3 server."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tamis import InputError, LimitError, NotFoundError, SettingsError
from tamis.settings import Settings
from tamis.store.objects import PART, Objects, open_objects

T = TypeVar("T")


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return open_objects(Settings(data=tmp_path))
    endpoint, bucket = request.getfixturevalue("s3")
    return open_objects(Settings(data=tmp_path, object_store=f"s3://{bucket}/{tmp_path.name}", s3_endpoint=endpoint))


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Its result, from a thread: the browser tests leave an event loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def test_the_secret_key_may_be_in_the_settings(
    s3: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    endpoint, bucket = s3
    settings = Settings(data=tmp_path, object_store=f"s3://{bucket}", s3_endpoint=endpoint, s3_secret="test")
    open_objects(settings).put("secret/key", b"content")
    assert open_objects(settings).get("secret/key") == b"content"


async def chunks(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def test_what_is_put_is_got(objects: Objects, tmp_path: Path) -> None:
    objects.put("a/b.bin", b"content")
    assert objects.get("a/b.bin") == b"content"
    assert objects.get_range("a/b.bin", 2, 3) == b"nte"
    assert objects.head("a/b.bin").size == 7
    (tmp_path / "file").write_bytes(b"from a file")
    objects.put("a/c.bin", tmp_path / "file")
    assert b"".join(objects.stream("a/c.bin")) == b"from a file"
    assert objects.list("a/") == ["a/b.bin", "a/c.bin"]
    assert objects.list("nothing/") == []
    objects.delete("a/b.bin")
    objects.delete("a/b.bin")
    assert not objects.exists("a/b.bin")


def test_a_second_writer_of_a_key_is_refused(objects: Objects) -> None:
    assert objects.put_if_absent("k", b"first")
    assert not objects.put_if_absent("k", b"second")
    assert objects.get("k") == b"first"


def test_a_stream_of_several_parts_is_stored_whole(objects: Objects) -> None:
    content = os.urandom(2 * PART + 12_345)
    size, _ = finished(objects.put_stream("uploads/big", chunks(content, 700_001), limit=10 * PART))
    assert size == len(content)
    assert objects.get("uploads/big") == content
    with objects.open("uploads/big") as file:
        file.seek(PART - 5)
        assert file.read(20) == content[PART - 5 : PART + 15]
        file.seek(-10, os.SEEK_END)
        assert file.read() == content[-10:]


def test_objects_are_joined_to_one(objects: Objects) -> None:
    contents = [os.urandom(PART), b"short", os.urandom(PART + 1)]
    for place, content in enumerate(contents):
        objects.put(f"parts/{place}", content)
    whole = b"".join(contents)
    assert objects.join([f"parts/{place}" for place in range(3)], "joined") == hashlib.sha256(whole).hexdigest()
    assert objects.get("joined") == whole
    assert objects.sha256("joined") == hashlib.sha256(whole).hexdigest()
    with pytest.raises(NotFoundError):
        objects.join(["parts/0", "absent"], "broken")
    assert not objects.exists("broken")


def test_nothing_remains_of_a_stream_that_breaks_off_or_grows_too_large(objects: Objects) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (PART + 1)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        finished(objects.put_stream("uploads/broken", broken(), limit=10 * PART))
    with pytest.raises(LimitError, match="TAMIS_MAX_UPLOAD_BYTES"):
        finished(objects.put_stream("uploads/large", chunks(b"x" * 2000, 100), limit=1000))
    assert objects.list("uploads/") == []


def test_what_is_absent_raises_our_error(objects: Objects) -> None:
    for ask in (objects.get, objects.head, objects.open, objects.stream, lambda key: objects.get_range(key, 0, 1)):
        with pytest.raises(NotFoundError):
            ask("absent")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../b", "a b", "a\0b", "a\\b", "."])
def test_keys_that_could_leave_the_store_are_refused(objects: Objects, key: str) -> None:
    with pytest.raises(InputError):
        objects.put(key, b"")


def test_unknown_addresses_are_refused(tmp_path: Path) -> None:
    for address in ("s3://", "ftp://host/folder"):
        with pytest.raises(SettingsError, match="TAMIS_OBJECT_STORE"):
            open_objects(Settings(data=tmp_path, object_store=address))
