"""Tables of labels are used as they are meant, or it is told which row is not, and what to do about it."""

import datetime
import decimal
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from layouts import (
    Files,
    cifar10_binary,
    image_column,
    kept,
    labels_of,
    parquet_bytes,
    pixels,
    png,
    refused,
    stl10_images,
    tar_bytes,
    upload,
    write,
    zip_bytes,
)

from tamis.sources import Refused, Source, open_source

NAMES = ["0.png", "1.png", "2.png"]
NOTHING = pa.array([], pa.string())
DAYS = [datetime.date(2020, 1, day) for day in (1, 2, 3)]


def beside(table: bytes, name: str = "metadata.parquet", count: int = 3) -> Source:
    """`count` images in a folder `cat`, and a table above it that names them by `0.png` and so on."""
    return upload(zip_bytes({**{f"{number}.png": png(number) for number in range(count)}, name: table}))


def told(source: Source) -> list[str]:
    return [entry.reason for entry in source if isinstance(entry, Refused)]


def both(column: pa.Array) -> list[Source]:
    """A column of three labels in a table beside images, and in one of images."""
    return [
        beside(parquet_bytes({"file_name": NAMES, "label": column})),
        upload(parquet_bytes({"image": [png(number) for number in range(3)], "label": column}), "x.parquet"),
    ]


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        (pa.array(DAYS), ["2020-01-01", "2020-01-02", "2020-01-03"]),
        (pa.array(DAYS).cast(pa.timestamp("ns")), [f"2020-01-0{day} 00:00:00.000000000" for day in (1, 2, 3)]),
        (pa.array([datetime.time(1, 2, 3)] * 3, pa.time32("s")), ["01:02:03.000"] * 3),
        (pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.00")]), ["1.50", None, "-2.00"]),
        (pa.array([b"cat", "hé".encode(), b""]), ["cat", "hé", None]),
        (pa.array(["a", "b", "a"], pa.large_string()), ["a", "b", "a"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array(DAYS).dictionary_encode(), ["2020-01-01", "2020-01-02", "2020-01-03"]),
        (pa.array([2**64 - 1, 2**63, 0], pa.uint64()), ["18446744073709551615", "9223372036854775808", "0"]),
        (pa.array([0.5, 1.0, None], pa.float16()), ["0.5", "1.0", None]),
        (pa.array([True, False, None]), ["True", "False", None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_single_values_of_every_arrow_type_are_labels(column: pa.Array, labels: list[str | None]) -> None:
    for source in both(column):
        assert list(labels_of(source).values()) == labels
        assert told(source) == []


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array([["a"], ["b", "c"], None]), "a list"),
        (pa.array([{"x": 1}, {"x": 2}, None]), "a struct"),
        (pa.array([b"\xff", b"\xfe", b"fine"]), "bytes that are no UTF-8"),
    ],
    ids=["list", "struct", "bytes"],
)
def test_a_label_that_is_no_single_value_is_told(column: pa.Array, what: str) -> None:
    for source in both(column):
        fine = "fine" if what.startswith("bytes") else None
        assert list(labels_of(source).values()) == [None, None, fine]
        assert told(source) == [
            "2 of its 3 rows have a label that is no single text, number or date, and go without, "
            f"such as row 1, {what}: give each row one"
        ]


def test_a_label_of_json_that_is_no_single_value_is_told() -> None:
    rows = [{"file_name": name, "label": said} for name, said in zip(NAMES, ["a", ["b"], {"c": 1}], strict=True)]
    source = beside("\n".join(map(json.dumps, rows)).encode(), "metadata.jsonl")
    assert list(labels_of(source).values()) == ["a", None, None]
    assert "2 of its 3 rows" in told(source)[0]
    assert "line 2, a list" in told(source)[0]
    web = upload(tar_bytes({"0.png": png(0), "0.json": b'{"label": ["a"]}', "1.png": png(1), "1.cls": b"b"}))
    assert labels_of(web) == {"0.png": None, "1.png": "b"}
    assert "its label is a list" in refused(web)["0.json"]


def test_rows_that_contradict_each_other_are_told_and_neither_counts() -> None:
    said = b"file_name,label\n0.png,a\n1.png,b\n0.png,c\n1.png,b\n2.png,\n2.png,d\n"
    source = beside(said, "metadata.csv")
    assert labels_of(source) == {"0.png": None, "1.png": "b", "2.png": "d"}
    assert told(source) == [
        "rows contradict each other, and 1 of the images go without a label, such as 0.png: "
        "line 2 of metadata.csv says a, line 4 of metadata.csv says c; give each image one label"
    ]


def test_tables_that_contradict_each_other_are_told() -> None:
    files: Files = {
        "a/0.png": png(0),
        "a/1.png": png(1),
        "metadata.csv": b"file_name,label\na/0.png,x\na/1.png,y\n",
        "a/metadata.jsonl": b'{"file_name": "0.png", "label": "z"}',
        "a/t.parquet": parquet_bytes({"image": image_column([None] * 3, ["1.png"] * 3), "label": ["y", "y", "v"]}),
    }
    source = upload(zip_bytes(files))
    assert labels_of(source) == {"a/1.png": "y", "a/0.png": None}
    assert "line 2 of metadata.csv says x, line 1 of a/metadata.jsonl says z" in refused(source)["a/metadata.jsonl"]
    assert told(source)[1:] == [
        "the name occurs twice; the first was kept",
        "row 1 of a/t.parquet says y, row 3 of a/t.parquet says v; the first was kept",
    ]
    files["a/t.parquet"] = parquet_bytes({"image": image_column([None], ["1.png"]), "label": ["v"]})
    source = upload(zip_bytes(files))
    assert labels_of(source)["a/1.png"] is None
    assert "row 1 of a/t.parquet says v, but a table of labels says y" in refused(source)["a/t.parquet: 1.png"]


def test_annotations_of_tiny_imagenet_that_contradict_each_other_are_told() -> None:
    said = b"0.JPEG\tn01\t0\n1.JPEG\tn02\x0b\t0\r\n0.JPEG\tn02\t0\n"
    files = {"wnids.txt": b"n01\nn02\n", "val/val_annotations.txt": said}
    source = upload(zip_bytes({**files, "val/images/0.JPEG": png(0), "val/images/1.JPEG": png(1)}))
    assert labels_of(source) == {"val/images/0.JPEG": None, "val/images/1.JPEG": "n02"}
    assert "line 1 of val/val_annotations.txt says n01, line 3" in told(source)[0]


@pytest.mark.parametrize(
    ("rows", "labels", "reason"),
    [
        ('0.png,a\n1.png,"b\n2.png,c\n', {}, "do not match from line 3 on"),
        ('0.png,"a\n1.png,"b"\n2.png,c\n', {}, "do not match from line 2 on"),
        ('0.png,a\n1.png,"b\n2.png,c"\n', {"0.png": "a"}, "label of several lines, and .* such as line 3"),
        ("0.png,a\n1.png,b, c\n2.png,c\n", {"0.png": "a", "2.png": "c"}, "more fields than the header.* line 3"),
        ("0.png,a\n1.png\n2.png,c\n", {"0.png": "a", "2.png": "c"}, "end before their label.* line 3"),
        (",a\n1.png,b\n2.png,c\n", {"1.png": "b", "2.png": "c"}, "name no file.* line 2"),
    ],
)
def test_faults_of_a_csv_are_told_by_their_line_and_label_nothing(
    rows: str, labels: dict[str, str], reason: str
) -> None:
    source = beside(f"file_name,label\n{rows}".encode(), "metadata.csv")
    assert labels_of(source) == {name: labels.get(name) for name in NAMES}
    assert re.search(reason, told(source)[0])


def test_a_csv_as_pandas_reads_it_is_read() -> None:
    rows = '\n\nfile_name,text,label,\r\n0.png,"a ""b"", c\nd",x,\r\n\r\n1.png, 5" wide ,"y, z"\r\n2.png,,  \r\n'
    source = beside(rows.encode("utf-8-sig"), "metadata.csv")
    assert labels_of(source) == {"0.png": "x", "1.png": "y, z", "2.png": None}
    assert told(source) == []


@pytest.mark.parametrize("column", ["Label", " label", "LABEL ", "Class_Name"])
@pytest.mark.parametrize("file", ["file_name", "File_Name ", " FILE_NAME"])
def test_columns_are_known_in_any_case_and_with_spaces_around(column: str, file: str) -> None:
    rows = list(zip(NAMES, "abc", strict=True))
    tables = {
        "metadata.csv": "\n".join(f"{one},{two}" for one, two in [(file, column), *rows]).encode(),
        "metadata.jsonl": "\n".join(json.dumps({file: one, column: two}) for one, two in rows).encode(),
        "metadata.parquet": parquet_bytes({file: NAMES, column: list("abc")}),
    }
    for name, content in tables.items():
        source = beside(content, name)
        assert list(labels_of(source).values()) == ["a", "b", "c"]
        assert told(source) == []
    images = upload(parquet_bytes({"image": [png(number) for number in range(3)], column: list("abc")}))
    assert list(labels_of(images).values()) == ["a", "b", "c"]
    assert labels_of(upload(tar_bytes({"0.png": png(), "0.json": json.dumps({column: 3}).encode()}))) == {"0.png": "3"}


def test_of_columns_that_may_both_be_meant_none_is_used_in_silence() -> None:
    source = beside(b"file_name,Label,LABEL\n0.png,a,b\n", "metadata.csv")
    assert set(labels_of(source).values()) == {None}
    assert told(source) == ["its columns 'Label' and 'LABEL' may both be meant: keep one of them"]
    # The one that is called so exactly is meant.
    assert labels_of(beside(b"file_name,label,LABEL\n0.png,a,b\n", "metadata.csv", 1)) == {"0.png": "a"}
    images = upload(parquet_bytes({"image": [png()], "Label": ["a"], "LABEL": ["b"]}), "x.parquet")
    assert list(labels_of(images).values()) == [None]
    assert "may both be meant" in told(images)[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", b""),
        ("metadata.csv", b"\n\nfile_name,label\n\n"),
        ("metadata.jsonl", b"\n"),
        ("metadata.parquet", parquet_bytes({"file_name": NOTHING, "label": NOTHING})),
        ("t.parquet", parquet_bytes({"image": image_column([]), "label": NOTHING})),
    ],
)
def test_a_table_without_rows_is_told(name: str, content: bytes) -> None:
    source = beside(content, name, 1)
    assert set(labels_of(source)) == {"0.png"}
    assert refused(source) == {name: "the table has no rows"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.csv", "file_name,label\n0.png,\u00e9\n".encode("latin-1"), "not UTF-8"),
        ("metadata.csv", "file_name,label\n0.png,a\n".encode("utf-16"), "not UTF-8"),
        ("metadata.jsonl", b'{"file_name": "0.png"}\n{"file_name"', "line 2 of it is no JSON"),
        ("metadata.jsonl", b"\n3\n", "line 2 of it is no JSON object"),
    ],
)
def test_why_a_table_cannot_be_read_is_told(name: str, content: bytes, reason: str) -> None:
    assert reason in refused(beside(content, name, 1))[name]


