"""What every step has at hand: objects that never change, a folder to work in, and where to compute."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import NotFoundError
from tamis.progress import Progress

ROW_GROUP = 2**16

# Begins a stage, of a name and a message for people, and gives its progress.
Stage: TypeAlias = Callable[[str, str], Progress]


class Objects(Protocol):
    """A store of objects by key. Every write is atomic; what is not there raises NotFoundError."""

    def __hash__(self) -> int: ...

    def put(self, key: str, data: bytes | Path) -> None: ...

    def put_if_absent(self, key: str, data: bytes) -> bool: ...

    def get(self, key: str) -> bytes: ...

    def stream(self, key: str) -> Iterator[bytes]: ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> list[str]: ...

    def delete(self, key: str) -> None: ...

    def local_path(self, key: str) -> Path | None:
        """The object's file where the store is a folder."""


@dataclass(frozen=True, eq=False)
class Place:
    """scratch_folder: for working files. device: as of `resolve_device`.

    allow_torchscript: whether a checkpoint may be a program.
    """

    objects: Objects
    scratch_folder: Path
    device: str = "auto"
    allow_torchscript: bool = False

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for one step's working files, gone afterwards."""
        self.scratch_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch_folder) as folder:
            yield Path(folder)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """The object as a local file: itself where the store is a folder, a copy otherwise."""
        path = self.objects.local_path(key)
        if path is not None:
            yield path
            return
        with self.scratch() as folder:
            copy = folder / Path(key).name
            with copy.open("wb") as file:
                for chunk in self.objects.stream(key):
                    file.write(chunk)
            yield copy

    def put_file(self, folder: str, path: Path) -> str:
        """Stores a file in a folder of the objects, under its SHA-256; returns its key."""
        with path.open("rb") as file:
            key = f"{folder}/{hashlib.file_digest(file, 'sha256').hexdigest()}{path.suffix}"
        if not self.objects.exists(key):
            self.objects.put(key, path)
        return key

    def put_table(self, folder: str, table: pa.Table) -> str:
        """The same for a table, by way of a file and a part at a time: an index may be larger than memory."""
        with self.scratch() as scratch:
            path = scratch / "table.parquet"
            pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)
            return self.put_file(folder, path)

    def put_files(self, folder: str, files: dict[str, bytes]) -> str:
        """Stores named files as a folder of their own among the objects, under one hash over all; returns its key."""
        key = f"{folder}/{content_address(files)}"
        for name, content in files.items():
            self.objects.put_if_absent(f"{key}/{name}", content)
        return key

    def files(self, key: str) -> dict[str, bytes]:
        """What `put_files` stored."""
        return {found.rsplit("/", 1)[1]: self.objects.get(found) for found in self.objects.list(f"{key}/")}

    def device_for(self, asked: str) -> str:
        """The device for a request that asks for one, or for `auto`."""
        return self.device if asked == "auto" else asked

    def checkpoint(self, key: str) -> "StoredCheckpoint":
        return StoredCheckpoint(self.objects, key)


@dataclass(frozen=True)
class StoredCheckpoint:
    """A training's or scan's latest checkpoint among the objects, where any worker can go on from it."""

    objects: Objects
    key: str

    def load(self) -> bytes | None:
        try:
            return self.objects.get(self.key)
        except NotFoundError:
            return None

    def save(self, content: bytes) -> None:
        self.objects.put(self.key, content)

    def discard(self) -> None:
        self.objects.delete(self.key)


def content_address(files: dict[str, bytes]) -> str:
    """One hash over named files."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()
