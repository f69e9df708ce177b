"""Where an unfinished scan or training is kept."""

from pathlib import Path
from typing import Protocol


class Checkpoint(Protocol):
    """A place for one checkpoint's bytes; whoever saves decides what they are."""

    def load(self) -> bytes | None:
        """What was saved last, None if nothing."""

    def save(self, content: bytes) -> None:
        """Replaces what was saved, wholly or not at all."""

    def discard(self) -> None:
        """Removes what was saved, once what it belongs to has ended."""


class FileCheckpoint:
    """A Checkpoint in a file, whose folder exists."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        return self._path.read_bytes() if self._path.is_file() else None

    def save(self, content: bytes) -> None:
        partial = self._path.with_name(f".{self._path.name}.partial")
        partial.write_bytes(content)
        partial.replace(self._path)

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
