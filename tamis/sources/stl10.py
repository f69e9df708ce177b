"""STL-10's binary layout (Coates, Ng and Lee, 2011): 96 x 96 RGB images, plane by plane, each plane column by column.

Labels, in a file of their own, are one byte each and begin at 1; `unlabeled_X.bin` has none.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from tamis.sources.entries import Entry, EntryError, Format, Picture, Refused
from tamis.sources.labels import label_text, lines_of
from tamis.sources.names import beside, last_part
from tamis.sources.pixels import picture

_SIDE = 96
_BYTES = 3 * _SIDE * _SIDE
_IMAGES, _LABELS = re.compile(r"(train|test|unlabeled)_X\.bin"), re.compile(r"(train|test)_y\.bin")
CLASS_NAMES = "class_names.txt"


def holds(name: str) -> bool:
    return _IMAGES.fullmatch(last_part(name)) is not None


def companions(name: str) -> set[str]:
    return {beside(name, last_part(name).replace("_X", "_y")), beside(name, CLASS_NAMES)}


def count(entry: Entry) -> int | None:
    if entry.size is not None and entry.size % _BYTES:
        raise EntryError(f"its {entry.size} bytes are no whole number of images, {_BYTES} bytes each")
    return None if entry.size is None else entry.size // _BYTES


def read(entry: Entry, companions: Mapping[str, bytes]) -> Iterator[Picture | Refused]:
    """Refuses labels that do not fit the number of images."""
    images = count(entry)
    labels_name, labels, names = "", b"", list[str]()
    for name, content in companions.items():
        if last_part(name) == CLASS_NAMES:
            names = [line for line in lines_of(content) if line]
        else:
            labels_name, labels = name, content
    if labels and images is not None and len(labels) != images:
        yield Refused(labels_name, f"it has {len(labels)} labels for {images} images; they are left out")
        labels = b""
    with entry.open() as file:
        number = 0
        while len(pixels := file.read(_BYTES)) == _BYTES:
            image = np.frombuffer(pixels, np.uint8).reshape(3, _SIDE, _SIDE).transpose(2, 1, 0)
            label = _named(labels[number], names) if number < len(labels) else None
            yield picture(f"{number:06}.png", image, label)
            number += 1


def companion(name: str) -> bool:
    last = last_part(name)
    return last == CLASS_NAMES or _LABELS.fullmatch(last) is not None


FORMAT = Format("STL-10", holds, companions, companion, count, read)


def _named(label: int, names: list[str]) -> str | None:
    if label == 0:
        return None
    return label_text(names[label - 1] if label <= len(names) else label)
