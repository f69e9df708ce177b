"""An archive whose bytes are here becomes the content of a data set, however they came."""

from sqlalchemy.orm import Session

from service.backend import Backend
from service.views import found
from tamis.errors import ConflictError
from tamis.sources import open_source
from tamis.store.quota import claim_room
from tamis.store.schema import Dataset

# States in which a data set takes (new) content: nothing was stored, or what was sent could not be used.
OPEN_STATES = {"empty", "failed", "cancelled"}


def open_dataset(session: Session, dataset_id: str, lock: bool = False) -> Dataset:
    """A data set that takes content. Raises ConflictError for one that has some."""
    row = found(session, Dataset, dataset_id, lock=lock)
    if row.state not in OPEN_STATES:
        raise ConflictError(f"Data set {dataset_id} is {row.state}.", "Create another data set for other content.")
    return row


def check_archive(backend: Backend, key: str, name: str) -> None:
    """Raises InputError when the object is no archive."""
    with backend.objects.open(key) as file:
        open_source(file, name=name)


def queue_archive(
    backend: Backend, session: Session, dataset_id: str, key: str, name: str, size: int
) -> tuple[Dataset, str | None]:
    """Gives a data set its archive and enqueues the ingest, in the session's transaction.

    Returns the data set and the key of an earlier archive that could not be used, to be deleted afterwards. Raises
    QuotaError when there is no room; what the session holds of the archive's upload must be recorded before.
    """
    row = open_dataset(session, dataset_id, lock=True)
    earlier, row.upload_key, row.upload_name, row.source_uri, row.bytes = row.upload_key, key, name, None, 0
    session.flush()
    claim_room(session, backend.settings.quota_bytes, size, dataset_id)
    row.bytes = size
    row.requeue("waiting for a worker")
    backend.jobs.enqueue(session, "ingest", dataset_id, attempt(key))
    session.flush()
    return row, earlier


def attempt(upload_key: str | None) -> str:
    """What tells one try at ingest from the next: a failed upload may be followed by a better one."""
    return (upload_key or "").rsplit("/", 1)[-1]


def discard(backend: Backend, upload_key: str | None) -> None:
    if upload_key is not None:
        backend.objects.delete(upload_key)
