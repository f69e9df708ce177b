"""Uploads that come in parts: their bytes, and the record of how far they have got.

The bytes of a request are kept first, then recorded in a transaction that holds only if the record still ends where the
request began. So what is recorded is stored, whenever a process dies; what is not is sent again; and of two requests
at the same place, in whichever processes, one is recorded.

In a folder the archive is a file that grows, and needs no second copy at the end. In a bucket objects cannot grow: each
part is one, under a key no other request has, and the last request joins them.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from tamis.errors import (
    BusyError,
    ChecksumError,
    ConflictError,
    ExpiredError,
    NotFoundError,
    QuotaError,
    TamisError,
)
from tamis.store.catalog import Catalog
from tamis.store.objects import Objects
from tamis.store.schema import Dataset, Upload, UploadPart, made_at, new_id, now

FOLDER = "uploads"
# An object that no row knows may be on its way; after so long it is what a killed process left.
STRAY_AGE = timedelta(days=1)


@dataclass(frozen=True)
class Uploads:
    """The uploads of one catalogue and object store. `seconds`: how long one is kept after its last bytes."""

    catalog: Catalog
    objects: Objects
    seconds: float

    def begin(self, session: Session, dataset_id: str, name: str, size: int, sha256: str | None, sent: str) -> Upload:
        """Makes an upload without bytes, as part of the session's transaction. `sent`: the client's metadata."""
        row = Upload(id=new_id("up"), dataset_id=dataset_id, name=name, size=size, sha256=sha256, sent_metadata=sent)
        row.received, row.expires_at = 0, now() + timedelta(seconds=self.seconds)
        session.add(row)
        session.flush()
        path = self.objects.local_path(f"{FOLDER}/{row.id}")
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return row

    def get(self, session: Session, upload_id: str, lock: bool = False) -> Upload:
        """Raises NotFoundError, or ExpiredError for one that the janitor has not removed yet."""
        row = session.get(Upload, upload_id, with_for_update=lock, populate_existing=lock)
        if row is None:
            raise NotFoundError(f"There is no upload {upload_id}.", "Begin a new one.")
        if row.expires_at <= now():
            raise ExpiredError(f"Upload {upload_id} was left for too long.", "Begin a new one.")
        return row

    def ending_at(self, session: Session, upload_id: str, start: int) -> Upload:
        """The upload, locked. Raises ConflictError when what is recorded does not end at `start`."""
        row = self.get(session, upload_id, lock=True)
        if row.received != start:
            raise ConflictError(
                f"Upload {upload_id} has {row.received} bytes, and this request began at {start}.",
                "Ask with HEAD where to go on.",
            )
        return row

    def add(self, upload_id: str, start: int, data: bytes) -> None:
        """Keeps and records bytes that are not the last. Raises ConflictError when another request was first."""
        with (
            self._overtaken_told(upload_id, start),
            self._kept(upload_id, start, data) as part,
            self.catalog.session() as session,
        ):
            self.record(session, upload_id, start, len(data), part)

    @contextmanager
    def completed(self, upload_id: str, start: int, data: bytes) -> Iterator[tuple[str, str | None]]:
        """Keeps the last bytes; yields the whole archive's key and, for `record`, the last part's.

        Raises ChecksumError when the whole is not what the client said it would be, ConflictError when another request
        was first.
        """
        with self._overtaken_told(upload_id, start), self._kept(upload_id, start, data) as part:
            with self.catalog.session() as session:
                # Parts of a request that was recorded meanwhile would make another archive than the client's.
                expected = self.ending_at(session, upload_id, start).sha256
                query = sa.select(UploadPart.key).where(UploadPart.upload_id == upload_id).order_by(UploadPart.start)
                parts = session.scalars(query).all()
            if part is None:
                key = f"{FOLDER}/{upload_id}"
                found = self.objects.sha256(key) if expected is not None else None
            else:
                key = f"{FOLDER}/{upload_id}/{new_id('up')}"
                found = self.objects.join([*parts, part], key)
            with nullcontext() if part is None else self._deleted_if_refused(key):
                if expected not in {None, found}:
                    raise ChecksumError(
                        f"The archive's SHA-256 is {found} and not {expected}.",
                        "It was discarded; upload it again.",
                    )
                yield key, part

    def record(self, session: Session, upload_id: str, start: int, length: int, part: str | None) -> None:
        """Counts bytes that are kept, as part of the session's transaction. Raises what `ending_at` does."""
        row = self.ending_at(session, upload_id, start)
        row.received, row.expires_at = start + length, now() + timedelta(seconds=self.seconds)
        if part is not None:
            session.add(UploadPart(upload_id=upload_id, start=start, key=part))

    def remove(self, upload_id: str) -> None:
        """Forgets an upload and its bytes, but not an archive that a data set has taken over."""
        with self.catalog.session() as session:
            row = session.get(Upload, upload_id)
            kept = row.dataset.upload_key if row is not None else None
            if row is not None:
                session.delete(row)
        self.discard(upload_id, but=kept)

    def discard(self, upload_id: str, but: str | None = None) -> None:
        """Deletes an upload's objects, except the one whose key is `but`."""
        for key in (f"{FOLDER}/{upload_id}", *self.objects.list(f"{FOLDER}/{upload_id}/")):
            if key != but:
                self.objects.delete(key)

    def sweep(self) -> int:
        """Removes what has expired, and old objects that no row knows; returns how many."""
        with self.catalog.session() as session:
            expired = session.scalars(sa.select(Upload.id).where(Upload.expires_at <= now())).all()
        for upload_id in expired:
            self.remove(upload_id)
        left = self._unknown(self.objects.list(f"{FOLDER}/"))
        for key in left:
            self.objects.delete(key)
        return len(expired) + len(left)

    def _unknown(self, keys: list[str]) -> list[str]:
        # Asked after the keys were listed: what was begun since is not among them.
        with self.catalog.session() as session:
            uploads = set(session.scalars(sa.select(Upload.id)))
            taken = set(session.scalars(sa.select(Dataset.upload_key).where(Dataset.upload_key.is_not(None))))
        oldest = now() - STRAY_AGE
        return [
            key
            for key in keys
            if key not in taken and (owner := key.split("/")[1]) not in uploads and made_at(owner) < oldest
        ]

    @contextmanager
    def _kept(self, upload_id: str, start: int, data: bytes) -> Iterator[str | None]:
        """Stores bytes until they are recorded; yields the key of the part they became, None where the file grew."""
        path = self.objects.local_path(f"{FOLDER}/{upload_id}")
        if path is not None:
            with _only_writer(path) as file:
                with self.catalog.session() as session:
                    # A slower request must not write over what a faster one has recorded.
                    self.ending_at(session, upload_id, start)
                _write(file, start, data)
                yield None
            return
        key = f"{FOLDER}/{upload_id}/{new_id('up')}"
        self.objects.put(key, data)
        with self._deleted_if_refused(key):
            yield key

    @contextmanager
    def _overtaken_told(self, upload_id: str, start: int) -> Iterator[None]:
        """A faster request may have finished the upload: then that is why its objects are gone, and is told."""
        try:
            yield
        except NotFoundError:
            with self.catalog.session() as session:
                self.ending_at(session, upload_id, start)
            raise

    @contextmanager
    def _deleted_if_refused(self, key: str) -> Iterator[None]:
        try:
            yield
        except TamisError:
            # After any other error the row may have been written, and the object must stay.
            self.objects.delete(key)
            raise


@contextmanager
def _only_writer(path: Path) -> Iterator[int]:
    """The file's descriptor, locked against other requests; the system frees the lock of a process that was killed."""
    try:
        file = os.open(path, os.O_WRONLY)
    except FileNotFoundError as error:
        raise NotFoundError("The upload is no longer here.", "Begin a new one.") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                "Another request writes to this upload.", "Ask with HEAD in a moment for its end."
            ) from error
        yield file
    finally:
        os.close(file)


def _write(file: int, start: int, data: bytes) -> None:
    """Writes to the disk itself, so that what is recorded survives the loss of power too."""
    try:
        os.lseek(file, start, os.SEEK_SET)
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise QuotaError("The server's disk is full.", "Free some space there, then go on with the upload.") from error
