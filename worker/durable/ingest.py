"""The ingest job: an uploaded archive or a registered location becomes a data set."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

from tamis.settings import Settings
from tamis.sources import BUCKET, Source, open_source
from tamis.store.quota import claim_room, room_left
from tamis.store.schema import Dataset, Shard
from worker.durable.runtime import locked, reported, reporter, runtime, step, workflow
from worker.steps.ingest import Stored, store_source


@workflow("ingest")
def ingest_dataset(dataset_id: str) -> None:
    with reported(Dataset, dataset_id):
        store_samples(dataset_id)
        discard_upload(dataset_id)


@step
def store_samples(dataset_id: str) -> None:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Dataset, dataset_id)
        if row.index_key is not None:
            return
        upload_key, upload_name, source_uri = row.upload_key, row.upload_name, row.source_uri
        room = room_left(session, run.settings.quota_bytes, dataset_id)
    progress = reporter(Dataset, dataset_id, "ingest", "reading, checking and hashing images")
    if source_uri is not None:
        stored = store_source(run.place, _located(source_uri, run.settings), progress=progress, room=room)
    else:
        assert upload_key is not None
        with run.objects.open(upload_key) as file:
            stored = store_source(run.place, open_source(file, name=upload_name), progress=progress, room=room)
    _publish(dataset_id, stored)


def _located(uri: str, settings: Settings) -> Source:
    if uri.startswith(BUCKET):
        return open_source(uri)
    # Once more: since the place was registered, a link may have taken it, or the roots may have changed.
    return open_source(Path(unquote(urlsplit(uri).path)), roots=settings.allowed_roots)


def _publish(dataset_id: str, stored: Stored) -> None:
    """Records the data set and marks it succeeded, in one transaction."""
    with runtime().catalog.session() as session:
        row = locked(session, Dataset, dataset_id)
        claim_room(session, runtime().settings.quota_bytes, stored.bytes, dataset_id)
        session.execute(sa.delete(Shard).where(Shard.dataset_id == dataset_id))
        session.add_all(
            Shard(
                dataset_id=dataset_id,
                ordinal=ordinal,
                key=shard.key,
                thumbnails_key=shard.thumbnails,
                first=shard.first,
                count=shard.count,
            )
            for ordinal, shard in enumerate(stored.shards)
        )
        row.samples, row.quarantined, row.bytes = stored.samples, stored.quarantined, stored.bytes
        row.fingerprint, row.index_key, row.quarantine_key = stored.fingerprint, stored.index, stored.quarantine
        row.succeed(f"{row.samples} images, {row.quarantined} in quarantine")


@step
def discard_upload(dataset_id: str) -> None:
    """Frees the archive once its images are in shards."""
    run = runtime()
    with run.catalog.session() as session:
        upload_key = session.get_one(Dataset, dataset_id).upload_key
    if upload_key is not None:
        run.objects.delete(upload_key)
