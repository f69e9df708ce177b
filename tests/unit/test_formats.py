"""Files of many images and labels files, in each layout as its authors publish it."""

import gzip
import io
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from layouts import (
    HF_FEATURES,
    Files,
    cifar10_binary,
    cifar100_binary,
    cifar_pickle,
    idx_images,
    image_column,
    kept,
    labels_of,
    parquet_bytes,
    pixels,
    png,
    refused,
    stl10_images,
    tar_bytes,
    tar_gz_bytes,
    upload,
    write,
    zip_bytes,
)

from tamis.errors import InputError
from tamis.images import decode
from tamis.sources import RawSample, Source, open_source
from tamis.sources.pickles import read_array, read_pickle

IMAGES = pixels(3, 32)
CLASSES = b"airplane\nautomobile\nbird\n"


def decoded(sample: RawSample) -> npt.NDArray[np.uint8]:
    return np.asarray(decode(sample.data))


def same_images(source: Source, images: npt.NDArray[np.uint8]) -> bool:
    return np.array_equal(np.stack([decoded(sample) for sample in kept(source).values()]), images)


def test_cifar10_binary_batches_become_images_named_by_the_meta_file(opener: Callable[[Files], Source]) -> None:
    folder = "cifar-10-batches-bin"
    source = opener(
        {
            f"{folder}/data_batch_1.bin": cifar10_binary(IMAGES[:2], [2, 0]),
            f"{folder}/test_batch.bin": cifar10_binary(IMAGES[2:], [9]),
            f"{folder}/batches.meta.txt": CLASSES,
        }
    )
    assert labels_of(source) == {
        f"{folder}/data_batch_1.bin/00000.png": "bird",
        f"{folder}/data_batch_1.bin/00001.png": "airplane",
        f"{folder}/test_batch.bin/00000.png": "9",
    }
    assert same_images(source, IMAGES)
    assert refused(source) == {}
    assert source.total == 3


def test_cifar100_binary_is_labelled_by_its_fine_names(opener: Callable[[Files], Source]) -> None:
    source = opener(
        {
            "train.bin": cifar100_binary(IMAGES, [1, 2, 0], [7, 7, 7]),
            "fine_label_names.txt": b"apple\nbaby\nbear\n",
        }
    )
    assert list(labels_of(source).values()) == ["baby", "bear", "apple"]
    assert same_images(source, IMAGES)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_cifar10_pickles_are_read_in_every_container(opener: Callable[[Files], Source], protocol: int) -> None:
    folder = "cifar-10-batches-py"
    meta = pickle.dumps({"label_names": ["airplane", "automobile", "bird"], "num_vis": 3072}, protocol)
    source = opener(
        {
            f"{folder}/batches.meta": meta,
            f"{folder}/data_batch_1": cifar_pickle(IMAGES, protocol, labels=[2, 0, 1], filenames=["a", "b", "c"]),
        }
    )
    assert list(labels_of(source).values()) == ["bird", "airplane", "automobile"]
    assert same_images(source, IMAGES)
    assert refused(source) == {}


def test_a_pickle_as_python_2_wrote_it_is_read() -> None:
    """The bytes of cPickle's protocol 2, spelt out: byte strings, and an array rebuilt from its state."""
    state = b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x01U\x02u1K\x00K\x01\x87Rq\x02(K\x03U\x01|NNNJ\xff\xff\xff\xffJ"
    state += b"\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00" + planes_of(IMAGES[:1]) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nK\x00\x85U\x01b\x87R" + state
    content = b"\x80\x02}q\x00(U\x04dataq\x04" + array + b"U\x06labelsq\x05]q\x06K\x05aU\x0bbatch_labelU\x06train u."
    assert pickle.loads(content, encoding="bytes")[b"labels"] == [5]
    samples = kept(upload(content, "data_batch_1"))
    assert [sample.label for sample in samples.values()] == ["5"]
    assert np.array_equal(decoded(samples["data_batch_1/00000.png"]), IMAGES[0])


def planes_of(images: npt.NDArray[np.uint8]) -> bytes:
    return images.transpose(0, 3, 1, 2).tobytes()


def test_cifar100_pickles_are_labelled_by_their_fine_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "train": cifar_pickle(IMAGES, fine_labels=[1, 0, 1], coarse_labels=[0, 0, 0]),
            "meta": pickle.dumps({b"fine_label_names": [b"apple", b"bear"], b"coarse_label_names": [b"x"]}, 2),
        },
    )
    for source in (open_source(tmp_path), open_source(tmp_path / "train")):
        assert labels_of(source) == {"train/00000.png": "bear", "train/00001.png": "apple", "train/00002.png": "bear"}


