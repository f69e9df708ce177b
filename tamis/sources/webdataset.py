"""WebDataset: in a tar archive, members that follow each other and share a key, the name up to its first dot.

`d/0001.jpg`, `d/0001.cls` and `d/0001.json` are one sample, labelled by the number or name in .cls, a field of .json
or the line in .txt.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from tamis.sources.columns import Fields, find_column
from tamis.sources.entries import MAX_ENTRY_BYTES, Entry, EntryError, RawSample, Refused
from tamis.sources.labels import LABEL_COLUMNS, label_text
from tamis.sources.names import is_image

LABELS = ("cls", "json", "txt")
MAX_LABEL_BYTES = 2**20


def split(name: str) -> tuple[str, str]:
    """Key and extension, in lower case: "a/1.seg.PNG" is "a/1" and "seg.png"."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def is_label(name: str) -> bool:
    return split(name)[1] in LABELS


def grouped(entries: Iterable[Entry | Refused], read: Callable[[Entry], RawSample]) -> Iterator[RawSample | Refused]:
    """Each image with the label that its key has; without one, with that which `read` gives it.

    Members that are neither image nor label are passed over where there is an image.
    """
    for _, members in groupby(entries, lambda entry: split(entry.name)[0]):
        yield from _group(members, read)


def _group(members: Iterable[Entry | Refused], read: Callable[[Entry], RawSample]) -> Iterator[RawSample | Refused]:
    images: list[RawSample] = []
    labels: dict[str, str | None] = {}
    first, size, refusals = "", 0, 0
    for entry in members:
        if isinstance(entry, Refused):
            refusals += 1
            yield entry
            continue
        first = first or entry.name
        try:
            if is_image(entry.name):
                if size + (entry.size or 0) > MAX_ENTRY_BYTES:
                    raise EntryError(f"the images of its key are more than {MAX_ENTRY_BYTES} bytes together")
                images.append(read(entry))
                size += len(images[-1].data)
            elif is_label(entry.name):
                extension = split(entry.name)[1]
                labels[extension] = _label(extension, _content(entry))
        except EntryError as error:
            refusals += 1
            yield Refused(entry.name, str(error))
    if first and not images and not refusals:
        yield Refused(first, "no image is among the files of its key")
    stated = [labels[extension] for extension in LABELS if labels.get(extension) is not None]
    for image in images:
        yield image._replace(label=stated[0]) if stated else image


def _content(entry: Entry) -> bytes:
    if entry.size is None or entry.size > MAX_LABEL_BYTES:
        raise EntryError(f"{entry.size} bytes are too many for a label; at most {MAX_LABEL_BYTES} are taken")
    with entry.open() as file:
        return file.read()


def _label(extension: str, content: bytes) -> str | None:
    try:
        text = content.decode("utf-8-sig").strip()
        if extension != "json":
            return label_text(text.partition("\n")[0])
        value = json.loads(text, object_pairs_hook=Fields)
    except (ValueError, RecursionError) as error:
        raise EntryError("its label cannot be read; its image is kept without it") from error
    if isinstance(value, Fields):
        column = find_column(value.names, LABEL_COLUMNS)
        value = None if column is None else value[column]
    try:
        return label_text(value)
    except EntryError as error:
        raise EntryError(f"its label is {error}, no single text or number; its image is kept without it") from error
