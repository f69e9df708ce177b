"""Hugging Face's imagefolder: metadata.csv, .jsonl or .parquet beside images, a row a file, with its label."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.sources.columns import UNFIT, Fields, Tally, find_column, values_of
from tamis.sources.entries import EntryError, Refused
from tamis.sources.labels import LABEL_COLUMNS, Said, label_text
from tamis.sources.names import beside, clean, last_part, shown

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_COLUMN = "file_name"

# What is wrong with rows from which nothing is taken, and what to do about it.
_LONG = "have more fields than the header, and nothing is taken from them", "put quotes around a field with a comma"
_SHORT = "end before their label, and nothing is taken from them", "give each row the fields of the header"
_BROKEN = "have a label of several lines, and nothing is taken from them", "close its quotes, or write it in one line"
_NAMELESS = "name no file", f"say in {FILE_COLUMN} which image a row is of"


def is_metadata(name: str) -> bool:
    return last_part(name) in NAMES


class Table(NamedTuple):
    """rows: names of files in the container and what is said of each. labelled: whether it has a column of labels;
    without, folders tell. refused: rows that name no file, and what is wrong with the others."""

    rows: Sequence[tuple[str, Said]]
    labelled: bool
    refused: list[Refused]


class _Row(NamedTuple):
    """number: of its line, or of the row where there are no lines, from 1 on. fault: why nothing is taken from it."""

    number: int
    file: object = None
    label: object = None
    labelled: bool = False
    fault: tuple[str, str] | None = None


def read_metadata(name: str, content: bytes) -> Table:
    """Raises EntryError where the table cannot be read, has no rows or no column `file_name`."""
    read, noun = {"csv": (_csv, "line"), "jsonl": (_jsonl, "line"), "parquet": (_parquet, "row")}[
        name.rpartition(".")[2]
    ]
    rows: list[tuple[str, Said]] = []
    labelled = False
    refused: list[Refused] = []
    tally, count = Tally(), 0
    try:
        for row in read(content):
            count += 1
            labelled = labelled or row.labelled
            place = f"{noun} {row.number}"
            if row.fault is not None or row.file in (None, "", b""):
                tally.add(row.fault or _NAMELESS, place)
                continue
            file = row.file.decode("utf-8", "surrogateescape") if isinstance(row.file, bytes) else str(row.file)
            try:
                file = beside(name, clean(file))
            except EntryError as error:
                refused.append(Refused(shown(f"{name}: {file}"), str(error)))
                continue
            try:
                label = label_text(row.label)
            except EntryError as error:
                tally.add(UNFIT, f"{place}, {error}")
                label = None
            rows.append((file, Said(label, name, noun, row.number)))
    except (ValueError, RecursionError, pa.ArrowException, OSError) as error:
        raise EntryError("the table is damaged or of another format than its name says") from error
    if not count:
        raise EntryError("the table has no rows")
    return Table(rows, labelled, [*refused, *tally.told(name, count)])


def _columns(names: Sequence[str]) -> tuple[str, str | None]:
    """Those of the files and of the labels. Raises EntryError where the former is missing."""
    names = tuple(names)
    file = find_column(names, (FILE_COLUMN,))
    if file is None:
        raise EntryError(f"it has no column {FILE_COLUMN}")
    return file, find_column(names, LABEL_COLUMNS)


def _csv(content: bytes) -> Iterator[_Row]:
    """Quotes that do not match are an error: read on regardless, they make one label of several rows."""
    # A field may be as long as the table, whose size is bounded. The limit is the module's own, of all its readers.
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))
    lines = csv.reader(io.StringIO(_text(content), newline=""), strict=True)
    number = 1
    header: tuple[int, int, int] | None = None
    try:
        for fields in lines:
            if header is not None and fields:
                yield _csv_row(number, fields, *header)
            elif fields:
                file, label = _columns(fields)
                header = len(fields), fields.index(file), -1 if label is None else fields.index(label)
            number = lines.line_num + 1
    except csv.Error as error:
        raise EntryError(
            f"its quotes do not match from line {number} on ({error}): close each, and write one in a field twice"
        ) from error


def _csv_row(number: int, fields: list[str], width: int, file: int, label: int) -> _Row:
    """width: how many fields the header has. file, label: their places among these, -1 where there is none."""
    labelled = label >= 0
    if any(fields[width:]):
        return _Row(number, labelled=labelled, fault=_LONG)
    if len(fields) <= max(file, label):
        return _Row(number, labelled=labelled, fault=_SHORT)
    said = fields[label].strip() if labelled else None
    if said is not None and ("\n" in said or "\r" in said):
        return _Row(number, labelled=labelled, fault=_BROKEN)
    return _Row(number, fields[file], said, labelled)


def _jsonl(content: bytes) -> Iterator[_Row]:
    # By \n alone, as JSON Lines has it: a string of JSON may hold the other ends of lines that Unicode knows.
    for number, line in enumerate(_text(content).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line, object_pairs_hook=Fields)
        except (ValueError, RecursionError) as error:
            raise EntryError(f"line {number} of it is no JSON") from error
        if not isinstance(row, Fields):
            raise EntryError(f"line {number} of it is no JSON object")
        try:
            file, label = _columns(row.names)
        except EntryError as error:
            raise EntryError(f"line {number}: {error}") from error
        yield _Row(number, row[file], None if label is None else row[label], label is not None)


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EntryError("its text is not UTF-8: save it as that") from error


def _parquet(content: bytes) -> Iterator[_Row]:
    table = pq.ParquetFile(pa.BufferReader(content))
    file, label = _columns(table.schema_arrow.names)
    number = 1
    for batch in table.iter_batches(1024, columns=[file] if label is None else [file, label], use_threads=False):
        files = batch[file].to_pylist()
        labels = [None] * len(files) if label is None else values_of(batch[label])
        for name, said in zip(files, labels, strict=True):
            yield _Row(number, name, said, label is not None)
            number += 1
