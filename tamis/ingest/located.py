"""The images of a manifest, found where they are: by their URIs, or in what the manifest was made of."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

from tamis.errors import InputError
from tamis.ingest.linked import file_of
from tamis.sources import RawSample, open_source
from tamis.sources.formats import format_of

# Gives the place among the sample ids, and the file, of each image that it has.
Find: TypeAlias = Callable[[Sequence[str]], Iterable[tuple[int, bytes]]]

NAMED = 5


def finder(uris: Sequence[str], source: str | Path | None = None) -> tuple[Find, str]:
    """Who finds the images, and what to say where one is missing.

    source: the folder or archive that the manifest was made of. Without, the URIs say where each image is, one a sample
    id: `file:///...`, with a fragment for the member of an archive, which is read once and in order.
    """
    if source is None:
        hint = "Name the folder or archive the manifest was made of with --images."
        return lambda sample_ids: _located(uris), hint
    place = source

    def find(sample_ids: Sequence[str]) -> Iterator[tuple[int, bytes]]:
        return _members(place, {name: row for row, name in enumerate(sample_ids)})

    return find, f"Is {source} what the manifest was made of?"


def complain(sample_ids: Sequence[str], missing: Sequence[int], altered: Sequence[int], hint: str) -> None:
    """Raises InputError that names the first images which are missing or altered, if any are."""
    causes = [
        f"{len(rows)} {what}: " + ", ".join(sample_ids[row] for row in rows[:NAMED]) + ("..." * (len(rows) > NAMED))
        for rows, what in ((missing, "missing"), (altered, "altered or damaged"))
        if rows
    ]
    if causes:
        raise InputError(f"Of {len(sample_ids)} images {'; '.join(causes)}.", hint)


def _members(source: str | Path, wanted: Mapping[str, int], tail: bool = False) -> Iterator[tuple[int, bytes]]:
    """Row and content of each sample of a source that is wanted by name, or by the last two parts of its name."""
    left = {_last_two(name) if tail else name: row for name, row in wanted.items()}
    for sample in open_source(source):
        if not left:
            return
        if isinstance(sample, RawSample):
            row = left.pop(_last_two(sample.sample_id) if tail else sample.sample_id, None)
            if row is not None:
                yield row, sample.data


def _last_two(name: str) -> str:
    return "/".join(name.split("/")[-2:])


def _located(uris: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    archives: dict[Path, dict[str, int]] = {}
    for row, uri in enumerate(uris):
        place, _, member = uri.partition("#")
        path = file_of(place)
        if path is not None and member:
            archives.setdefault(path, {})[unquote(member)] = row
        elif path is not None and path.is_file():
            yield row, path.read_bytes()
    for path, wanted in archives.items():
        if path.is_file():
            # A data set may hold files of many images in folders, whose names such a file opened alone does not know.
            yield from _members(path, wanted, tail=format_of(path.name) is not None)
