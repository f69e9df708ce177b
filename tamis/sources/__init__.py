"""Where images come from: folders, zip and tar archives, IDX files; one module a format, recognised by content."""

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO

from tamis.errors import InputError
from tamis.sources import idx
from tamis.sources.content import Content, file_content, upload_content
from tamis.sources.entries import Container, RawSample, Refused, Source
from tamis.sources.folder import Folder
from tamis.sources.samples import open_samples
from tamis.sources.tar_archive import TarArchive, is_tar
from tamis.sources.zip_archive import MAGICS as ZIP_MAGICS
from tamis.sources.zip_archive import open_zip

__all__ = ["RawSample", "Refused", "Source", "open_source"]

BLOCK = 512


def open_source(source: str | Path | BinaryIO, name: str | None = None) -> Source:
    """The samples of a folder, zip, tar, tar.gz or IDX file at a path, or of such a file opened for reading.

    name: the file name of an opened file, for messages and for samples of a lone IDX file; its format is recognised
        by content. The file must be seekable and stay open.
    Raises InputError at once when there is no such path, its format is not known, it is empty or a zip archive whose
    directory cannot be read; and while it is read where an archive or a gzip stream ends early or is damaged.
    """
    if not isinstance(source, str | Path):
        return open_samples(_container(upload_content(source, name)))
    path = Path(source)
    return open_samples(Folder(path.resolve()) if path.is_dir() else _container(file_content(path)))


def _container(content: Content) -> Container:
    if content.size == 0:
        raise InputError(f"{content.name} is empty.", "It may have been cut off on its way: send it again.")
    head = _head(content)
    if head.startswith(ZIP_MAGICS):
        return open_zip(content)
    gzipped = head.startswith(idx.GZIP_MAGIC)
    if gzipped:
        head = _unzipped_head(content)
    if head.startswith(idx.IMAGES_MAGIC):
        return idx.open_idx(content, gzipped)
    if is_tar(head):
        return TarArchive(content, gzipped)
    raise InputError(
        f"{content.name} is no archive that Tamis knows.",
        "Give a folder of images, a zip, tar or tar.gz archive, or an IDX images file.",
    )


def _head(content: Content) -> bytes:
    try:
        with content.open() as file:
            return file.read(BLOCK)
    except PermissionError as error:
        raise InputError(
            f"{content.name} cannot be read ({error.strerror}).", "Give its reader the right to."
        ) from error


def _unzipped_head(content: Content) -> bytes:
    try:
        with content.open() as raw, gzip.GzipFile(fileobj=raw) as file:
            return file.read(BLOCK)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(
            f"{content.name} is damaged: its gzip data cannot be read ({error}).",
            "Compare its size with the original and upload it again.",
        ) from error
