"""The values that pass between the formats, the reader of samples and whoever asks for them.

Of those there are one or more a sample, which are made in a third of the time that frozen data classes take.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

TWICE = "the name occurs twice; the first was kept"
MAX_ENTRY_BYTES = 256 * 2**20
MAX_ENTRIES = 50_000_000
# An image hardly compresses at all; what shrinks two hundredfold was made to fill memory or time.
MAX_RATIO = 200
MAX_UNSUSPECTED_BYTES = 16 * 2**20


class RawSample(NamedTuple):
    """One image file as it is stored; whether it decodes is not known yet.

    sample_id: its path inside the source, unique there.
    label: what a labels file says, or the name of its folder; None where there is neither.
    uri: where it is, on this machine or in a bucket; "" for an upload.
    size: width and height, where the file was made here of pixels, and so is known to decode; otherwise None.
    """

    sample_id: str
    data: bytes
    label: str | None
    uri: str
    size: tuple[int, int] | None = None


class Refused(NamedTuple):
    """An entry that gives no sample, and why."""

    name: str
    reason: str


class Source(Protocol):
    """Samples in an order that is always the same; may be gone through more than once."""

    def __iter__(self) -> Iterator[RawSample | Refused]: ...

    @property
    def total(self) -> int | None:
        """About how many it yields, if that is known without reading them: for progress."""


class EntryError(Exception):
    """Why one entry cannot be read, in words for the quarantine list; what surrounds the entry is fine."""


class UnsuitedError(EntryError):
    """The entry is whole, but holds no images."""


class Entry(NamedTuple):
    """One file of a container, not read yet.

    name: as stored: not to be trusted, nor to be shown, before it is cleaned.
    open: its content; where a container is a stream, only until the next entry is asked for. The context it returns
        raises EntryError, or InputError where the whole container is damaged, for errors of reading inside it.
    size: bytes of its content, None if unknown.
    uri: of the file or object that is the entry or holds it; "" for an upload.
    refusal: why it must not be opened; "" if it may.
    seekable: whether its content can be read in any order at little cost.
    """

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    size: int | None = None
    uri: str = ""
    refusal: str = ""
    seekable: bool = True


class Container(Protocol):
    """The files of a folder, archive or bucket, folders left out, in an order that is always the same."""

    def __iter__(self) -> Iterator[Entry]: ...

    def find(self, name: str) -> Entry | None:
        """The file of that clean name, where one can be had out of order; otherwise None."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def archived(self) -> bool:
        """Whether the entries' `uri` is of the archive and not of the entry."""

    @property
    def listed(self) -> bool:
        """Whether it is a folder or like one: files that follow each other are not one sample for that."""


class Picture(NamedTuple):
    """One image out of a file of many. name: within that file. data: a whole image file. size: as a RawSample's."""

    name: str
    data: bytes
    label: str | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Reference:
    """An image that is a file beside the one that names it; `name` is as stored there, not to be trusted.

    row: which of it names the image, from 1 on.
    """

    name: str
    label: str | None = None
    row: int = 1


@dataclass(frozen=True)
class Format:
    """Files that hold many images each, known by their clean names.

    title: for messages.
    holds: whether a file of this name holds images of this format.
    companions: what the files that say something about the images of the file `name` may be called.
    companion: whether a file may be the companion of any.
    count: of images in an entry, by its size or header; None if that would take reading it. Raises EntryError where
        these cannot be right.
    read: the images in an entry, in order, given the contents of those companions that there are, by name. Raises
        EntryError where the entry is damaged, after the images before that place.
    """

    title: str
    holds: Callable[[str], bool]
    companions: Callable[[str], set[str]]
    companion: Callable[[str], bool]
    count: Callable[[Entry], int | None]
    read: Callable[[Entry, Mapping[str, bytes]], Iterator[Picture | Reference | Refused]]
