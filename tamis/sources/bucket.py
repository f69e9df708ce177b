"""Other people's buckets as sources: objects below a prefix, listed and read one by one, or one object in ranges."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
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

# Small objects asked for before it is their turn: one alone would wait for the network most of the time.
AHEAD = 16


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
        with _explained(self.name), ThreadPoolExecutor(AHEAD, "bucket") as pool:
            try:
                for objects in self._listing():
                    ahead = _Ahead(self.store, pool, objects)
                    for place, (key, size) in enumerate(objects):
                        yield self._entry(key, size, ahead, place)
            finally:
                pool.shutdown(cancel_futures=True)

    def find(self, name: str) -> Entry | None:
        key = f"{self.prefix}/{name}".lstrip("/")
        try:
            with _explained(self.name):
                objects = [(key, obstore.head(self.store, key)["size"])]
        except FileNotFoundError:
            return None
        return self._entry(*objects[0], _Ahead(self.store, None, objects), 0)

    def content(self, key: str, size: int) -> Content:
        """One object as a file."""
        folder, _, name = key.rpartition("/")
        beside = Bucket(self.store, self.address, folder)
        return Content(name, partial(_opened, self.store, key, size), size, self._uri(key), beside.find)

    def _listing(self) -> Iterator[list[tuple[str, int]]]:
        """Keys and sizes, many at a time, without the empty objects that web consoles put in the place of folders."""
        last: list[tuple[str, int]] = []
        for chunk in obstore.list(self.store, self.prefix or None):
            objects = [*last, *((meta["path"], meta["size"]) for meta in chunk)]
            following = [*(key for key, _ in objects[1:]), ""]
            last = objects[-1:]
            yield [
                (key, size)
                for (key, size), after in zip(objects[:-1], following, strict=False)
                if size or not after.startswith(f"{key}/")
            ]
        yield last

    def _entry(self, key: str, size: int, ahead: "_Ahead", place: int) -> Entry:
        name = key.removeprefix(self.prefix).lstrip("/")
        return Entry(name, partial(ahead.opened, place), size, self._uri(key))

    def _uri(self, key: str) -> str:
        return f"{self.address}/{quote(key)}"


def open_bucket(address: str, settings: Settings | None = None) -> Bucket | Content:
    """The object at s3://BUCKET/KEY, or else all objects below that prefix.

    Raises InputError when the address names no bucket, or the bucket is not there or may not be read.
    """
    settings = settings or load_settings()
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise InputError(f"{address} names no bucket.", "Use s3://BUCKET/PREFIX.")
    found = Bucket(s3_store(bucket, None, settings), f"s3://{bucket}", key.strip("/"))
    if found.prefix and not key.endswith("/"):
        try:
            with _explained(address):
                return found.content(found.prefix, obstore.head(found.store, found.prefix)["size"])
        except FileNotFoundError:
            return found
    return found


@dataclass(frozen=True)
class _Ahead:
    """Some objects of a listing, with those after the one that is opened on their way already."""

    store: ObjectStore
    pool: ThreadPoolExecutor | None
    objects: Sequence[tuple[str, int]]
    coming: "dict[int, Future[BinaryIO]]" = field(default_factory=dict)

    @contextmanager
    def opened(self, place: int) -> Iterator[BinaryIO]:
        try:
            with _explained("The bucket"):
                file = self._file(place)
            with file:
                yield file
        except FileNotFoundError as error:
            raise EntryError("the object is gone") from error

    def _file(self, place: int) -> BinaryIO:
        for passed in [other for other in self.coming if other < place]:
            del self.coming[passed]
        for other in range(place + 1, min(place + AHEAD, len(self.objects))):
            key, size = self.objects[other]
            if self.pool is not None and other not in self.coming and 0 < size <= PART:
                self.coming[other] = self.pool.submit(_opened, self.store, key, size)
        coming = self.coming.pop(place, None)
        return coming.result() if coming is not None else _opened(self.store, *self.objects[place])


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
