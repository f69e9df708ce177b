"""The ingest job: an uploaded archive or a registered location becomes shards, an index and a quarantine list."""

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from dbos import DBOS

from tamis.ingest.shards import Ingested, ingest
from tamis.settings import Settings
from tamis.sources import BUCKET, Source, open_source
from tamis.store.schema import Dataset, Shard
from worker.durable.runtime import reported, reporter, runtime, step

ROW_GROUP = 2**16


@DBOS.workflow(name="ingest")
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
    progress = reporter(Dataset, dataset_id, "ingest", "reading, checking and hashing images")
    if source_uri is not None:
        result = ingest(_located(source_uri, run.settings), run.objects.put_if_absent, progress=progress)
    else:
        assert upload_key is not None
        with run.objects.open(upload_key) as file:
            source = open_source(file, name=upload_name)
            result = ingest(source, run.objects.put_if_absent, progress=progress)
    _publish(dataset_id, result)


def _located(uri: str, settings: Settings) -> Source:
    if uri.startswith(BUCKET):
        return open_source(uri)
    # Once more: since the place was registered, a link may have taken it, or the roots may have changed.
    return open_source(Path(unquote(urlsplit(uri).path)), roots=settings.allowed_roots)


def _publish(dataset_id: str, result: Ingested) -> None:
    """Writes the result and marks the data set succeeded, in one transaction."""
    run = runtime()
    index_key = _put_table("index", result.index)
    quarantine_key = _put_table("quarantine", result.quarantine)
    with run.catalog.session() as session:
        row = session.get_one(Dataset, dataset_id, with_for_update=True)
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
            for ordinal, shard in enumerate(result.shards)
        )
        row.samples = result.index.num_rows
        row.quarantined = result.quarantine.num_rows
        row.bytes = result.bytes
        row.fingerprint = result.fingerprint
        row.index_key, row.quarantine_key = index_key, quarantine_key
        row.succeed(f"{row.samples} images, {row.quarantined} in quarantine")


@step
def discard_upload(dataset_id: str) -> None:
    """Frees the archive once its images are in shards."""
    run = runtime()
    with run.catalog.session() as session:
        upload_key = session.get_one(Dataset, dataset_id).upload_key
    if upload_key is not None:
        run.objects.delete(upload_key)


def _put_table(prefix: str, table: pa.Table) -> str:
    """By way of a file, a part at a time: an index may be larger than memory."""
    run = runtime()
    with run.scratch() as folder:
        path = folder / "table.parquet"
        pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)
        with path.open("rb") as file:
            key = f"{prefix}/{hashlib.file_digest(file, 'sha256').hexdigest()}.parquet"
        if not run.objects.exists(key):
            run.objects.put(key, path)
    return key
