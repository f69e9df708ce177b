"""The values that pass between the formats, the reader of samples and whoever asks for them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

MAX_ENTRY_BYTES = 256 * 2**20
MAX_ENTRIES = 50_000_000


@dataclass(frozen=True)
class RawSample:
    """One image file as it is stored; whether it decodes is not known yet.

    sample_id: its path inside the source, unique there.
    label: the name of its folder, or what a labels file says; None where there is neither.
    uri: where it is on this machine; "" for an upload.
    """

    sample_id: str
    data: bytes
    label: str | None
    uri: str


@dataclass(frozen=True)
class Refused:
    """An entry that gives no sample, and why."""

    name: str
    reason: str


class Source(Protocol):
    """Samples in an order that is always the same; may be gone through more than once."""

    def __iter__(self) -> Iterator[RawSample | Refused]: ...

    @property
    def total(self) -> int | None:
        """How many it yields, if known without reading them."""


class EntryError(Exception):
    """Why one entry cannot be read, in words for the quarantine list; what surrounds the entry is fine."""


@dataclass(frozen=True)
class Entry:
    """One file of a container, not read yet.

    name: as stored: not to be trusted, nor to be shown, before it is cleaned.
    open: its content; where a container is a stream, only until the next entry is asked for. The context it returns
        raises EntryError, or InputError where the whole container is damaged, for errors of reading inside it.
    size: bytes of its content, None if unknown.
    uri: of the file on this machine that is the entry or holds it; "" for an upload.
    refusal: why it must not be opened; "" if it may.
    """

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    size: int | None = None
    uri: str = ""
    refusal: str = ""


class Container(Protocol):
    """The files of a folder or archive, folders left out, in an order that is always the same."""

    def __iter__(self) -> Iterator[Entry]: ...

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def archived(self) -> bool:
        """Whether the entries' `uri` is of the archive and not of the entry."""

    @property
    def listed(self) -> bool:
        """Whether the entries can be gone through without reading their contents."""
