"""What `tamis curate` keeps between its runs: the objects its steps made, and which inputs they were made of."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.errors import NotFoundError, TamisError

# What the steps make of the same inputs; raised when that changes.
VERSION = 5
CHUNK = 2**20
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, eq=False)
class FolderObjects:
    """Objects in a folder, by key. A write is there whole or not at all, and stays when power is lost."""

    folder: Path

    def put(self, key: str, data: bytes | Path) -> None:
        path = self.local_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file, CHUNK)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        absent = not self.exists(key)
        if absent:
            self.put(key, data)
        return absent

    def get(self, key: str) -> bytes:
        try:
            return self.local_path(key).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"There is no object {key}.") from error

    def stream(self, key: str) -> Iterator[bytes]:
        yield self.get(key)

    def exists(self, key: str) -> bool:
        return self.local_path(key).is_file()

    def list(self, prefix: str) -> list[str]:
        found = (path for path in self.local_path(prefix).rglob("*") if path.is_file() and path.name[0] != ".")
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def delete(self, key: str) -> None:
        self.local_path(key).unlink(missing_ok=True)

    def local_path(self, key: str) -> Path:
        return self.folder / key


@dataclass(frozen=True, eq=False)
class Cache:
    """folder: may be removed at any time but while a command uses it; then everything is made anew."""

    folder: Path

    @property
    def objects(self) -> FolderObjects:
        return FolderObjects(self.folder / "objects")

    @property
    def scratch(self) -> Path:
        """For working files of this process."""
        return self.folder / "scratch" / str(os.getpid())

    def once(self, step: str, inputs: Any, work: Callable[[], Any], keys: Callable[[Any], list[str]]) -> Any:
        """What `work` returned for these inputs, now or in an earlier run, if the objects it tells of are still there.

        inputs, and what work returns: JSON values. keys: of the objects that a returned value tells of.
        """
        key = f"steps/{step}-{fingerprint_of(inputs)}.json"
        try:
            found = json.loads(self.objects.get(key))
        except (NotFoundError, ValueError):
            found = None
        if found is None or not all(map(self.objects.exists, keys(found))):
            found = work()
            self.objects.put(key, json.dumps(found).encode())
        return found

    def size(self) -> int:
        """Bytes of everything in it."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def open_cache(folder: Path | None = None) -> Cache:
    """The cache in `folder`, by default TAMIS_CACHE or else `tamis` in the user's cache folder.

    What killed runs left half done is removed. Raises TamisError when it cannot be written.
    """
    cache = Cache((folder or default_folder()).absolute())
    try:
        cache.objects.folder.mkdir(parents=True, exist_ok=True)
        for left in (cache.folder / "scratch").glob("*"):
            if not _runs(left.name):
                shutil.rmtree(left, ignore_errors=True)
        for partial in cache.objects.folder.rglob(".*.*"):
            if not _runs(partial.name.rpartition(".")[2]):
                partial.unlink(missing_ok=True)
        cache.scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TamisError(
            f"{cache.folder}, where Tamis keeps what it makes on the way, cannot be written: {error.strerror}.",
            "Name another folder with --cache, or free some space.",
        ) from error
    return cache


@contextmanager
def room_in(folder: Path, option: str) -> Iterator[None]:
    """Writes to the folder that another can be named for: without room, raises TamisError that says where and how.

    An error that names another folder, as one of TMPDIR, stays as it is.
    """
    try:
        yield
    except OSError as error:
        here = str(error.filename or folder).startswith(str(folder))
        # NumPy's errors have no number.
        if here and (error.errno in NO_ROOM or "requested and" in str(error)):
            raise TamisError(
                f"There is no room for what is to be written to {folder}: {error.strerror or error}.",
                f"Free some space, or name another folder with {option}; what is finished is kept.",
            ) from error
        raise


def default_folder() -> Path:
    named = os.environ.get("TAMIS_CACHE")
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tamis")


def fingerprint_of(inputs: Any) -> str:
    return hashlib.sha256(json.dumps([VERSION, inputs], sort_keys=True).encode()).hexdigest()


def state_of(source: Path) -> list[Any]:
    """What tells whether a folder or a file has changed: names, sizes and times of all that is in it."""
    digest = hashlib.sha256()
    for path in sorted(_files(source)):
        found = path.stat(follow_symlinks=True)
        digest.update(os.fsencode(path) + f"\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return [str(source.absolute()), digest.hexdigest()]


def _files(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        # Labels may be in a file beside it.
        yield from (path for path in source.parent.iterdir() if path.is_file())
        return
    seen = set()
    for folder, inner, names in os.walk(source, followlinks=True):
        # Links may lead around in circles.
        seen.add(os.path.realpath(folder))
        inner[:] = [name for name in inner if os.path.realpath(Path(folder, name)) not in seen]
        # What is a link to nowhere has no state.
        yield from (path for name in names if (path := Path(folder, name)).exists())


def _runs(pid: str) -> bool:
    if not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