def test_captions_beside_a_table_change_no_label_in_any_archive(opener: Callable[[Files], Source]) -> None:
    files: Files = {"metadata.csv": b"file_name,label\na/0.png,x\na/1.png,y\n"}
    for number in range(2):
        files |= {f"a/{number}.png": png(number), f"a/{number}.txt": b"a caption", f"a/{number}.json": b'{"label": 7}'}
    assert {name: said for name, said in labels_of(opener(files)).items() if name.endswith(".png")} == {
        "a/0.png": "x",
        "a/1.png": "y",
    }


def test_a_parquet_table_that_names_images_labels_them_in_every_container(opener: Callable[[Files], Source]) -> None:
    said = {"image": image_column([None] * 3, ["a/1.png", "a/0.png", "a/.hidden/2.png"]), "label": ["x", "y", "z"]}
    files = {f"a/{number}.png": png(number) for number in range(3)}
    source = opener({"a/.hidden/2.png": png(9), **files, "t.parquet": parquet_bytes(said)})
    if any("compressed" in reason for reason in told(source)):
        pytest.skip("which is said of it")
    assert list(labels_of(source).items()) == [("a/1.png", "x"), ("a/0.png", "y"), ("a/2.png", "a")]
    assert [sample.data for sample in kept(source).values()] == [png(1), png(0), png(2)]
    assert refused(source) == {"t.parquet: a/.hidden/2.png": "the file is not in the folder"}


