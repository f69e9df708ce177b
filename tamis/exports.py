"""A manifest's kept samples in the forms of other tools, their images brought along.

Images are called `images/00012/00012345.png`, by their place among the kept samples: paths in a source may mean a split
or a class to who reads them, may differ in case alone, and may lack the ending that readers go by.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from tamis.errors import InputError
from tamis.ingest.linked import file_of
from tamis.ingest.located import Find, complain, finder
from tamis.sources.names import image_suffix

Form: TypeAlias = Literal["hf", "webdataset", "fiftyone", "lightly", "csv", "jsonl"]
# Those of one file, which name the images and do not hold them.
LISTS = {"csv": "samples.csv", "jsonl": "samples.jsonl"}

COLUMNS = ("sample_id", "label", "weight", "cluster", "difficulty", "width", "height", "sha256")
SHARD_SAMPLES, SHARD_BYTES = 10_000, 256 * 2**20
BATCH = 10_000
CHUNK = 2**20


class File(NamedTuple):
    """content: the bytes, or a file that has them."""

    name: str
    content: bytes | Path


def exported(
    samples: pa.Table,
    form: Form,
    *,
    images: str | Path | None = None,
    find: Find | None = None,
    link: bool = False,
) -> Iterator[File]:
    """The files of an export, one by one; what is in memory is one file, or a shard of SHARD_BYTES.

    hf: images beside a metadata.parquet, which `load_dataset("imagefolder", data_dir=...)` reads. webdataset: shards
    of images with a .json each, and with a .cls, a number in classes.txt, where there are labels. fiftyone: a
    FiftyOneImageClassificationDataset. lightly: a folder a label, which LightlyStudio makes tags of, and torchvision's
    ImageFolder classes. csv, jsonl: a list with the place of each image.
    samples: of a manifest. images: what the manifest was made of, where its URIs do not lead to the images. find: who
    has them instead.
    link: whether an image that is a file on this machine is that file, in forms of a file an image.
    Raises InputError, after the last image, that names what is missing or altered.
    """
    kept = samples.filter(samples["keep"])
    if not len(kept):
        raise InputError("The manifest keeps no sample.", "Make one with a smaller --fraction.")
    if form in LISTS:
        yield File(LISTS[form], _csv(_placed(kept)) if form == "csv" else _jsonl(_placed(kept)))
        return
    hint = "Ingest the data set again."
    if find is None:
        find, hint = finder(kept["uri"].to_pylist(), images)
    write = {"hf": _hf, "webdataset": _webdataset, "fiftyone": _fiftyone, "lightly": _lightly}[form]
    yield from write(kept, _checked(kept, find, hint, link and form != "webdataset"))


def write_export(files: Iterable[File], folder: Path) -> None:
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.unlink(missing_ok=True)
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def as_tar(files: Iterable[File]) -> Iterator[bytes]:
    """They as a tar archive, in pieces."""
    for name, content in files:
        data = content.read_bytes() if isinstance(content, Path) else content
        yield from _member(name, data)
    yield bytes(2 * tarfile.BLOCKSIZE)


class _Image(NamedTuple):
    """row: among the kept samples. content: the file's bytes, or the file."""

    row: int
    content: bytes | Path
    suffix: str

    @property
    def key(self) -> str:
        return f"{self.row:08}"

    @property
    def name(self) -> str:
        return f"images/{self.row // 1000:05}/{self.key}{self.suffix}"


def _checked(kept: pa.Table, find: Find, hint: str, link: bool) -> Iterator[_Image]:
    names, hashes = kept["sample_id"].to_pylist(), kept["sha256"].to_pylist()
    uris = kept["uri"].to_pylist() if link else []
    missing, altered = set(range(len(names))), []
    for row, data in find(names):
        missing.discard(row)
        if hashlib.sha256(data).hexdigest() != hashes[row]:
            altered.append(row)
            continue
        yield _Image(row, (file_of(uris[row]) if link else None) or data, image_suffix(data) or ".ppm")
    complain(names, sorted(missing), altered, hint)


