"""The body of one tus request on its way into the store."""

from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from service.archives import check_archive, discard, queue_archive
from service.backend import Backend
from service.tus import Checksum
from tamis.errors import ChecksumError, InputError, LimitError
from tamis.store.objects import PART
from tamis.store.schema import Upload


async def receive(backend: Backend, upload: Upload, chunks: AsyncIterator[bytes], checksum: Checksum | None) -> None:
    """Keeps a body that continues `upload`, with one part in memory.

    What came before a connection broke off is kept, unless a checksum says what the whole body must be.
    """
    end, body = upload.received, bytearray()
    try:
        async for chunk in chunks:
            body += chunk
            if end + len(body) > upload.size:
                raise LimitError(
                    f"The body goes beyond the {upload.size} bytes of upload {upload.id}.",
                    "Send what the file had when the upload was created.",
                )
            if checksum is not None and len(body) > PART:
                raise LimitError(
                    f"A body with a checksum may have {PART} bytes at most.", "Send smaller parts, or no checksum."
                )
            # The last bytes wait for the end of the body: with them the upload is finished.
            while len(body) > PART:
                await run_in_threadpool(backend.uploads.add, upload.id, end, bytes(body[:PART]))
                end += PART
                del body[:PART]
    except ClientDisconnect:
        if checksum is None:
            await run_in_threadpool(_keep, backend, upload, end, bytes(body))
        raise
    if checksum is not None:
        checksum.verify(body)
    await run_in_threadpool(_keep, backend, upload, end, bytes(body))


def _keep(backend: Backend, upload: Upload, start: int, data: bytes) -> None:
    if not data:
        return
    if start + len(data) < upload.size:
        backend.uploads.add(upload.id, start, data)
    else:
        _finish(backend, upload, start, data)


def _finish(backend: Backend, upload: Upload, start: int, data: bytes) -> None:
    """Stores the last bytes and gives the archive to its data set, in one transaction with the job that reads it.

    Before it is committed the upload lacks its last bytes, so that a client goes on there if this process dies.
    """
    try:
        with backend.uploads.completed(upload.id, start, data) as (key, part):
            check_archive(backend, key, upload.name)
            with backend.catalog.session() as session:
                backend.uploads.record(session, upload.id, start, len(data), part)
                session.flush()
                _, earlier = queue_archive(backend, session, upload.dataset_id, key, upload.name, upload.size)
    except (InputError, ChecksumError):
        # No more bytes can make it good.
        backend.uploads.remove(upload.id)
        raise
    backend.uploads.discard(upload.id, but=key)
    discard(backend, earlier)
