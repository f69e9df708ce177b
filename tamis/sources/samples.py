"""From the files of a container to samples: names checked, IDX taken apart, what cannot be used refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO
from urllib.parse import quote

from tamis.errors import InputError
from tamis.sources import idx
from tamis.sources.entries import MAX_ENTRIES, MAX_ENTRY_BYTES, Container, Entry, EntryError, RawSample, Refused
from tamis.sources.names import clean, hidden, shown

TWICE = "the name occurs twice; the first was kept"

_ARCHIVE_MAGICS = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf'\x1c", b"Rar!", b"(\xb5/\xfd")
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257


@dataclass(frozen=True)
class Samples:
    """The Source over any container."""

    container: Container
    total: int | None

    def __iter__(self) -> Iterator[RawSample | Refused]:
        """Raises InputError where the container is damaged, or holds more than MAX_ENTRIES."""
        seen: set[str] = set()
        for count, sample in enumerate(_samples(self.container), 1):
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


def open_samples(container: Container) -> Samples:
    """Raises InputError at once when the container holds no file."""
    if next(_entries(container), None) is None:
        raise InputError(f"{container.name} holds no files.", "Put images in it; hidden files do not count.")
    return Samples(container, _total(container) if container.listed else None)


def _total(container: Container) -> int:
    return sum(1 if isinstance(entry, Refused) else _count(entry) for entry in _entries(container))


def _count(entry: Entry) -> int:
    """Of samples the entry will give, as far as its name and header tell."""
    if idx.is_labels(entry.name):
        return 0
    if not idx.is_images(entry.name):
        return 1
    try:
        with _opened(entry) as file:
            return idx.read_shape(file, _plain_size(entry))[0]
    except EntryError:
        return 1


def _entries(container: Container) -> Iterator[Entry | Refused]:
    """What is not hidden, by clean names."""
    for entry in container:
        try:
            name = clean(entry.name)
        except EntryError as error:
            yield Refused(shown(entry.name), str(error))
            continue
        if not hidden(name):
            yield Refused(name, entry.refusal) if entry.refusal else replace(entry, name=name)


def _samples(container: Container) -> Iterator[RawSample | Refused]:
    for entry in _entries(container):
        if isinstance(entry, Refused):
            yield entry
        elif not idx.is_labels(entry.name):
            try:
                if idx.is_images(entry.name):
                    yield from _expanded(container, entry)
                else:
                    yield _sample(container, entry)
            except EntryError as error:
                yield Refused(entry.name, str(error))


def _sample(container: Container, entry: Entry) -> RawSample:
    if entry.size is not None and entry.size > MAX_ENTRY_BYTES:
        raise EntryError(f"{entry.size} bytes are too many for one image; at most {MAX_ENTRY_BYTES} are taken")
    with entry.open() as file:
        data = file.read()
    if data.startswith(_ARCHIVE_MAGICS) or data.startswith(_TAR_MAGIC, _TAR_MAGIC_AT):
        raise EntryError("an archive inside the data set; unpack it, or make it a data set of its own")
    folder, _, _ = entry.name.rpartition("/")
    uri = _inner_uri(entry, entry.name) if container.archived else entry.uri
    return RawSample(entry.name, data, folder.rpartition("/")[2] or None, uri)


def _expanded(container: Container, entry: Entry) -> Iterator[RawSample | Refused]:
    """The images of an IDX file, read one at a time."""
    found = _labels(container, entry.name)
    if isinstance(found, Refused):
        yield found
    labels_name, labels = found if isinstance(found, tuple) else ("", b"")
    folder = entry.name.removesuffix(".gz")
    with _opened(entry) as file:
        shape = idx.read_shape(file, _plain_size(entry))
        if labels and len(labels) != shape[0]:
            yield Refused(labels_name, f"it has {len(labels)} labels for {shape[0]} images; they are left out")
            labels = b""
        for number, data in enumerate(idx.read_images(file, shape)):
            sample_id = f"{folder}/{number:06}.png"
            yield RawSample(sample_id, data, str(labels[number]) if labels else None, _inner_uri(entry, sample_id))


def _labels(container: Container, images: str) -> tuple[str, bytes] | Refused | None:
    """The name of the labels file that belongs to `images`, and the labels; or why they cannot be read."""
    names = idx.labels_names(images)
    for entry in _entries(container):
        if isinstance(entry, Entry) and entry.name in names:
            try:
                with _opened(entry) as file:
                    return entry.name, idx.read_labels(file)
            except EntryError as error:
                return Refused(entry.name, str(error))
    return None


@contextmanager
def _opened(entry: Entry) -> Iterator[BinaryIO]:
    with entry.open() as raw, idx.unzipped(raw, entry.name.endswith(".gz")) as file:
        yield file


def _plain_size(entry: Entry) -> int | None:
    return None if entry.name.endswith(".gz") else entry.size


def _inner_uri(entry: Entry, sample_id: str) -> str:
    return f"{entry.uri}#{quote(sample_id)}" if entry.uri else ""
