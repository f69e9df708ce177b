"""The object store: a folder or a bucket behind one small set of verbs. Keys name content that never changes."""

import errno
import hashlib
import io
import itertools
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError
from obstore.store import LocalStore, ObjectStore, S3Store

from tamis.errors import InputError, LimitError, NotFoundError, SettingsError
from tamis.settings import Settings
from tamis.store.outages import StoreAwayError

if TYPE_CHECKING:
    from obstore.store import RetryConfig

PART = 8 * 2**20
# What is away for longer is told, and waited for by who asked: a job says so meanwhile, a request is answered.
RETRY: "RetryConfig" = {"max_retries": 4, "retry_timeout": timedelta(seconds=10)}
_SEGMENT = re.compile(r"[A-Za-z0-9_.=-]+")


@dataclass(frozen=True)
class ObjectInfo:
    size: int
    etag: str | None


@dataclass(frozen=True, eq=False)
class Objects:
    """One store. Every write is atomic: an object is there whole or not at all."""

    _store: ObjectStore
    _folder: Path | None

    def put(self, key: str, data: bytes | BinaryIO | Path | Iterator[bytes]) -> None:
        obstore.put(self._store, _checked(key), data, chunk_size=PART)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes unless the key is there; whether it wrote. For keys that are derived from their content."""
        if self.exists(key):
            return False
        try:
            obstore.put(self._store, _checked(key), data, mode="create")
        except (AlreadyExistsError, PreconditionError):
            return False
        except NotSupportedError:
            # The store knows no conditional put; whoever else writes this key writes the same bytes.
            self.put(key, data)
        return True

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], limit: int) -> tuple[int, str]:
        """Writes a stream as it comes; returns its size and SHA-256. Nothing remains of a stream that breaks off.

        Raises LimitError beyond `limit` bytes.
        """
        size, digest = 0, hashlib.sha256()
        with _numbered():
            async with obstore.open_writer_async(self._store, _checked(key), buffer_size=PART) as writer:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise LimitError(
                            f"The upload is larger than the {limit} bytes this server takes.",
                            "Send it in parts as several data sets, or raise TAMIS_MAX_UPLOAD_BYTES.",
                        )
                    digest.update(chunk)
                    await writer.write(chunk)
        return size, digest.hexdigest()

    def join(self, keys: Sequence[str], key: str) -> str:
        """Writes the objects `keys` one after the other as one object, part by part; returns its SHA-256."""
        digest = hashlib.sha256()
        with _numbered(), obstore.open_writer(self._store, _checked(key), buffer_size=PART) as writer:
            for chunk in itertools.chain.from_iterable(map(self.stream, keys)):
                digest.update(chunk)
                writer.write(chunk)
        return digest.hexdigest()

    def get(self, key: str) -> bytes:
        """The whole object. Raises NotFoundError."""
        with _named(key):
            return bytes(obstore.get(self._store, _checked(key)).bytes())

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with _named(key):
            return bytes(obstore.get_range(self._store, _checked(key), start=start, length=length))

    def stream(self, key: str) -> Iterator[bytes]:
        """The object in chunks. Raises NotFoundError before the first."""
        with _named(key):
            found = obstore.get(self._store, _checked(key))
        return (bytes(chunk) for chunk in found.stream(min_chunk_size=PART))

    def sha256(self, key: str) -> str:
        """Of the whole object, read as a stream."""
        digest = hashlib.sha256()
        for chunk in self.stream(key):
            digest.update(chunk)
        return digest.hexdigest()

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable file, read in parts as they are asked for."""
        path = self.local_path(key)
        if path is not None:
            with _named(key):
                return path.open("rb")
        with _named(key):
            reader = obstore.open_reader(self._store, _checked(key), buffer_size=PART)
        return cast(BinaryIO, io.BufferedReader(Seekable(reader), PART))

    def local_path(self, key: str) -> Path | None:
        """The object's file where the store is a folder."""
        return None if self._folder is None else self._folder / _checked(key)

    def head(self, key: str) -> ObjectInfo:
        with _named(key):
            meta = obstore.head(self._store, _checked(key))
        return ObjectInfo(meta["size"], meta["e_tag"])

    def exists(self, key: str) -> bool:
        try:
            self.head(key)
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, a path that ends at a `/`; sorted."""
        return sorted(key for key, _, _ in self.stored(prefix))

    def stored(self, prefix: str) -> Iterator[tuple[str, int, datetime]]:
        """Key, size and time of the last write of what `list` names, as the store lists it."""
        for chunk in obstore.list(self._store, prefix.rstrip("/") or None):
            for meta in chunk:
                yield meta["path"], meta["size"], meta["last_modified"]

    def unwritten(self, prefix: str) -> Sequence[Path]:
        """Files of writes below `prefix` that go on or were killed: no objects, and not listed. A bucket has none."""
        folder = self.local_path(prefix)
        return [] if folder is None else sorted(folder.rglob("*#*"))

    def delete(self, key: str) -> None:
        """Removes the object; nothing happens when there is none."""
        try:
            obstore.delete(self._store, _checked(key))
        except FileNotFoundError:
            return


def open_objects(settings: Settings) -> Objects:
    """The store the settings name; its folder is made if it is one."""
    address = settings.objects
    if address.startswith("s3://"):
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        if not bucket:
            raise SettingsError("TAMIS_OBJECT_STORE names no bucket.", "Use s3://BUCKET or s3://BUCKET/PREFIX.")
        return Objects(s3_store(bucket, prefix or None, settings), None)
    if "://" in address:
        raise SettingsError(f"TAMIS_OBJECT_STORE is {address}.", "Use a folder or s3://BUCKET/PREFIX.")
    folder = Path(address).resolve()
    return Objects(LocalStore(folder, mkdir=True), folder)


def s3_store(bucket: str, prefix: str | None, settings: Settings) -> S3Store:
    """A bucket on the server of the settings, where the secret key may be too; else keys are in the AWS variables."""
    named = {"endpoint": settings.s3_endpoint} if settings.s3_endpoint else {}
    if settings.s3_secret and "AWS_SECRET_ACCESS_KEY" not in os.environ:
        named["secret_access_key"] = settings.s3_secret
    plain = (settings.s3_endpoint or "").startswith("http://")
    region = os.environ.get("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    return S3Store(
        bucket,
        prefix=prefix,
        region=region,
        client_options={"allow_http": True} if plain else {},
        retry_config=RETRY,
        **named,  # type: ignore[arg-type]  # a TypedDict cannot be unpacked conditionally
    )


def _checked(key: str) -> str:
    """Refuses keys that could leave the store or mean different things in a folder and in a bucket."""
    if not key or any(not _SEGMENT.fullmatch(part) or part in {".", ".."} for part in key.split("/")):
        raise InputError(f"{key!r} is not an object key.")
    return key


class _named:  # noqa: N801  used as a function
    """Turns the store's own not-found error into ours."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(f"There is no object {self._key}.") from error


@contextmanager
def _numbered() -> Iterator[None]:
    """obstore's readers and writers raise a bare OSError without a number for whatever befalls the store."""
    try:
        yield
    except (BaseError, OSError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        raise StoreAwayError(errno.ECONNRESET, str(error).partition("\n")[0]) from error


class Seekable(io.RawIOBase):
    """obstore's reader as a raw file, which zipfile and tarfile can work with."""

    def __init__(self, reader: "obstore.ReadableFile") -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            offset, whence = self._reader.size + offset, io.SEEK_SET
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]  # narrower than any buffer
        with _numbered():
            content = bytes(self._reader.read(len(buffer)))
        buffer[: len(content)] = content
        return len(content)