class Payload:
    """What a stranger's pickle may do to whoever loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("payload-ran"),))


def system_call() -> bytes:
    return b"\x80\x02cos\nsystem\nU\x10touch payload-ranq\x00\x85R."


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Payload(), 2),
        pickle.dumps({"data": Payload(), "labels": [1]}, 4),
        system_call(),
        b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
        b"\x80\x02cnumpy.core.multiarray\nfromstring\nU\x01x\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"(S'touch payload-ran'\nios\nsystem\n.",
        b"\x80\x02(cos\nsystem\nU\x01xo.",
        b"\x80\x02}\x82\x01.",
        b"Pid\n.",
    ],
)
def test_a_pickle_with_a_payload_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    source = upload(zip_bytes({"data_batch_1": content, "batches.meta": content, "1.png": png()}))
    assert set(kept(source)) == {"1.png"}
    assert "pickle" in refused(source)["data_batch_1"]
    with pytest.raises(InputError, match="not a whole pickled CIFAR file"):
        list(upload(content, "data_batch_1"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02}a.",
        b"\x80\x02}r\xff\xff\xff\xff.",
        b"\x80\x02j\xff\xff\xff\xff.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"K\x00s.",
        # Text that would be told out at exponential length, or hashed for as long, and bytes asked for again and again.
        b"\x80\x04\x8c\x01xq\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"\x8c\x01y\x93.",
        b"\x80\x02cnumpy\ndtype\n)" + b"q\x00h\x00\x86" * 60 + b"\x85R.",
        b"\x80\x02c_codecs\nencode\nq\x01X\x00\x00\x10\x00"
        + b"a" * 2**20
        + b"\x85q\x02R"
        + b"h\x01h\x02R" * 3000
        + b".",
        b"\x80\x02}" + b"(" * 5000 + b"t" * 5000 + b"K\x00s.",
        pickle.dumps({"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]}, 2),
        pickle.dumps({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}, 2),
        pickle.dumps({"data": np.zeros((2, 3072), object), "labels": [0, 1]}, 2),
        pickle.dumps({"data": b"bytes", "labels": [0, 1]}, 2),
        pickle.dumps([1, 2], 2),
    ],
)
def test_a_pickle_that_is_no_batch_is_refused(content: bytes) -> None:
    source = upload(zip_bytes({"data_batch_1": content, "1.png": png()}))
    assert set(kept(source)) == {"1.png"}
    assert list(refused(source)) == ["data_batch_1"]


HUGE = 10**5000


@pytest.mark.parametrize(
    "entries",
    [
        {"labels": [HUGE, 0, 1]},
        {"labels": [0, 1, 2], "label_names": 7},
        {"labels": [0, 1, 2], "label_names": [["a"], "b"]},
        {"labels": [0, 1, 2], "label_names": ["\ud800\u202e", b"\xff\0", "c" * 5000]},
        {"labels": 3},
    ],
)
def test_odd_labels_of_a_pickle_are_fit_to_be_stored_or_left_out(entries: dict[str, Any]) -> None:
    meta = cifar_pickle(IMAGES, 4, label_names=entries.pop("label_names", []))
    samples = kept(upload(zip_bytes({"data_batch_1": cifar_pickle(IMAGES, 4, **entries), "batches.meta": meta})))
    assert len(samples) == 3
    for sample in samples.values():
        assert sample.label is None or (sample.label.isprintable() and len(sample.label.encode()) <= 1000)


def test_labels_of_every_table_are_fit_to_be_stored() -> None:
    odd = '"\\ud800\\u202e\\u0000x"'
    features = {"label": {"_type": "ClassLabel", "names": ["\ud800\u202ea", ["b"]]}}
    sources = [
        upload(zip_bytes({"1.png": png(), "metadata.jsonl": f'{{"file_name": "1.png", "label": {odd}}}'.encode()})),
        upload(tar_bytes({"1.png": png(), "1.json": f'{{"label": {odd}}}'.encode()})),
        upload(parquet_bytes({"image": [png(), png()], "label": [0, 1]}, features)),
    ]
    for source in sources:
        labels = [label for label in labels_of(source).values() if label is not None]
        assert all(label.isprintable() and label.encode() for label in labels)
        assert len(labels) == 1


def test_parquet_text_that_is_no_unicode_and_columns_of_the_same_name_do_no_harm() -> None:
    text = pa.array([b"\xff"]).view(pa.string())
    with pytest.raises(InputError, match="not a whole Parquet file"):
        list(upload(parquet_bytes({"image": [png()], "label": text})))
    twice = pa.Table.from_arrays([pa.array([png()]), pa.array(["a"]), pa.array(["b"])], ["image", "label", "label"])
    sink = io.BytesIO()
    pa.parquet.write_table(twice, sink)
    assert list(labels_of(upload(sink.getvalue())).values()) == [None]


def test_arrays_are_read_in_either_order() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for given in (array, np.asfortranarray(array)):
        assert read_array(read_pickle(pickle.dumps(given, 2))).tolist() == array.tolist()


def test_cifar_labels_that_do_not_fit_are_refused_but_not_their_images() -> None:
    source = upload(zip_bytes({"test_batch": cifar_pickle(IMAGES, labels=[1])}))
    assert set(labels_of(source).values()) == {None}
    assert "labels" in refused(source)["test_batch"]


@pytest.mark.parametrize("name", ["data_batch_2.bin", "train.bin", "test_X.bin"])
def test_raw_pixels_of_a_wrong_length_are_refused(name: str) -> None:
    assert "no whole number of images" in refused(upload(tar_bytes({name: bytes(5000), "1.png": png()})))[name]
    with pytest.raises(InputError, match="no whole number of images"):
        upload(bytes(5000), name)


def test_stl10_is_read_column_by_column_with_labels_from_one(opener: Callable[[Files], Source]) -> None:
    images = pixels(4, 96)
    source = opener(
        {
            "stl10_binary/train_X.bin": stl10_images(images[:3]),
            "stl10_binary/train_y.bin": bytes([1, 3, 4]),
            "stl10_binary/unlabeled_X.bin": stl10_images(images[3:]),
            "stl10_binary/class_names.txt": CLASSES,
        }
    )
    assert labels_of(source) == {
        "stl10_binary/train_X.bin/000000.png": "airplane",
        "stl10_binary/train_X.bin/000001.png": "bird",
        "stl10_binary/train_X.bin/000002.png": "4",
        "stl10_binary/unlabeled_X.bin/000000.png": None,
    }
    assert same_images(source, images)
    assert source.total == 4


def test_a_lone_raw_file_finds_its_labels_beside_it(tmp_path: Path) -> None:
    black = np.zeros((2, 32, 32, 3), np.uint8)
    write(tmp_path, {"data_batch_1.bin": cifar10_binary(black, [0, 2]), "batches.meta.txt": CLASSES})
    source = open_source(tmp_path / "data_batch_1.bin")
    assert labels_of(source) == {"data_batch_1.bin/00000.png": "airplane", "data_batch_1.bin/00001.png": "bird"}
    assert kept(source)["data_batch_1.bin/00001.png"].uri.endswith("/data_batch_1.bin#data_batch_1.bin/00001.png")


HF = {"image": image_column([png(1), png(2), png(3)], ["a.png", None, "c"]), "label": [1, 0, -1]}


def test_parquet_shards_as_hugging_face_writes_them(tmp_path: Path) -> None:
    shard = parquet_bytes(HF, HF_FEATURES, row_group_size=2)
    second = parquet_bytes({"image": image_column([png(4)]), "label": [0]}, HF_FEATURES)
    write(tmp_path, {"data/train-00000-of-00002.parquet": shard, "data/train-00001-of-00002.parquet": second})
    source = open_source(tmp_path)
    assert labels_of(source) == {
        "data/train-00000-of-00002.parquet/000000.png": "dog",
        "data/train-00000-of-00002.parquet/000001.png": "cat",
        "data/train-00000-of-00002.parquet/000002.png": None,
        "data/train-00001-of-00002.parquet/000000.png": "cat",
    }
    assert [sample.data for sample in kept(source).values()] == [png(value) for value in (1, 2, 3, 4)]
    assert source.total == 4
    assert list(labels_of(upload(tar_bytes({"x.parquet": shard}))).values()) == ["dog", "cat", None]
    assert list(labels_of(upload(zip_bytes({"x.parquet": shard}))).values()) == ["dog", "cat", None]
    assert list(labels_of(upload(shard, "x.parquet"))) == [f"x.parquet/{number:06}.png" for number in range(3)]


@pytest.mark.parametrize(
    ("columns", "labels"),
    [
        ({"jpg": [png(1), png(2)], "cls": ["a", "b"]}, ["a", "b"]),
        ({"other": [b"x", b"y"], "image": [png(1), png(2)]}, [None, None]),
        ({"picture": pa.array([png(1), png(2)], pa.large_binary()), "label": [7, None]}, ["7", None]),
        ({"img": image_column([png(1), png(2)]), "fine_label": [4, 5]}, ["4", "5"]),
    ],
)
def test_parquet_without_hugging_faces_metadata_is_known_by_types_and_names(
    columns: dict[str, Any], labels: list[str | None]
) -> None:
    source = upload(parquet_bytes(columns))
    assert [sample.data for sample in kept(source).values()] == [png(1), png(2)]
    assert list(labels_of(source).values()) == labels


def test_parquet_images_given_as_paths_are_found_inside_the_folder_alone(tmp_path: Path) -> None:
    paths = ["images/1.png", "../secret.png", str(tmp_path / "secret.png"), "images/none.png", "images/out.png"]
    paths += ["d" * 5000 + "/1.png", "\u00e9" * 5000 + "/1.png", "images/1.png/1.png"]
    table = parquet_bytes({"image": image_column([None] * 8, paths), "label": list(range(8))})
    write(
        tmp_path, {"secret.png": png(9), "data/images/1.png": png(1), "data/z/2.png": png(2), "data/t.parquet": table}
    )
    (tmp_path / "data/images/out.png").symlink_to(tmp_path / "secret.png")
    for source, others in (
        (open_source(tmp_path / "data", roots=[tmp_path]), {"z/2.png": "z"}),
        (open_source(tmp_path / "data/t.parquet", roots=[tmp_path]), {}),
    ):
        assert labels_of(source) == {"images/1.png": "0", **others}
        assert kept(source)["images/1.png"].uri == (tmp_path / "data/images/1.png").as_uri()
        reasons = refused(source)
        assert '".."' in reasons["t.parquet: ../secret.png"]
        assert "absolute" in reasons[f"t.parquet: {tmp_path / 'secret.png'}"]
        assert "not in the folder" in reasons["t.parquet: images/none.png"]
        assert "outside" in reasons["t.parquet: images/out.png"]
    # Links are followed by their user's own rights, whether the folder or the file is read.
    for own, others in (("data", {"z/2.png": "z"}), ("data/t.parquet", {})):
        assert labels_of(open_source(tmp_path / own)) == {"images/1.png": "0", "images/out.png": "4", **others}
    assert "not in the folder" in refused(upload(table, "t.parquet"))["t.parquet: images/1.png"]


def test_parquet_that_is_damaged_or_holds_no_images_is_an_error_or_refused(tmp_path: Path) -> None:
    whole = parquet_bytes(HF)
    for content in (whole[:-10], whole[:50], b"PAR1" + bytes(100)):
        with pytest.raises(InputError, match="not a whole Parquet file"):
            upload(content, "x.parquet")
        source = upload(tar_bytes({"x.parquet": content, "1.png": png()}))
        assert set(kept(source)) == {"1.png"}
        assert list(refused(source)) == ["x.parquet"]
    damaged = bytearray(whole)
    damaged[20:60] = bytes(40)
    with pytest.raises(InputError, match="not a whole Parquet file"):
        list(upload(bytes(damaged)))
    source = upload(parquet_bytes({"image": image_column([png(1), None])}), "x.parquet")
    assert refused(source) == {"x.parquet/000001": "the row has no image"}


def test_parquet_inside_a_compressed_archive_is_refused() -> None:
    source = upload(tar_gz_bytes({"x.parquet": parquet_bytes(HF), "1.png": png()}))
    assert "compressed archive" in refused(source)["x.parquet"]


def test_a_parquet_row_group_that_claims_too_much_is_refused() -> None:
    zeros = parquet_bytes({"image": [bytes(2**20)] * 40}, compression="zstd", use_dictionary=False)
    assert len(zeros) < 2**17
    with pytest.raises(InputError, match="expand more than 200 times"):
        list(upload(zeros))


def test_parquet_is_read_a_few_rows_at_a_time() -> None:
    noise = np.random.default_rng(0)
    table = pa.table({"image": [noise.bytes(100_000) for _ in range(400)]})
    sink = io.BytesIO()
    with pa.parquet.ParquetWriter(
        sink, table.schema, compression="none", use_dictionary=False, write_batch_size=8
    ) as writer:
        writer.write_table(table, row_group_size=400)
    pa.default_memory_pool().release_unused()
    before, most = pa.total_allocated_bytes(), 0
    for _ in upload(sink.getvalue()):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 20 * 2**20


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_imagefolder_metadata_labels_the_files_it_names(opener: Callable[[Files], Source], kind: str) -> None:
    rows = [
        {"file_name": "1.png", "label": "007"},
        {"file_name": "sub/2.png", "label": "b"},
        {"file_name": "../3.png", "label": "c"},
    ]
    tables = {
        "csv": "\n".join(
            ["file_name,text,label", *(f'{row["file_name"]},"a, b",{row["label"]}' for row in rows)]
        ).encode(),
        "jsonl": "\n".join(json.dumps(row) for row in rows).encode(),
        "parquet": parquet_bytes({key: [row[key] for row in rows] for key in rows[0]}),
    }
    source = opener({"train/1.png": png(1), "train/sub/2.png": png(2), f"train/metadata.{kind}": tables[kind]})
    assert labels_of(source) == {"train/1.png": "007", "train/sub/2.png": "b"}
    assert refused(source) == {f"train/metadata.{kind}: ../3.png": 'the name holds ".."'}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", b"name,label\n1.png,a\n"),
        ("metadata.csv", b"file_name\n\xff\xfe\n"),
        ("metadata.jsonl", b"[1]\n"),
        ("metadata.jsonl", b"[" * 100_000),
        ("metadata.parquet", b"no Parquet"),
    ],
)
def test_metadata_that_cannot_be_read_is_refused_but_not_the_images(name: str, content: bytes) -> None:
    source = upload(zip_bytes({"a/1.png": png(), f"a/{name}": content}))
    assert labels_of(source) == {"a/1.png": "a"}
    assert list(refused(source)) == [f"a/{name}"]


def test_metadata_without_labels_leaves_them_to_the_folders() -> None:
    assert labels_of(upload(zip_bytes({"a/1.png": png(), "metadata.csv": b"file_name,text\na/1.png,x\n"}))) == {
        "a/1.png": "a"
    }


def test_tiny_imagenet_is_labelled_by_wordnet_id_in_every_split(opener: Callable[[Files], Source]) -> None:
    top = "tiny-imagenet-200"
    source = opener(
        {
            f"{top}/wnids.txt": b"n01443537\nn01629819\n",
            f"{top}/words.txt": b"n01443537\tgoldfish\nn01629819\tsalamander\n",
            f"{top}/train/n01443537/images/n01443537_0.JPEG": png(1),
            f"{top}/train/n01629819/images/n01629819_0.JPEG": png(2),
            f"{top}/val/images/val_0.JPEG": png(3),
            f"{top}/val/val_annotations.txt": b"val_0.JPEG\tn01629819\t0\t32\t44\t62\n",
            f"{top}/test/images/test_0.JPEG": png(4),
        }
    )
    assert labels_of(source) == {
        f"{top}/train/n01443537/images/n01443537_0.JPEG": "n01443537",
        f"{top}/train/n01629819/images/n01629819_0.JPEG": "n01629819",
        f"{top}/val/images/val_0.JPEG": "n01629819",
        f"{top}/test/images/test_0.JPEG": None,
    }
    assert refused(source) == {}
    assert source.total == 4


def test_splits_are_no_labels_but_classes_of_their_names_are(opener: Callable[[Files], Source]) -> None:
    flat = ["val/ILSVRC2012_val_00000001.JPEG", "train/n01440764/1.JPEG", "train/n01443537/2.JPEG", "test/3.JPEG"]
    assert labels_of(opener(dict.fromkeys(flat, png()))) == dict(
        zip(flat, [None, "n01440764", "n01443537", None], strict=True)
    )


def test_a_class_called_train_is_a_label(opener: Callable[[Files], Source]) -> None:
    files = dict.fromkeys(["airplane/1.png", "train/2.png"], png())
    assert labels_of(opener(files)) == {"airplane/1.png": "airplane", "train/2.png": "train"}


WEB = {
    "d/0001.jpg": png(1),
    "d/0001.cls": b"7\n",
    "d/0002.json": b'{"caption": "x", "label": 3}',
    "d/0002.left.png": png(2),
    "d/0002.right.png": png(3),
    "0003.webp": png(4),
    "0003.txt": b"a cat\nsitting",
    "0004.png": png(5),
    "e/0005.cls": b"1",
    "0006.cls": b"\xff",
    "0006.png": png(6),
}
WEB_LABELS = {
    "d/0001.jpg": "7",
    "d/0002.left.png": "3",
    "d/0002.right.png": "3",
    "0003.webp": "a cat",
    "0004.png": None,
    "0006.png": None,
}


@pytest.mark.parametrize("pack", [tar_bytes, tar_gz_bytes])
def test_webdataset_samples_are_labelled_by_the_files_of_their_key(pack: Callable[[Files], bytes]) -> None:
    source = upload(pack(WEB))
    assert labels_of(source) == WEB_LABELS
    assert refused(source) == {
        "e/0005.cls": "no image is among the files of its key",
        "0006.cls": "its label cannot be read; its image is kept without it",
    }


def test_a_folder_of_webdataset_shards_is_one_data_set(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "train-000000.tar": tar_bytes(WEB),
            "train-000001.tar": tar_bytes({"1.jpg": png(7), "1.cls": b"2"}),
            "README.md": b"text",
            "zz.tar": tar_bytes({"1.jpg": png()})[:600],
        },
    )
    source = open_source(tmp_path)
    labels = labels_of(source)
    assert labels.pop("train-000001.tar/1.jpg") == "2"
    assert labels.pop("README.md") is None
    assert labels == {f"train-000000.tar/{name}": label for name, label in WEB_LABELS.items()}
    assert "damaged" in refused(source)["zz.tar"]
    assert kept(source)["train-000001.tar/1.jpg"].uri == f"{(tmp_path / 'train-000001.tar').as_uri()}#1.jpg"


def test_archives_inside_archives_or_beside_images_are_not_descended(tmp_path: Path) -> None:
    shard = tar_bytes({"1.jpg": png(), "1.cls": b"1"})
    for source in (
        upload(tar_bytes({"a.tar": shard})),
        upload(zip_bytes({"a.tar": shard, "b.tar": shard})),
        open_source(write(tmp_path, {"a.tar": shard, "1.png": png()})),
    ):
        assert set(kept(source)) <= {"1.png"}
        assert "archive inside" in refused(source)["a.tar"]


def test_gzipped_idx_inside_gzipped_tar_is_read_within_bounds() -> None:
    source = upload(tar_gz_bytes({"t-images-idx3-ubyte.gz": gzip.compress(idx_images(3))}))
    assert len(kept(source)) == 3


def test_labels_files_are_held_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tamis.sources.survey.MAX_COMPANION_BYTES", 1000)
    files = {f"{number}/metadata.csv": b"file_name\n" + b"x" * 400 for number in range(10)}
    tracemalloc.start()
    source = upload(zip_bytes({**files, "1.png": png()}))
    assert sum("together are not taken" in reason for reason in refused(source).values()) == 8
    tracemalloc.stop()
