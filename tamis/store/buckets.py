"""Other people's buckets as sources: objects below a prefix, listed and read one by one, or one object in ranges."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast
from urllib.parse import quote

import obstore
from obstore.exceptions import BaseError, InvalidPathError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore

from tamis.errors import InputError
from tamis.settings import Settings, load_settings
from tamis.sources.content import Content
from tamis.sources.entries import Entry, EntryError
from tamis.store.objects import PART, Seekable, s3_store


@dataclass(frozen=True)
class Bucket:
    """The objects of `store`, which begins at s3://BUCKET, below `prefix`; in the order the store lists them."""

    store: ObjectStore
    address: str
    prefix: str
    archived: bool = False
    listed: bool = True

    @property
    def name(self) -> str:
        return f"{self.address}/{self.prefix}".rstrip("/")

    def __iter__(self) -> Iterator[Entry]:
        """Raises InputError when the bucket is not there or may not be listed."""
        marker = ""
        with _explained(self.name):
            for chunk in obstore.list(self.store, self.prefix or None):
                for meta in chunk:
                    # An empty object in the place of a folder, as web consoles make them.
                    if marker and not meta["path"].startswith(f"{marker}/"):
                        yield self._entry(marker, 0)
                    marker = "" if meta["size"] else meta["path"]
                    if not marker:
                        yield self._entry(meta["path"], meta["size"])
        if marker:
            yield self._entry(marker, 0)

    def find(self, name: str) -> Entry | None:
        key = f"{self.prefix}/{name}".lstrip("/")
        try:
            with _explained(self.name):
                return self._entry(key, obstore.head(self.store, key)["size"])
        except FileNotFoundError:
            return None

    def content(self, key: str, size: int) -> Content:
        """One object as a file."""
        name = key.rpartition("/")[2]
        beside = Bucket(self.store, self.address, key.rpartition("/")[0])
        return Content(name, partial(_opened, self.store, key, size), size, self._uri(key), beside.find)

    def _entry(self, key: str, size: int) -> Entry:
        name = key.removeprefix(self.prefix).lstrip("/")
        return Entry(name, partial(_entered, self.store, key, size), size, self._uri(key))

    def _uri(self, key: str) -> str:
        return f"{self.address}/{quote(key)}"


def open_bucket(address: str, settings: Settings | None = None) -> Bucket | Content:
    """The object at s3://BUCKET/KEY, or else all objects below that prefix.

    Raises InputError when the address names no bucket, or the bucket is not there or may not be read.
    """
    settings = settings or load_settings()
    bucket, _, key = address.removeprefix("s3://").partition("/")
    key = key.strip("/")
    if not bucket:
        raise InputError(f"{address} names no bucket.", "Use s3://BUCKET/PREFIX.")
    found = Bucket(s3_store(bucket, None, settings), f"s3://{bucket}", key)
    if key and not address.endswith("/"):
        try:
            with _explained(address):
                return found.content(key, obstore.head(found.store, key)["size"])
        except FileNotFoundError:
            pass
    return found


@contextmanager
def _entered(store: ObjectStore, key: str, size: int) -> Iterator[BinaryIO]:
    try:
        with _explained("The bucket"):
            file = _opened(store, key, size)
        with file:
            yield file
    except (FileNotFoundError, PermissionDeniedError) as error:
        raise EntryError("the object cannot be read: it is gone, or its reader has no right to") from error


def _opened(store: ObjectStore, key: str, size: int) -> BinaryIO:
    """A small object in one request, a larger one in parts as they are asked for."""
    if size <= PART:
        return io.BytesIO(bytes(obstore.get(store, key).bytes()))
    return cast(
        BinaryIO, io.BufferedReader(Seekable(obstore.open_reader(store, key, size=size, buffer_size=PART)), PART)
    )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns what the user can put right into InputError, and what may be of the moment into OSError."""
    hint = "Check the address, TAMIS_S3_ENDPOINT and the AWS variables."
    try:
        yield
    except InvalidPathError as error:
        raise InputError(f"{name} holds a key that is no path, with empty or dotted parts.", "Rename it.") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise InputError(f"{name} may not be read with this server's keys.", hint) from error
    except BaseError as error:
        if "NoSuchBucket" in str(error):
            raise InputError(f"{name}: there is no such bucket.", hint) from error
        raise OSError(f"{name} cannot be reached. {hint}") from error
