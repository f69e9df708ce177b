"""The tus protocol 1.0 as its headers: what this server speaks, and what a request says. https://tus.io/protocols"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import Header, HTTPException, Response

from service.bodies import storable
from tamis.errors import ChecksumError

VERSION = "1.0.0"
ALGORITHMS = ("sha1", "sha256")
CONTENT_TYPE = "application/offset+octet-stream"
MAX_METADATA = 4096
MAX_NAME = 255


def speaks_tus(
    response: Response, tus_resumable: Annotated[str | None, Header(description=f"`{VERSION}`.")] = None
) -> None:
    """FastAPI dependency. Refuses other versions of the protocol."""
    if tus_resumable != VERSION:
        raise HTTPException(
            HTTPStatus.PRECONDITION_FAILED,
            f"This address speaks tus {VERSION}. Send `Tus-Resumable: {VERSION}`.",
            {"tus-version": VERSION, "tus-resumable": VERSION},
        )
    response.headers["tus-resumable"] = VERSION


def capabilities(max_bytes: int) -> dict[str, str]:
    return {
        "tus-resumable": VERSION,
        "tus-version": VERSION,
        "tus-extension": "creation,checksum,expiration,termination",
        "tus-max-size": str(max_bytes),
        "tus-checksum-algorithm": ",".join(ALGORITHMS),
    }


def expires(moment: datetime) -> dict[str, str]:
    return {"upload-expires": format_datetime(moment.astimezone(UTC), usegmt=True)}


def whole_number(name: str, header: str | None) -> int:
    # More digits would be a number that nothing here counts in.
    if header is None or not re.fullmatch(r"[0-9]{1,40}", header):
        raise _malformed(f"{name} is {(header or '')[:50]!r}.", "Send a whole number of bytes.")
    return int(header)


def metadata(header: str) -> dict[str, str]:
    """The pairs of Upload-Metadata, decoded."""
    if len(header) > MAX_METADATA:
        raise _malformed("Upload-Metadata is too long.", f"Send at most {MAX_METADATA} characters.")
    found: dict[str, str] = {}
    for pair in header.split(",") if header.strip() else []:
        key, _, value = pair.strip().partition(" ")
        if not key or key in found:
            raise _malformed(f"Upload-Metadata names {key!r} twice or a key is empty.", "Give each key once.")
        try:
            found[key] = storable(base64.b64decode(value, validate=True).decode())
        except (binascii.Error, ValueError) as error:
            raise _malformed(f"Upload-Metadata: the value of {key!r} is no text in base 64.", "Encode it.") from error
    return found


def file_name(pairs: Mapping[str, str]) -> str:
    """The archive's name, without the folders that a client may have put before it."""
    return re.split(r"[/\\]", pairs.get("filename", ""))[-1][:MAX_NAME] or "archive"


def whole_sha256(pairs: Mapping[str, str]) -> str | None:
    """The SHA-256 of the whole archive, where the client tells it."""
    text = pairs.get("sha256")
    if text is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise _malformed("sha256 in Upload-Metadata is no SHA-256.", "Send 64 hexadecimal digits in base 64.")
    return text.lower() if text is not None else None


@dataclass(frozen=True)
class Checksum:
    """What Upload-Checksum says of one request's body."""

    algorithm: str
    digest: bytes

    def verify(self, body: bytes | bytearray) -> None:
        if not hmac.compare_digest(hashlib.new(self.algorithm, body).digest(), self.digest):
            raise ChecksumError(f"The body's {self.algorithm} is not that of Upload-Checksum.", "Send it again.")


def checksum(header: str | None) -> Checksum | None:
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    if algorithm not in ALGORITHMS:
        raise _malformed(f"Upload-Checksum: {algorithm!r} is not known here.", f"Use one of {', '.join(ALGORITHMS)}.")
    try:
        return Checksum(algorithm, base64.b64decode(value, validate=True))
    except binascii.Error as error:
        raise _malformed("Upload-Checksum: the value is not in base 64.", "Encode it.") from error


def _malformed(message: str, hint: str) -> HTTPException:
    return HTTPException(HTTPStatus.BAD_REQUEST, f"{message} {hint}")
