"""Sources of images for tests, written byte by byte in each format Tamis reads."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tamis.sources import RawSample, Refused, Source, open_source

Files = dict[str, bytes]


def png(value: int = 0) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (4, 4), value).save(sink, "PNG")
    return sink.getvalue()


def zip_bytes(files: Files | Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, content)
    return sink.getvalue()


def tar_bytes(files: Files | Iterable[tuple[str | tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def tar_gz_bytes(files: Files) -> bytes:
    return gzip.compress(tar_bytes(files))


def idx_images(count: int, height: int = 3, width: int = 2) -> bytes:
    pixels = np.arange(count * height * width, dtype=np.int64).astype(np.uint8)
    return struct.pack(">4sIII", b"\0\0\x08\x03", count, height, width) + pixels.tobytes()


def idx_labels(labels: list[int]) -> bytes:
    return struct.pack(">4sI", b"\0\0\x08\x01", len(labels)) + bytes(labels)


def write(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def upload(content: bytes, name: str | None = None) -> Source:
    return open_source(io.BytesIO(content), name)


def kept(source: Source) -> dict[str, RawSample]:
    return {entry.sample_id: entry for entry in source if isinstance(entry, RawSample)}


def refused(source: Source) -> dict[str, str]:
    return {entry.name: entry.reason for entry in source if isinstance(entry, Refused)}


def labels_of(source: Source) -> dict[str, str | None]:
    return {name: sample.label for name, sample in kept(source).items()}


TREE = {"b/2.png": png(2), "a/1.png": png(1), "top.png": png(0), "a/deep/3.jpg": png(3)}
PACKERS: dict[str, Callable[[Files], bytes]] = {"zip": zip_bytes, "tar": tar_bytes, "tar.gz": tar_gz_bytes}


def pixels(count: int, side: int) -> npt.NDArray[np.uint8]:
    """(count, side, side, 3) random pixels, always the same."""
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def planes(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(N, H, W, 3) as CIFAR's rows: red, green and blue plane, row by row."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def cifar10_binary(images: npt.NDArray[np.uint8], labels: Sequence[int]) -> bytes:
    return b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, planes(images), strict=True))


def cifar100_binary(images: npt.NDArray[np.uint8], fine: Sequence[int], coarse: Sequence[int]) -> bytes:
    rows = zip(coarse, fine, planes(images), strict=True)
    return b"".join(bytes([one, two]) + row.tobytes() for one, two, row in rows)


def cifar_pickle(images: npt.NDArray[np.uint8], protocol: int = 2, **entries: Any) -> bytes:
    """As Python 2 wrote it: the keys are byte strings."""
    batch = {"data": np.ascontiguousarray(planes(images)), **entries}
    return pickle.dumps({key.encode(): value for key, value in batch.items()}, protocol)


def stl10_images(images: npt.NDArray[np.uint8]) -> bytes:
    """Planes, each column by column."""
    return images.transpose(0, 3, 2, 1).tobytes()


def parquet_bytes(columns: dict[str, Any], features: dict[str, Any] | None = None, **options: Any) -> bytes:
    """features: as in the `huggingface` metadata of the schema."""
    table = pa.table(columns)
    if features is not None:
        described = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": described})
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def image_column(images: Iterable[bytes | None], paths: Iterable[str | None] | None = None) -> pa.Array:
    listed = list(images)
    named = [None] * len(listed) if paths is None else list(paths)
    rows = [{"bytes": data, "path": path} for data, path in zip(listed, named, strict=True)]
    return pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))


HF_FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
