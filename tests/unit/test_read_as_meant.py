"""Inputs are read as they are meant: labels, tables and archives, the same whichever way a folder takes."""

import csv
import gzip
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import (
    Files,
    idx_images,
    idx_labels,
    image_column,
    kept,
    labels_of,
    parquet_bytes,
    png,
    refused,
    tar_bytes,
    upload,
    write,
    zip_bytes,
)
from PIL import Image

from tamis.client.packing import pack
from tamis.errors import InputError
from tamis.images import decode, inspect
from tamis.sources import RawSample, Refused, Source, open_source


def tables(rows: list[tuple[str, object]], column: str = "label") -> dict[str, bytes]:
    """A metadata table in each form, by its name."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([("file_name", column), *rows])
    return {
        "metadata.csv": text.getvalue().encode(),
        "metadata.parquet": parquet_bytes(
            {"file_name": [name for name, _ in rows], column: [said for _, said in rows]}
        ),
    }


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x0b", "\x1c", "\f"])
def test_a_line_of_json_ends_with_a_line_feed_alone(mark: str) -> None:
    escaped = mark if mark >= " " else f"\\u{ord(mark):04x}"
    lines = [f'{{"file_name": "{n}.png", "label": "a", "text": "one{escaped}two"}}' for n in range(2)]
    source = upload(zip_bytes({"0.png": png(0), "1.png": png(1), "metadata.jsonl": "\r\n".join(lines).encode()}))
    assert labels_of(source) == {"0.png": "a", "1.png": "a"}
    assert refused(source) == {}


@pytest.mark.parametrize("column", ["text", "label"])
def test_a_cell_of_a_table_may_be_long(column: str) -> None:
    rows = (
        f'file_name,label,text\n0.png,a,"{"x" * 200_000}"\n'
        if column == "text"
        else f"file_name,label\n0.png,{'x' * 200_000}\n"
    )
    (label,) = labels_of(upload(zip_bytes({"0.png": png(), "metadata.csv": rows.encode()}))).values()
    assert label == "a" if column == "text" else (label or "").startswith("xxx")


@pytest.mark.parametrize("missing", ["NaN", "null"])
def test_what_is_missing_in_json_is_no_label(missing: str) -> None:
    table = f'{{"file_name": "0.png", "label": {missing}}}\n{{"file_name": "1.png", "label": "nan"}}'
    source = upload(zip_bytes({"0.png": png(0), "1.png": png(1), "metadata.jsonl": table.encode()}))
    assert labels_of(source) == {"0.png": None, "1.png": "nan"}


def test_what_is_missing_in_parquet_is_no_label() -> None:
    values = pa.array([float("nan"), None, 1.0])
    table = parquet_bytes({"file_name": ["0.png", "1.png", "2.png"], "label": values})
    source = upload(zip_bytes({**{f"{n}.png": png(n) for n in range(3)}, "metadata.parquet": table}))
    assert list(labels_of(source).values()) == [None, None, "1.0"]
    images = upload(parquet_bytes({"image": [png(n) for n in range(3)], "label": values}))
    assert list(labels_of(images).values()) == [None, None, "1.0"]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.parquet"])
def test_what_a_table_leaves_out_has_no_label_and_what_it_names_in_vain_is_told(name: str) -> None:
    table = tables([("images/0.png", "a"), ("images/1.png", "b"), ("0.png", "c")])[name]
    files = {**{f"photos/images/{n}.png": png(n) for n in range(3)}, "other/x.png": png(9), f"photos/{name}": table}
    source = upload(zip_bytes(files))
    assert labels_of(source) == {
        "other/x.png": "other",
        "photos/images/0.png": "a",
        "photos/images/1.png": "b",
        "photos/images/2.png": None,
    }
    assert refused(source) == {f"photos/{name}": "1 of its 3 rows name no image that is here, such as photos/0.png"}


def test_a_table_without_labels_leaves_them_to_the_folders() -> None:
    table = tables([("cat/0.png", "a caption")], "text")["metadata.csv"]
    source = upload(zip_bytes({"cat/0.png": png(0), "dog/1.png": png(1), "metadata.csv": table}))
    assert labels_of(source) == {"cat/0.png": "cat", "dog/1.png": "dog"}


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat/2020/a.png", "dog/2020/b.png", "dog/2021/c.png"], ["cat", "dog", "dog"]),
        (["n01/images/a.png", "n02/images/b.png"], ["n01", "n02"]),
        (["train/n01/images/a.png", "train/n02/images/b.png", "val/n01/c.png"], ["n01", "n02", "n01"]),
        (["set/train/cat/a.png", "set/test/dog/b.png"], ["cat", "dog"]),
        (["set/cat/a.png", "set/dog/b.png"], ["cat", "dog"]),
        (["a/cat/x.png", "b/cat/y.png"], ["a", "b"]),
        (["images/a.png", "images/b.png"], [None, None]),
        (["train/images/a.png", "test/images/b.png"], [None, None]),
        (["cat/a.png", "top.png", "dog/deep/b.png"], ["cat", None, "dog"]),
        (["train/a.png", "steam/b.png"], ["train", "steam"]),
    ],
)
def test_the_topmost_folder_that_tells_classes_apart_is_the_label(names: list[str], labels: list[str | None]) -> None:
    files = {name: png(number) for number, name in enumerate(names)}
    found = labels_of(upload(zip_bytes(files)))
    assert [found[name] for name in names] == labels


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "tEXt", "iCCP"])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_png_with_much_text_or_a_large_profile_is_intact(kind: str, at_the_end: bool) -> None:
    long = b"a" * (2**20 + 1)
    content = {
        "zTXt": b"Comment\0\0" + zlib.compress(long),
        "iTXt": b"Comment\0\1\0\0\0" + zlib.compress(long),
        "tEXt": b"Comment\0" + long,
        "iCCP": b"p\0\0" + zlib.compress(long),
    }[kind]
    plain = png(3)
    at = len(plain) - 12 if at_the_end and kind != "iCCP" else 33
    loaded = plain[:at] + chunk(kind.encode(), content) + plain[at:]
    assert np.array_equal(np.asarray(decode(loaded)), np.asarray(Image.open(io.BytesIO(plain)).convert("RGB")))
    assert inspect(loaded)[:2] == inspect(plain)[:2]
    with pytest.raises(InputError):
        decode(loaded[: at + 20])


@pytest.mark.parametrize("kind", ["binary", "large_binary", "binary_view", "dictionary"])
@pytest.mark.parametrize("in_a_struct", [False, True])
def test_bytes_of_every_arrow_type_are_images(kind: str, in_a_struct: bool) -> None:
    images = pa.array([png(0), png(1), png(0)], pa.binary())
    column = images.dictionary_encode() if kind == "dictionary" else images.cast(getattr(pa, kind)())
    if in_a_struct:
        if kind == "dictionary":
            pytest.skip("Arrow writes no dictionaries in structs that it reads back as such")
        column = pa.StructArray.from_arrays([column, pa.array(["a", "b", "c"])], ["bytes", "path"])
    source = upload(parquet_bytes({"image": column, "label": ["x", "y", "z"]}), "x.parquet")
    assert [sample.data for sample in kept(source).values()] == [png(0), png(1), png(0)]
    assert list(labels_of(source).values()) == ["x", "y", "z"]


def test_a_whole_parquet_file_without_images_says_which_columns_it_has() -> None:
    table = parquet_bytes({"image": [[{"bytes": png(), "path": "a"}]], "n": [1]})
    with pytest.raises(InputError, match=r"its columns are image \(list<.*n \(int64\)"):
        upload(table, "x.parquet")


def packed(folder: Path) -> bytes:
    return b"".join(pack(folder).chunks())


def test_captions_beside_images_change_no_label_on_their_way_to_a_server(tmp_path: Path) -> None:
    files: Files = {}
    for label in ("cat", "dog"):
        for number in range(3):
            files |= {f"{label}/{number}.png": png(number), f"{label}/{number}.txt": b"on a mat"}
    here, there = open_source(write(tmp_path / "photos", files)), upload(packed(tmp_path / "photos"))
    assert labels_of(here) == labels_of(there)
    assert set(labels_of(there).values()) == {"cat", "dog"}
    # Of a tar that others made, captions are labels as WebDataset has them.
    assert set(labels_of(upload(tar_bytes(files))).values()) == {"on a mat"}


def test_a_folder_of_shards_is_read_as_such_on_a_server_too(tmp_path: Path) -> None:
    shards = {f"{shard:05}.tar": tar_bytes({"a.png": png(shard), "a.cls": str(shard).encode()}) for shard in range(2)}
    here, there = open_source(write(tmp_path / "shards", shards)), upload(packed(tmp_path / "shards"))
    assert labels_of(here) == labels_of(there) == {"00000.tar/a.png": "0", "00001.tar/a.png": "1"}
    # But no deeper.
    write(tmp_path / "nested", {"a.tar": tar_bytes({"b.tar": tar_bytes({"c.png": png()})})})
    for source in (open_source(tmp_path / "nested"), upload(packed(tmp_path / "nested"))):
        assert kept(source) == {}


FOLDERS = st.sampled_from(
    ["", "", "", "cat/", "cat-wild/", "cat/images/", "train/cat/", "val/cat/", "e\u0301/", ".git/"]
)
STEMS = st.sampled_from(["0", "0", "1", "1", "b.c", "B", "a\nb", "\u00e9"])
IMAGES = st.builds("{}{}.png".format, FOLDERS, STEMS)
LABELS = st.sampled_from(["a", "b", "", "c,d", '"', "x\ny"])
BASE = ["0.png", "1.png", "cat/0.png", "cat/e\u0301.png", "dog/0.png"]
NAMED = st.sampled_from([*BASE, "cat/\u00e9.png", "gone.png", ".git/0.png", "a\nb.png"])
SOME = st.lists(st.tuples(NAMED, LABELS), min_size=1, max_size=5)
ROWS = st.one_of(SOME, SOME, SOME, st.just([]))


def csv_table(rows: list[tuple[str, str]], column: str, quoted: bool) -> bytes:
    if not quoted:
        return "\n".join(map(",".join, [("file_name", column), *rows])).encode()
    return tables(rows, column)["metadata.csv"]


def test_a_name_that_a_json_object_has_twice_is_told() -> None:
    first = '{"file_name": "0.png", "note": 1, "note": 2, "label": "cat"}'
    twice = '{"file_name": "1.png", "label": "cat", "label": "dog"}'
    pictures = {"0.png": png(0), "1.png": png(1)}
    source = upload(zip_bytes({**pictures, "metadata.jsonl": f"{first}\n{twice}\n".encode()}))
    assert labels_of(source) == {"0.png": None, "1.png": None}
    told = "line 2: its columns 'label' and 'label' may both be meant: keep one of them"
    assert refused(source) == {"metadata.jsonl": told}
    assert labels_of(upload(zip_bytes({**pictures, "metadata.jsonl": first.encode()})))["0.png"] == "cat"
    shard = upload(tar_bytes({"0.png": png(0), "0.json": twice.encode()}))
    assert labels_of(shard) == {"0.png": None}
    assert "may both be meant" in refused(shard)["0.json"]


def jsonl_table(rows: list[tuple[str, str]], column: str, nested: bool) -> bytes:
    lines = ({"file_name": name, column: [said] if nested else said} for name, said in rows)
    return "\n".join(map(json.dumps, lines)).encode()


def parquet_table(rows: list[tuple[str, str]], column: str, held: bool) -> bytes:
    """Of images: named, or held in it."""
    images = image_column([png(len(said)) if held else None for _, said in rows], [name for name, _ in rows])
    return parquet_bytes({"image": images, column: pa.array([said for _, said in rows], pa.string())})


TABLES = st.sampled_from(["", "", "", "cat/", "link/"])
COLUMNS = st.sampled_from(["label", " Label", "text"])
SHARD = tar_bytes({"0.png": png(7), "0.cls": b"7", "c/1.png": png(8)})
# What may be in a folder: names of files, and what is in them.
THINGS = st.one_of(
    st.tuples(IMAGES, st.integers(0, 255).map(png)),
    st.tuples(st.builds("{}{}{}".format, FOLDERS, STEMS, st.sampled_from([".txt", ".json", ".cls"])), st.just(b"said")),
    st.tuples(TABLES.map("{}metadata.csv".format), st.builds(csv_table, ROWS, COLUMNS, st.booleans())),
    st.tuples(TABLES.map("{}metadata.jsonl".format), st.builds(jsonl_table, ROWS, COLUMNS, st.booleans())),
    st.tuples(TABLES.map("{}metadata.parquet".format), ROWS.map(lambda rows: tables(rows)["metadata.parquet"])),
    st.tuples(TABLES.map("{}named.parquet".format), st.builds(parquet_table, ROWS, COLUMNS, st.just(False))),
    st.tuples(TABLES.map("{}t.parquet".format), st.builds(parquet_table, ROWS, COLUMNS, st.booleans())),
    st.tuples(FOLDERS.map("{}s.tar".format), st.sampled_from([SHARD, SHARD + SHARD[:1500], SHARD + b"rest", b"none"])),
    st.tuples(FOLDERS.map("{}s.tgz".format), st.just(gzip.compress(SHARD))),
    st.tuples(FOLDERS.map("{}x-images-idx3-ubyte".format), st.just(idx_images(2))),
    st.tuples(FOLDERS.map("{}x-labels-idx1-ubyte".format), st.just(idx_labels([3, 4]))),
    st.tuples(FOLDERS.map("{}val_annotations.txt".format), st.just(b"0.png\tn1\n1.png\tn2\n0.png\tn3\n")),
    st.tuples(FOLDERS.map("{}wnids.txt".format), st.just(b"n1\n")),
)
OUTSIDE = ["gone", "..", "../far", "../far/deep", "../far/0.png", "../far/s.tar", "../far/t.parquet"]
LINKS = st.tuples(
    st.builds("{}{}".format, FOLDERS, st.sampled_from(["link", "0.png", "s.tar", "cat", "images"])),
    st.one_of(THINGS.map(lambda thing: thing[0]), FOLDERS, st.sampled_from(["gone", "../far", "../far/0.png"])),
)


def made(folder: Path, things: list[tuple[str, bytes]], links: list[tuple[str, str]], pipes: list[str]) -> Path:
    """A folder of these, each unless another is in its place."""
    table = parquet_table([("0.png", "a"), ("up/0.png", "b")], "label", held=False)
    write(folder, {"far/0.png": png(1), "far/deep/1.png": png(2), "far/s.tar": SHARD, "far/t.parquet": table})
    write(folder, {"set/.here": b""})
    (folder / "far/deep/back").symlink_to("../../set")
    (folder / "far/deep/up").symlink_to("..")
    inside = folder / "set"
    for name, content in [*things, *links, *((pipe, None) for pipe in pipes)]:
        place = inside / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                with place.open("xb") as file:
                    file.write(content)
            elif content is None:
                os.mkfifo(place)
            else:
                place.symlink_to(inside / content)
        except OSError:
            continue
    return inside


def gone_through(source: Callable[[], Source]) -> list[RawSample | Refused] | str:
    """All that it yields, without the places, or why it cannot be read."""
    try:
        return [one._replace(uri="") if isinstance(one, RawSample) else one for one in source()]
    except InputError as error:
        return error.message


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    base=st.sampled_from([True, True, False]),
    things=st.lists(THINGS, min_size=1, max_size=12),
    links=st.lists(LINKS, max_size=3),
    pipes=st.lists(IMAGES, max_size=1),
)
def test_a_folder_gives_the_same_samples_on_every_way(
    base: bool,
    things: list[tuple[str, bytes]],
    links: list[tuple[str, str]],
    pipes: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    images = [(name, png(number)) for number, name in enumerate(BASE)] if base else []
    folder = made(tmp_path_factory.mktemp("made"), [*images, *things], links, pipes)
    here = gone_through(lambda: open_source(folder))
    try:
        content = b"".join(pack(folder, follow_links=True).chunks())
    except InputError:
        assert not any(isinstance(one, RawSample) for one in here)
    else:
        assert gone_through(lambda: upload(content, "set.tar")) == here


def raw_png(depth: int, colour: int, row: bytes, width: int, transparent: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    parts = (b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("image", "red"),
    [
        (raw_png(1, 0, b"\x40", 2, b"\0\1"), [0, 255]),
        (raw_png(1, 0, b"\x40", 2, b"\0\0"), [255, 255]),
        (raw_png(2, 0, b"\x60", 2, b"\0\2"), [85, 255]),
        (raw_png(4, 0, b"\x12", 2, b"\0\2"), [17, 255]),
        (raw_png(8, 0, b"\x12\x22", 2, b"\0\x22"), [0x12, 255]),
        (raw_png(16, 0, b"\x12\x34\x12\x35", 2, b"\x12\x35"), [18, 255]),
        (raw_png(8, 2, b"\1\2\3\4\5\6", 2, b"\0\4\0\5\0\6"), [1, 255]),
        (raw_png(16, 2, b"\1\0\2\0\3\0\4\0\5\0\6\0", 2, b"\4\0\5\0\6\0"), [1, 255]),
    ],
    ids=["1 bit", "1 bit black", "2 bits", "4 bits", "8 bits", "16 bits", "RGB", "RGB of 16 bits"],
)
def test_the_transparent_colour_of_a_png_is_white_in_every_depth(image: bytes, red: list[int]) -> None:
    assert np.asarray(decode(image))[0, :, 0].tolist() == red


@pytest.mark.parametrize(
    ("values", "red"),
    [
        ([0.5, 0.5], [0, 0]),
        ([0.0, 1e-45], [0, 255]),
        ([-3e38, 3e38], [0, 255]),
        ([float("nan"), 1.0], [0, 255]),
        ([float("inf"), float("inf")], [0, 0]),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("error")
def test_grey_of_any_floats_has_its_own_range(values: list[float], red: list[int]) -> None:
    sink = io.BytesIO()
    Image.fromarray(np.array([values], np.float32)).save(sink, "TIFF")
    assert np.asarray(decode(sink.getvalue()))[0, :, 0].tolist() == red