def _hf(kept: pa.Table, images: Iterable[_Image]) -> Iterator[File]:
    names = [""] * len(kept)
    for image in images:
        names[image.row] = image.name
        yield File(image.name, image.content)
    table = kept.select(COLUMNS).add_column(0, "file_name", pa.array(names))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    yield File("metadata.parquet", sink.getvalue())


def _webdataset(kept: pa.Table, images: Iterable[_Image]) -> Iterator[File]:
    classes = _classes(kept)
    shard, count, number = bytearray(), 0, 0
    for image in images:
        assert isinstance(image.content, bytes)
        about = _about(kept, image.row)
        members = {image.suffix: image.content, ".json": json.dumps(about).encode()}
        if about["label"] is not None:
            members[".cls"] = str(classes[about["label"]]).encode()
        for suffix, content in members.items():
            for piece in _member(image.key + suffix, content):
                shard += piece
        count += 1
        if count == SHARD_SAMPLES or len(shard) >= SHARD_BYTES:
            yield _shard(number, shard)
            shard, count, number = bytearray(), 0, number + 1
    if count:
        yield _shard(number, shard)
    if classes:
        yield File("classes.txt", "".join(f"{name}\n" for name in classes).encode())


def _shard(number: int, members: bytearray) -> File:
    return File(f"{number:05}.tar", bytes(members) + bytes(2 * tarfile.BLOCKSIZE))


def _fiftyone(kept: pa.Table, images: Iterable[_Image]) -> Iterator[File]:
    classes = _classes(kept)
    labels = {}
    for image in images:
        name = image.name.removeprefix("images/")
        about = _about(kept, image.row)
        label = about.pop("label")
        # FiftyOne has no sample of this form without a label, and would lose the rest.
        target = "unlabelled" if label is None else classes[label]
        labels[name.removesuffix(image.suffix)] = {"label": target, "attributes": about}
        yield File(f"data/{name}", image.content)
    yield File("labels.json", json.dumps({"classes": list(classes), "labels": labels}).encode())


def _lightly(kept: pa.Table, images: Iterable[_Image]) -> Iterator[File]:
    labels = kept["label"].to_pylist()
    for image in images:
        label = labels[image.row]
        yield File(f"{'' if label is None else _folder(label)}{image.key}{image.suffix}", image.content)


def _folder(label: str) -> str:
    """One of that name, of which no letter leads elsewhere, hides it or is too much for a disk."""
    name = "".join(letter if letter.isalnum() else quote(letter, safe=" ") for letter in label)
    name = f"%2E{name[1:]}" if name.startswith(".") else name
    return f"{name.encode()[:200].decode(errors='ignore')}/"


def _classes(kept: pa.Table) -> Mapping[str, int]:
    """Numbers of the labels that there are, in their order."""
    known = sorted(label for label in pc.unique(kept["label"]).to_pylist() if label is not None)
    return {label: number for number, label in enumerate(known)}


def _about(kept: pa.Table, row: int) -> dict[str, Any]:
    return {name: kept[name][row].as_py() for name in COLUMNS}


def _placed(kept: pa.Table) -> pa.Table:
    """With the path of each image that is a file on this machine, as it is called there, and its URI."""
    uris = kept["uri"].to_pylist()
    paths = [None if (path := file_of(uri)) is None else str(path) for uri in uris]
    return kept.select(COLUMNS).append_column("path", pa.array(paths, pa.string())).append_column("uri", kept["uri"])


def _csv(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pa.csv.write_csv(table, sink)
    return sink.getvalue()


def _jsonl(table: pa.Table) -> bytes:
    rows = (row for batch in table.to_batches(BATCH) for row in batch.to_pylist())
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _member(name: str, content: bytes) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    yield info.tobuf(tarfile.PAX_FORMAT)
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]
    yield bytes(-len(content) % tarfile.BLOCKSIZE)
