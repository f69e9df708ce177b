"""Sends an archive in parts by the tus protocol 1.0, and goes on where a cut connection or an ended process left it."""

import base64
import hashlib
import time
from collections.abc import Iterator

import httpx

from tamis.client.packing import Packed
from tamis.errors import TamisError
from tamis.progress import Progress

PART = 8 * 2**20
# After each cut the next part is half as long, so that a bad line gets some through; after each success twice.
LEAST = 2**18
# How long to go on without a single byte arriving, and the longest pause between tries.
PATIENCE = 300.0
LONGEST_PAUSE = 10.0
# The answer to the last part comes once the server has read the whole archive again.
FINISHING_SECONDS = 3600.0
# Faults of the moment: the line's, a restarting server's, another request at the same upload, a damaged part.
PASSING = {409, 423, 429, 460, 500, 502, 503, 504}
# Those of them that may be more than that, and how many in a row are.
DOUBTFUL = {409, 460, 500}
TRIES = 5
HEADERS = {"tus-resumable": "1.0.0"}


def creation_headers(packed: Packed, sha256: str) -> dict[str, str]:
    """Headers that begin an upload of `packed`."""
    told = {"filename": packed.name, "sha256": sha256}
    pairs = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in told.items())
    return {**HEADERS, "upload-length": str(packed.size), "upload-metadata": pairs}


def send_parts(http: httpx.Client, address: str, packed: Packed, progress: Progress | None) -> httpx.Response | None:
    """Sends what the upload at `address` lacks; returns the answer that refused it, None once all has arrived.

    Raises TamisError when nothing has arrived for PATIENCE seconds.
    """
    offset: int | None = None  # not known: to be asked for
    furthest, gained, failures, length = -1, time.monotonic(), 0, PART
    answer: httpx.Response | None
    damaged: httpx.Response | None = None
    parts = _Parts(iter(()))
    while offset != packed.size:
        try:
            if offset is None:
                answer = http.head(address, headers=HEADERS)
            else:
                answer = _send(http, address, offset, parts.next(length), packed.size)
            trouble = f"it answered {answer.status_code}"
        except httpx.TransportError as error:
            answer, trouble = None, str(error) or type(error).__name__
        if answer is not None and answer.is_success:
            asked, offset = offset is None, int(answer.headers["upload-offset"])
            if asked:
                parts = _Parts(packed.chunks(offset))
            else:
                length = min(length * 2, PART)
            if offset > furthest:
                furthest, gained, failures = offset, time.monotonic(), 0
            if progress is not None:
                progress(offset, packed.size)
            continue
        if answer is not None:
            if answer.status_code not in PASSING or (answer.status_code in DOUBTFUL and failures >= TRIES):
                # A server that finds the whole archive damaged forgets it, and then knows no such upload.
                return damaged or answer
            damaged = answer if answer.status_code == 460 else damaged
        if time.monotonic() - gained > PATIENCE:
            raise TamisError(
                f"{http.base_url} has taken nothing more for {PATIENCE:.0f} s ({trouble}).",
                "Upload the same again later: it goes on where it stopped.",
            )
        offset, length = None, max(length // 2, LEAST)
        time.sleep(min(0.2 * 2**failures, LONGEST_PAUSE))
        failures += 1
    return None


def _send(http: httpx.Client, address: str, offset: int, body: bytes, size: int) -> httpx.Response:
    headers = {
        **HEADERS,
        "content-type": "application/offset+octet-stream",
        "upload-offset": str(offset),
        "upload-checksum": f"sha256 {base64.b64encode(hashlib.sha256(body).digest()).decode()}",
    }
    last = offset + len(body) == size
    finishing = httpx.Timeout(http.timeout.connect, read=FINISHING_SECONDS)
    return http.patch(address, content=body, headers=headers, timeout=finishing if last else http.timeout)


class _Parts:
    """A stream of chunks, cut anew."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, bytearray()

    def next(self, length: int) -> bytes:
        """The next `length` bytes, fewer at the end."""
        while len(self._rest) < length and (chunk := next(self._chunks, None)) is not None:
            self._rest += chunk
        part = bytes(self._rest[:length])
        del self._rest[:length]
        return part
