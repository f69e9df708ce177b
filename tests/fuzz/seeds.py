"""Whole files of every format Tamis reads, for the fuzzer to mutate."""

import gzip
import io
import pickle
import zipfile

import numpy as np
from layouts import (
    HF_FEATURES,
    TREE,
    cifar10_binary,
    cifar100_binary,
    cifar_pickle,
    idx_images,
    idx_labels,
    image_column,
    parquet_bytes,
    pixels,
    png,
    stl10_images,
    tar_bytes,
    tar_gz_bytes,
    upload,
    zip_bytes,
)
from PIL import Image, features

from tamis.ingest.shards import ingest

_CIFAR = pixels(2, 32)
_BATCH = cifar_pickle(_CIFAR, labels=[1, 0], filenames=["a.png", "b.png"])
_META = pickle.dumps({b"label_names": [b"cat", b"dog"]}, 2)
_PARQUET = parquet_bytes({"image": image_column([png(1), png(2)]), "label": [0, 1]}, HF_FEATURES)
_NAMING = parquet_bytes({"image": image_column([None, None], ["a/1.png", "b/2.png"]), " Label": [["x"], None]})
_METADATA = {
    "a/1.png": png(1),
    "a/metadata.csv": b"file_name,label\n1.png,x\n",
    "b/metadata.jsonl": b'{"file_name": "2.png", "label": 3}\n',
    "b/2.png": png(2),
    "c/metadata.parquet": parquet_bytes({"file_name": ["3.png"], "label": ["z"]}),
}
_TINY = {
    "wnids.txt": b"n01\n",
    "words.txt": b"n01\tfish\n",
    "train/n01/images/n01_0.JPEG": png(1),
    "val/images/val_0.JPEG": png(2),
    "val/val_annotations.txt": b"val_0.JPEG\tn01\t0\t0\t9\t9\n",
}
_WEB = {"d/1.png": png(1), "d/1.cls": b"3", "2.png": png(2), "2.json": b'{"label": "x"}', "3.png": png(), "3.txt": b"y"}
_IDX = {"t-images-idx3-ubyte.gz": gzip.compress(idx_images(3)), "t-labels-idx1-ubyte": idx_labels([1, 2, 3])}
_STL = {"train_X.bin": stl10_images(pixels(1, 96)), "train_y.bin": b"\1", "class_names.txt": b"cat\n"}
_PYTHON = {"c/data_batch_1": _BATCH, "c/batches.meta": _META}

# The file name an upload has, and its content.
SOURCES: tuple[tuple[str, bytes], ...] = (
    ("x.zip", zip_bytes(TREE)),
    ("x.zip", zip_bytes(TREE, zipfile.ZIP_DEFLATED)),
    ("x.tar", tar_bytes(TREE)),
    ("x.tar.gz", tar_gz_bytes(TREE)),
    ("x.tar", tar_bytes(TREE) + tar_bytes(_METADATA)),
    ("x.zip", zip_bytes({**_METADATA, "t.parquet": _NAMING})),
    ("x.tar", tar_bytes({"d" * 150 + "/ü.png": png()})),
    ("x.zip", zip_bytes(_IDX)),
    ("t-images-idx3-ubyte", idx_images(3)),
    ("t-images-idx3-ubyte.gz", gzip.compress(idx_images(3))),
    ("x.parquet", _PARQUET),
    ("x.parquet", parquet_bytes({"img": [png(1), png(2)], "label": ["a", "b"]}, compression="zstd")),
    ("x.tar", tar_bytes({"data/t.parquet": _PARQUET})),
    ("x.zip", zip_bytes(_METADATA)),
    ("x.tar", tar_bytes(_TINY)),
    ("x.tar", tar_bytes(_WEB)),
    ("x.tar.gz", tar_gz_bytes(_WEB)),
    ("data_batch_1.bin", cifar10_binary(_CIFAR, [1, 0])),
    ("x.tar", tar_bytes({"train.bin": cifar100_binary(_CIFAR, [1, 0], [0, 0]), "fine_label_names.txt": b"a\nb\n"})),
    ("data_batch_1", _BATCH),
    ("x.tar.gz", tar_gz_bytes(_PYTHON)),
    ("x.zip", zip_bytes(_PYTHON)),
    ("x.tar", tar_bytes(_STL)),
)
PICKLES = (_BATCH, _META, pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0]}, 4))
SHARDS: dict[str, bytes] = {}
ingest(upload(zip_bytes(TREE)), SHARDS.__setitem__)


def _image(kind: str, mode: str = "RGB", **options: object) -> bytes:
    sink = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    Image.fromarray(noise).convert(mode).save(sink, kind, **options)
    return sink.getvalue()


IMAGES = (
    _image("PNG"),
    _image("PNG", "P"),
    _image("PNG", "RGBA"),
    _image("JPEG"),
    _image("JPEG", progressive=True),
    _image("BMP"),
    _image("GIF", "P"),
    _image("TIFF"),
    _image("TIFF", compression="tiff_lzw"),
    _image("PPM"),
    *((_image("WEBP"),) if features.check("webp") else ()),
)
