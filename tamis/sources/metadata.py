"""Hugging Face's imagefolder: metadata.csv, .jsonl or .parquet beside images, a row a file, with its label."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.sources.entries import EntryError, Refused
from tamis.sources.labels import LABEL_COLUMNS, label_text
from tamis.sources.names import beside, clean, last_part, shown

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_COLUMN = "file_name"


def is_metadata(name: str) -> bool:
    return last_part(name) in NAMES


class Table(NamedTuple):
    """labels: of the files in the container by their names. labelled: whether it has a column of labels; without,
    folders tell. refused: rows that name no file."""

    labels: dict[str, str | None]
    labelled: bool
    refused: list[Refused]


def read_metadata(name: str, content: bytes) -> Table:
    """Raises EntryError where the table cannot be read or has no column `file_name`."""
    rows = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[name.rpartition(".")[2]]
    labels: dict[str, str | None] = {}
    labelled = False
    refused: list[Refused] = []
    try:
        for row in rows(content):
            if FILE_COLUMN not in row:
                raise EntryError(f"it has no column {FILE_COLUMN}")
            try:
                file = beside(name, clean(str(row[FILE_COLUMN])))
            except EntryError as error:
                refused.append(Refused(shown(f"{name}: {row[FILE_COLUMN]}"), str(error)))
                continue
            column = next((column for column in LABEL_COLUMNS if column in row), None)
            labels[file] = None if column is None else label_text(row[column])
            labelled = labelled or column is not None
    except (ValueError, RecursionError, csv.Error, pa.ArrowException, OSError) as error:
        raise EntryError("the table is damaged or of another format than its name says") from error
    return Table(labels, labelled, refused)


def _csv(content: bytes) -> Iterator[Mapping[str, Any]]:
    # A field may be as long as the table, whose size is bounded. The limit is the module's own, of all its readers.
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))
    return csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))


def _jsonl(content: bytes) -> Iterator[Mapping[str, Any]]:
    # By \n alone, as JSON Lines has it: a string of JSON may hold the other ends of lines that Unicode knows.
    for line in content.decode("utf-8-sig").split("\n"):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise EntryError("a line of it is no JSON object")
            yield row


def _parquet(content: bytes) -> Iterator[Mapping[str, Any]]:
    file = pq.ParquetFile(pa.BufferReader(content))
    wanted = [name for name in file.schema_arrow.names if name == FILE_COLUMN or name in LABEL_COLUMNS]
    for batch in file.iter_batches(1024, columns=wanted, use_threads=False):
        yield from batch.to_pylist()
