"""A zip archive: its members in the order of its directory."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import BinaryIO, cast

from tamis.errors import InputError
from tamis.sources.content import Content
from tamis.sources.entries import MAX_RATIO, MAX_UNSUSPECTED_BYTES, Entry, EntryError
from tamis.sources.names import by_clean_name

MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1

# Of damaged data alone: errors of the disk or the network are OSError, and no fault of the archive.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, IndexError, OverflowError, RuntimeError)


@dataclass(frozen=True)
class ZipArchive:
    name: str
    uri: str
    archive: zipfile.ZipFile
    archived: bool = True
    listed: bool = True

    def __iter__(self) -> Iterator[Entry]:
        for info in self.archive.infolist():
            # ZipInfo cuts a name at NUL, which would hide what the archive says.
            name = info.orig_filename if "\0" in info.orig_filename else info.filename
            if not name.endswith("/"):
                opened = partial(_open, self.archive, info)
                stored = info.compress_type == zipfile.ZIP_STORED
                yield Entry(name, opened, info.file_size, self.uri, _refusal(info), seekable=stored)

    def find(self, name: str) -> Entry | None:
        return self._named.get(name)

    @cached_property
    def _named(self) -> dict[str, Entry]:
        return by_clean_name(self)


def open_zip(content: Content) -> ZipArchive:
    """Raises InputError when the archive's directory cannot be read."""
    try:
        archive = zipfile.ZipFile(content.open())
    except _DAMAGE as error:
        raise InputError(
            f"{content.name} is a damaged zip archive: its directory, at the end, cannot be read.",
            "It may have been cut off on its way: compare its size with the original and upload it again.",
        ) from error
    members = archive.infolist()
    expanded = sum(info.file_size for info in members if not _refusal(info))
    if expanded > max(MAX_UNSUSPECTED_BYTES, MAX_RATIO * content.size):
        raise InputError(
            f"{content.name} would expand more than {MAX_RATIO} times, to {expanded} bytes.",
            "Make the archive of images alone.",
        )
    if sum(info.compress_size for info in members) > content.size:
        raise InputError(
            f"{content.name} claims more data than it has bytes: its members overlap.", "Make the archive again."
        )
    return ZipArchive(content.name, content.uri, archive)


def _refusal(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in {0, stat.S_IFREG}:
        return "a link or device, not a file"
    if info.flag_bits & ENCRYPTED:
        return "encrypted; make the archive without a password"
    if info.compress_type not in METHODS:
        return "compressed by an unusual method; make the archive with deflate"
    if info.file_size > MAX_UNSUSPECTED_BYTES and info.file_size > MAX_RATIO * info.compress_size:
        return f"it would expand more than {MAX_RATIO} times, to {info.file_size} bytes"
    if info.header_offset < 0:
        return "damaged in the archive"
    return ""


@contextmanager
def _open(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[BinaryIO]:
    try:
        with archive.open(info) as file:
            yield cast(BinaryIO, file)
    except _DAMAGE as error:
        raise EntryError(f"damaged in the archive ({error})") from error
