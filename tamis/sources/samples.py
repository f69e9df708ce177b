"""From the files of a container to samples: names checked, files of many images taken apart, the unusable refused."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from urllib.parse import quote

from tamis.errors import InputError
from tamis.sources import webdataset
from tamis.sources.content import upload_content
from tamis.sources.entries import (
    MAX_ENTRIES,
    MAX_ENTRY_BYTES,
    TWICE,
    Container,
    Entry,
    EntryError,
    Format,
    RawSample,
    Reference,
    Refused,
)
from tamis.sources.formats import LoneFile, format_of
from tamis.sources.gunzip import GZIP_MAGIC
from tamis.sources.labels import Said
from tamis.sources.names import beside, clean, hidden, shown
from tamis.sources.survey import Survey, entries, survey
from tamis.sources.tar_archive import TarArchive, is_tar_name

_ARCHIVE_MAGICS = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf'\x1c", b"Rar!", b"(\xb5/\xfd")
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257


@dataclass(frozen=True)
class Samples:
    """The Source over any container."""

    container: Container

    def __iter__(self) -> Iterator[RawSample | Refused]:
        """Raises InputError where the container is damaged, or holds more than MAX_ENTRIES."""
        seen: set[str] = set()
        for count, sample in enumerate(_samples(self.container, self._survey), 1):
            if count > MAX_ENTRIES:
                raise InputError(
                    f"{self.container.name} holds more than {MAX_ENTRIES} images.", "Split it into several data sets."
                )
            if isinstance(sample, Refused):
                yield sample
            elif sample.sample_id in seen:
                yield Refused(sample.sample_id, TWICE)
            else:
                seen.add(sample.sample_id)
                yield sample
        yield from self._survey.unnamed(seen)

    @property
    def total(self) -> int | None:
        return self._survey.total

    @cached_property
    def _survey(self) -> Survey:
        return survey(self.container)


def open_samples(container: Container) -> Samples:
    """Raises InputError at once when the container holds no file."""
    if next(entries(container), None) is None:
        raise InputError(f"{container.name} holds no files.", "Put images in it; hidden files do not count.")
    return Samples(container)


def _samples(container: Container, found: Survey) -> Iterator[RawSample | Refused]:
    yield from found.refused
    if found.grouped:
        yield from webdataset.grouped(_files(container, found), partial(_sample, container, found))
        return
    referred: dict[str, Said] = {}
    for entry in _files(container, found):
        if isinstance(entry, Refused):
            yield entry
        elif entry.name not in referred:
            try:
                yield from _opened(container, found, entry, referred)
            except EntryError as error:
                if isinstance(container, LoneFile):
                    raise container.damaged(error) from error
                yield Refused(entry.name, str(error))


def _files(container: Container, found: Survey) -> Iterator[Entry | Refused]:
    """What may hold samples; first of all, what may refer to the rest."""
    files = (entry for entry in entries(container) if entry.name not in found.passed_over)
    if not found.referring:
        yield from files
        return
    yield from (entry for entry in files if format_of(entry.name))
    yield from (
        entry for entry in entries(container) if entry.name not in found.passed_over and not format_of(entry.name)
    )


def _opened(
    container: Container, found: Survey, entry: Entry, referred: dict[str, Said]
) -> Iterator[RawSample | Refused]:
    holder = format_of(entry.name)
    if holder is not None:
        yield from _pictures(container, found, entry, holder, referred)
    elif found.sharded and is_tar_name(entry.name):
        yield from _shard(entry)
    else:
        yield _sample(container, found, entry)


def _sample(container: Container, found: Survey, entry: Entry) -> RawSample:
    if entry.size is not None and entry.size > MAX_ENTRY_BYTES:
        raise EntryError(f"{entry.size} bytes are too many for one image; at most {MAX_ENTRY_BYTES} are taken")
    with entry.open() as file:
        data = file.read()
    if data.startswith(_ARCHIVE_MAGICS) or data.startswith(_TAR_MAGIC, _TAR_MAGIC_AT):
        raise EntryError("an archive inside the data set; unpack it, or make it a data set of its own")
    uri = _inner_uri(entry, entry.name) if container.archived else entry.uri
    return RawSample(entry.name, data, found.labels.of(entry.name), uri)


def _pictures(
    container: Container, found: Survey, entry: Entry, holder: Format, referred: dict[str, Said]
) -> Iterator[RawSample | Refused]:
    """The images of a file that holds many. The files it refers to are added to `referred`."""
    folder = entry.name.removesuffix(".gz")
    wanted = sorted(holder.companions(entry.name))
    companions = {name: found.companions[name] for name in wanted if name in found.companions}
    for picture in holder.read(entry, companions):
        if isinstance(picture, Refused):
            yield picture
        elif isinstance(picture, Reference):
            yield from _referred(container, found, entry, picture, referred)
        else:
            sample_id = f"{folder}/{picture.name}"
            yield RawSample(sample_id, picture.data, picture.label, _inner_uri(entry, sample_id), picture.size)


def _referred(
    container: Container, found: Survey, entry: Entry, reference: Reference, referred: dict[str, Said]
) -> Iterator[RawSample | Refused]:
    """The image, once; and where another row, or a table of labels, says something else of it, that too."""
    told = f"{entry.name}: {shown(reference.name)}"
    said = Said(reference.label, entry.name, "row", reference.row)
    try:
        name = beside(entry.name, clean(reference.name))
        if name in referred:
            contradicted = said.label not in (None, referred[name].label)
            raise EntryError(f"{referred[name]}, {said}; the first was kept" if contradicted else TWICE)
        file = None if hidden(name) else container.find(name)
        if file is None:
            raise EntryError("the file is not in the folder")
        if file.refusal:
            raise EntryError(file.refusal)
        sample = _sample(container, found, file._replace(name=name))
    except EntryError as error:
        yield Refused(told, str(error))
        return
    referred[name] = said
    stated = found.labels.stated.get(name)
    if said.label is not None and stated not in (None, said.label):
        yield Refused(told, f"{said}, but a table of labels says {stated}; it goes without a label")
        sample = sample._replace(label=None)
    elif said.label is not None:
        sample = sample._replace(label=said.label)
    yield sample._replace(uri=file.uri) if isinstance(container, LoneFile) else sample


def _shard(entry: Entry) -> Iterator[RawSample | Refused]:
    """The samples of a tar archive, below its name."""
    with entry.open() as file:
        gzipped = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        archive = TarArchive(replace(upload_content(file, entry.name), uri=entry.uri), gzipped)
        try:
            for sample in _samples(archive, survey(archive, nested=True)):
                if isinstance(sample, Refused):
                    yield sample._replace(name=f"{entry.name}/{sample.name}")
                else:
                    yield sample._replace(sample_id=f"{entry.name}/{sample.sample_id}")
        except InputError as error:
            raise EntryError(str(error)) from error


def _inner_uri(entry: Entry, sample_id: str) -> str:
    return f"{entry.uri}#{quote(sample_id)}" if entry.uri else ""