@pytest.mark.parametrize("stored", ["\u00e9", "e\u0301"])
@pytest.mark.parametrize("named", ["\u00e9", "e\u0301"])
def test_a_table_finds_images_however_their_letters_are_composed(stored: str, named: str, tmp_path: Path) -> None:
    said = parquet_bytes({"image": image_column([None], [f"{named}/{named}.png"]), "label": ["x"]})
    folder = write(tmp_path, {f"{stored}/{stored}.png": png(), "t.parquet": said})
    for source in (open_source(folder), open_source(folder / "t.parquet")):
        assert labels_of(source) == {"\u00e9/\u00e9.png": "x"}
        assert told(source) == []


@pytest.mark.parametrize("mark", ["\r", "\x0b", "\x1c", "\u0085", "\u2028", " "])
def test_names_of_classes_end_with_a_line_feed_alone(mark: str) -> None:
    names = f"polar{mark}bear\r\ncat\n\n".encode()
    images = pixels(2, 32)
    cifar = {"data_batch_1.bin": cifar10_binary(images, [0, 1]), "batches.meta.txt": names}
    stl = {"train_X.bin": stl10_images(pixels(2, 96)), "train_y.bin": b"\1\2", "class_names.txt": names}
    for files in (cifar, stl):
        first, second = labels_of(upload(zip_bytes(files))).values()
        assert (first or "").startswith("polar")
        assert (first or "").endswith("bear")
        assert second == "cat"


@pytest.mark.parametrize("name", ["x.tar", "x.parquet", "data_batch_1.bin"])
def test_a_link_to_a_file_of_many_images_is_read_by_its_own_name(tmp_path: Path, name: str) -> None:
    blob = {
        "x.tar": tar_bytes({"dog/0.png": png(0), "cat/1.png": png(1)}),
        "x.parquet": parquet_bytes({"image": [png(0), png(1)], "label": ["dog", "cat"]}),
        "data_batch_1.bin": cifar10_binary(pixels(2, 32), [1, 0]),
    }[name]
    (write(tmp_path, {"blobs/1f": blob, "blobs/2f": b"cat\ndog\n"}) / "set").mkdir()
    link = tmp_path / "set" / name
    link.symlink_to("../blobs/1f")
    (tmp_path / "set/batches.meta.txt").symlink_to("../blobs/2f")
    here = open_source(link)
    assert list(labels_of(here).values()) == ["dog", "cat"]
    assert list(kept(here)) == list(kept(upload(blob, name)))
    if name != "x.tar":
        within = {one.sample_id: one for one in kept(open_source(tmp_path / "set")).values() if one.label}
        assert kept(here) == within
