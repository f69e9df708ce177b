"""Where images come from: folders, archives, buckets and files of many images; one module a format."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from tamis.errors import InputError
from tamis.sources.content import Content, file_content, upload_content
from tamis.sources.entries import Container, RawSample, Refused, Source
from tamis.sources.folder import Folder
from tamis.sources.formats import lone_file
from tamis.sources.gunzip import DAMAGE, GZIP_MAGIC
from tamis.sources.samples import open_samples
from tamis.sources.tar_archive import TarArchive
from tamis.sources.tar_headers import BLOCK, is_packed_folder, is_tar
from tamis.sources.zip_archive import MAGICS as ZIP_MAGICS
from tamis.sources.zip_archive import open_zip

__all__ = ["BUCKET", "RawSample", "Refused", "Source", "open_source", "resolved"]

BUCKET = "s3://"
# Enough for a tar archive's first header and what that says.
HEAD = 1024


def open_source(source: str | Path | BinaryIO, name: str | None = None, roots: Iterable[Path] | None = None) -> Source:
    """The samples of a folder, an archive or a file of many images at a path, of such a file opened for reading, or of
    an object or all objects below a prefix, as s3://BUCKET/KEY.

    name: the file name of an opened file, for messages and for samples of a lone file of many images. Its format is
        recognised by content, CIFAR's and STL-10's by name. The file must be seekable and stay open.
    roots: the folders that a path must be in, whatever links lead to it, and that no link in it leads out of; anywhere
        if None.
    Raises InputError at once when there is no such path, its format is not known, it is empty or a zip archive whose
    directory cannot be read; and while it is read where an archive or a gzip stream ends early or is damaged.
    """
    if not isinstance(source, str | Path):
        return open_samples(_container(upload_content(source, name)))
    if isinstance(source, str) and source.startswith(BUCKET):
        # The store's client is not loaded for those who read from a disk.
        from tamis.sources.bucket import open_bucket

        found = open_bucket(source)
        return open_samples(_container(found) if isinstance(found, Content) else found)
    path = resolved(Path(source), roots)
    if path.is_dir():
        return open_samples(Folder(path, follow=roots is None))
    # Of a link, its own name and what is beside it are what its user knows.
    place = path if roots is not None else resolved(Path(source).parent, None) / Path(source).name
    beside = Folder(place.parent, follow=roots is None)
    return open_samples(_container(file_content(path, place, beside.find)))


def resolved(path: Path, roots: Iterable[Path] | None) -> Path:
    """`path` without any link. Raises InputError when it is then in none of `roots`."""
    try:
        path = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{str(path)!r} is no path that can be read.", "Give a folder or an archive.") from error
    if roots is not None and not any(path.is_relative_to(root.resolve()) for root in roots):
        raise InputError(
            f"{path} is not under an allowed root.", "Add its folder to TAMIS_ALLOWED_ROOTS and restart the server."
        )
    return path


def _container(content: Content) -> Container:
    if content.size == 0:
        raise InputError(f"{content.name} is empty.", "It may have been cut off on its way: send it again.")
    head = _head(content)
    if head.startswith(ZIP_MAGICS):
        return open_zip(content)
    gzipped = head.startswith(GZIP_MAGIC)
    if gzipped:
        head = _unzipped_head(content)
    lone = lone_file(content, head, gzipped)
    if lone is not None:
        return lone
    if is_tar(head[:BLOCK]):
        return TarArchive(content, gzipped, listed=is_packed_folder(head))
    raise InputError(
        f"{content.name} is no archive that Tamis knows.",
        "Give a folder of images, a zip, tar or tar.gz archive, Parquet, or a CIFAR, STL-10 or IDX images file.",
    )


def _head(content: Content) -> bytes:
    try:
        with content.open() as file:
            return file.read(HEAD)
    except PermissionError as error:
        raise InputError(
            f"{content.name} cannot be read ({error.strerror}).", "Give its reader the right to."
        ) from error


def _unzipped_head(content: Content) -> bytes:
    try:
        with content.open() as raw, gzip.GzipFile(fileobj=raw) as file:
            return file.read(HEAD)
    except DAMAGE as error:
        raise InputError(
            f"{content.name} is damaged: its gzip data cannot be read ({error}).",
            "Compare its size with the original and upload it again.",
        ) from error
