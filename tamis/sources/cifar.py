"""CIFAR-10 and CIFAR-100, in the binary and the Python layout of their authors (Krizhevsky, 2009).

Binary: records of one label byte (CIFAR-100: coarse, then fine) and 3,072 bytes, 32 x 32 pixels plane by plane. Python:
a pickled dict with such rows under `data`. Labels are CIFAR-100's fine ones, by name where a names file is present.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from tamis.sources.entries import MAX_ENTRY_BYTES, Entry, EntryError, Format, Picture, Refused
from tamis.sources.labels import label_text, lines_of
from tamis.sources.names import beside, last_part
from tamis.sources.pickles import Value, read_array, read_pickle
from tamis.sources.pixels import picture

_PIXELS = 3 * 32 * 32
_BINARY_10, _BINARY_100 = re.compile(r"(data_batch_\d+|test_batch)\.bin"), re.compile(r"(train|test)\.bin")
_PYTHON_10, _PYTHON_100 = re.compile(r"data_batch_\d+|test_batch"), re.compile(r"train|test")


def _holds(ten: re.Pattern[str], hundred: re.Pattern[str], name: str) -> bool:
    last = last_part(name)
    return ten.fullmatch(last) is not None or hundred.fullmatch(last) is not None


def holds_binary(name: str) -> bool:
    return _holds(_BINARY_10, _BINARY_100, name)


def holds_python(name: str) -> bool:
    return _holds(_PYTHON_10, _PYTHON_100, name)


def count_binary(entry: Entry) -> int | None:
    length = _record_bytes(entry.name)
    if entry.size is not None and entry.size % length:
        raise EntryError(f"its {entry.size} bytes are no whole number of images, {length} bytes each")
    return None if entry.size is None else entry.size // length


def read_binary(entry: Entry, companions: Mapping[str, bytes]) -> Iterator[Picture | Refused]:
    count_binary(entry)
    length = _record_bytes(entry.name)
    known = [line for content in companions.values() for line in lines_of(content) if line]
    with entry.open() as file:
        number = 0
        while len(record := file.read(length)) == length:
            yield _picture(number, np.frombuffer(record, np.uint8)[-_PIXELS:], _named(record[-_PIXELS - 1], known))
            number += 1


def count_python(entry: Entry) -> int | None:
    if entry.size is not None and entry.size > MAX_ENTRY_BYTES:
        raise EntryError(f"{entry.size} bytes are too many for a CIFAR batch; at most {MAX_ENTRY_BYTES} are taken")
    return None


def read_python(entry: Entry, companions: Mapping[str, bytes]) -> Iterator[Picture | Refused]:
    """Raises EntryError for a pickle that is damaged, asks for anything to be run, or holds no such images."""
    count_python(entry)
    with entry.open() as file:
        batch = _dict(read_pickle(file.read()))
    rows = read_array(batch.get("data"))
    labels = batch.get("fine_labels", batch.get("labels"))
    if rows.ndim != 2 or rows.shape[1] != _PIXELS:
        raise EntryError(f"its data has shape {rows.shape}, not rows of {_PIXELS} bytes")
    known: list[str] = []
    for name, content in companions.items():
        try:
            meta = _dict(read_pickle(content))
            known = [_text(each) for each in _list(meta.get("fine_label_names", meta.get("label_names")))]
        except EntryError as error:
            yield Refused(name, str(error))
    if not isinstance(labels, list) or len(labels) != len(rows) or not all(map(_is_label, labels)):
        yield Refused(entry.name, f"it does not hold {len(rows)} labels for its {len(rows)} images; they are left out")
        labels = [None] * len(rows)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        yield _picture(number, row, None if label is None else _named(label, known))


def _beside(name: str, ten: str, hundred: str) -> set[str]:
    return {beside(name, ten if _is_ten(name) else hundred)}


BINARY = Format(
    "binary CIFAR",
    holds_binary,
    lambda name: _beside(name, "batches.meta.txt", "fine_label_names.txt"),
    lambda name: last_part(name) in {"batches.meta.txt", "fine_label_names.txt"},
    count_binary,
    read_binary,
)
PYTHON = Format(
    "pickled CIFAR",
    holds_python,
    lambda name: _beside(name, "batches.meta", "meta"),
    lambda name: last_part(name) in {"batches.meta", "meta"},
    count_python,
    read_python,
)


def _is_ten(name: str) -> bool:
    return "batch" in last_part(name)


def _record_bytes(name: str) -> int:
    return _PIXELS + (1 if _is_ten(name) else 2)


def _picture(number: int, planes: npt.NDArray[np.uint8], label: str | None) -> Picture:
    return picture(f"{number:05}.png", planes.reshape(3, 32, 32).transpose(1, 2, 0), label)


def _named(label: int, names: list[str]) -> str | None:
    return label_text(names[label] if 0 <= label < len(names) else label)


def _is_label(value: Value) -> bool:
    return isinstance(value, int) and abs(value) < 2**63


def _dict(value: Value) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise EntryError("its pickle is no dict")
    return {_text(key): each for key, each in value.items()}


def _list(value: Value) -> list[Value]:
    if not isinstance(value, list):
        raise EntryError("its pickle holds no list of names")
    return value


def _text(value: Value) -> str:
    if not isinstance(value, bytes | str):
        raise EntryError("its pickle holds something else where a name should be")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
