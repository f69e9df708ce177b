"""Sources that are read where they are: folders under allowed roots, and buckets of a real S3 server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import httpx
import numpy as np
import pytest
from harness import serving
from layouts import HF_FEATURES, image_column, kept, labels_of, parquet_bytes, png, refused, tar_bytes, write, zip_bytes
from samples import digit_embeddings, digit_files, write_folder

import tamis
from tamis.commands.cli import main
from tamis.errors import InputError
from tamis.sources import bucket, open_source

COUNT = 12


@pytest.fixture
def put(s3: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, bytes]], str]:
    """Stores objects below a prefix of this test's own; returns its address."""
    endpoint, bucket = s3
    monkeypatch.setenv("TAMIS_S3_ENDPOINT", endpoint)
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")

    def stored(objects: dict[str, bytes]) -> str:
        for key, content in objects.items():
            client.put_object(Bucket=bucket, Key=f"{tmp_path.name}/{key}", Body=content)
        return f"s3://{bucket}/{tmp_path.name}"

    return stored


def test_a_prefix_of_images_is_a_folder(put: Callable[[dict[str, bytes]], str]) -> None:
    files = {"a/ü #1%.png": png(1), "b/2.png": png(2), "b/c+~.png": png(3), "top.png": png(4)}
    address = put({**files, "a/": b"", "b/": b"", ".hidden": b"x", "b/empty.png": b""})
    source = open_source(address)
    assert {name: sample.data for name, sample in kept(source).items()} == {**files, "b/empty.png": b""}
    assert labels_of(source)["a/ü #1%.png"] == "a"
    assert kept(source)["b/2.png"].uri == f"{address}/b/2.png"
    assert refused(source) == {}
    assert source.total == 5
    assert list(source) == list(open_source(f"{address}/"))
    assert list(kept(open_source(f"{address}/b/"))) == ["2.png", "c+~.png", "empty.png"]


def test_more_objects_than_are_asked_for_ahead_come_in_order(put: Callable[[dict[str, bytes]], str]) -> None:
    files = {f"{number:03}.png": png(number) for number in range(3 * bucket.AHEAD)}
    assert {name: sample.data for name, sample in kept(open_source(put(files))).items()} == files


def test_a_prefix_may_hold_shards_parquet_or_a_table_of_labels(put: Callable[[dict[str, bytes]], str]) -> None:
    address = put(
        {
            "web/0.tar": tar_bytes({"1.jpg": png(1), "1.cls": b"7"}),
            "hf/data/t.parquet": parquet_bytes({"image": image_column([png(1)]), "label": [1]}, HF_FEATURES),
            "folder/metadata.csv": b"file_name,label\n1.png,x\n",
            "folder/1.png": png(1),
            "named/t.parquet": parquet_bytes({"image": image_column([None], ["i/1.png"]), "label": [5]}),
            "named/i/1.png": png(2),
        }
    )
    assert labels_of(open_source(f"{address}/web")) == {"0.tar/1.jpg": "7"}
    assert labels_of(open_source(f"{address}/hf")) == {"data/t.parquet/000000.png": "dog"}
    assert labels_of(open_source(f"{address}/hf/data/t.parquet")) == {"t.parquet/000000.png": "dog"}
    assert labels_of(open_source(f"{address}/folder")) == {"1.png": "x"}
    assert labels_of(open_source(f"{address}/named")) == {"i/1.png": "5"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_in_a_bucket_is_read_in_ranges_and_never_whole(
    put: Callable[[dict[str, bytes]], str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A part at a time is held, and what the archive is asked for decides which."""
    noise = np.random.default_rng(0)
    files = {**{f"{number}.bin": noise.bytes(2**20) for number in range(40)}, "last.png": png(1)}
    address = put({f"x.{kind}": zip_bytes(files) if kind == "zip" else tar_bytes(files)})
    read: list[int] = []
    readinto = bucket.Seekable.readinto

    def counted(self: Any, buffer: Any) -> int:
        read.append(readinto(self, buffer))
        return read[-1]

    monkeypatch.setattr(bucket.Seekable, "readinto", counted)
    source = open_source(f"{address}/x.{kind}")
    assert max(read) <= bucket.PART
    assert sum(read) < 20 * 2**20
    assert kept(source)["last.png"].data == png(1)
    assert max(read) <= bucket.PART


def test_buckets_that_cannot_be_read_are_an_error_that_says_why(
    put: Callable[[dict[str, bytes]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put({"dotted/./x.png": b"x"})
    for wrong, message in (
        ("s3://", "names no bucket"),
        ("s3://no-such-bucket/x", "no such bucket"),
        (f"{address}/nothing", "holds no files"),
        (f"{address}/dotted", "no path"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(wrong)


def test_curate_reads_a_bucket_from_the_command_line(
    put: Callable[[dict[str, bytes]], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = put(dict(digit_files(COUNT)))
    np.save(tmp_path / "e.npy", digit_embeddings(COUNT))
    out = tmp_path / "out"
    arguments = ["curate", address, "-o", str(out), "--encoder", f"embeddings:{tmp_path / 'e.npy'}", "--classes", "4"]
    assert main(arguments) == 0, capsys.readouterr().err
    assert tamis.read_manifest(out).samples["uri"].to_pylist()[0] == f"{address}/{digit_files(COUNT)[0][0]}"


def test_a_server_reads_registered_places_and_no_others(
    put: Callable[[dict[str, bytes]], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    write_folder(root / "photos", digit_files(COUNT))
    write(tmp_path, {"secret/1.png": png(1)})
    (root / "way-out").symlink_to(tmp_path / "secret")
    address = put(dict(digit_files(COUNT)))
    with serving(tmp_path / "data", env={"TAMIS_ALLOWED_ROOTS": str(root)}) as server:

        def register(uri: str) -> httpx.Response:
            made = httpx.post(f"{server.url}/api/v1/datasets", json={"name": "x"}).json()["id"]
            return httpx.post(f"{server.url}/api/v1/datasets/{made}/location", json={"uri": uri})

        for uri in (
            (tmp_path / "secret").as_uri(),
            f"{root.as_uri()}/../secret",
            f"{root.as_uri()}/%2e%2e/secret",
            f"{root.as_uri()}/way-out",
            f"{root.as_uri()}/way-out/1.png",
            f"{root.as_uri()}-other",
        ):
            answer = register(uri)
            assert answer.status_code == 422, uri
            assert "not under an allowed root" in answer.text
        for uri in ((root / "photos").as_uri(), address):
            assert main(["upload", uri, "--name", "in place", "--server", server.url, "--json"]) == 0
            dataset = json.loads(capsys.readouterr().out.splitlines()[-1])
            assert (dataset["samples"], dataset["quarantined"]) == (COUNT, 0)


@pytest.fixture
def swapped(tmp_path: Path) -> tuple[Path, Path, Callable[[str], None]]:
    """A root with a folder `photos/inner`, a secret folder beside it, and what puts a link to that in its place."""
    root = tmp_path / "root"
    write(root, {"photos/inner/1.png": png(1), "photos/inner/2.png": png(2)})
    write(tmp_path, {"secret/1.png": png(9), "secret/2.png": png(9), "secret/inner/1.png": png(9)})

    def swap(place: str) -> None:
        (root / place).rename(tmp_path / "moved")
        (root / place).symlink_to(tmp_path / "secret")

    return root, tmp_path / "secret", swap


def test_a_link_that_takes_a_places_stead_meanwhile_leads_nowhere(swapped: Any) -> None:
    root, _, swap = swapped
    source = open_source(root / "photos", roots=[root])
    entries = iter(source)
    next(entries)
    swap("photos/inner")
    rest = list(entries)
    assert [type(entry).__name__ for entry in rest] == ["Refused"]
    assert "cannot be read" in rest[0].reason


def test_a_registered_folder_that_became_a_link_is_not_read(swapped: Any) -> None:
    root, _, swap = swapped
    source = open_source(root / "photos", roots=[root])
    swap("photos")
    with pytest.raises(InputError, match="cannot be read"):
        list(source)
    with pytest.raises(InputError, match="not under an allowed root"):
        open_source(root / "photos", roots=[root])


def test_an_archive_that_became_a_link_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, {"a.tar": tar_bytes({"1.png": png(1)}), "secret.tar": tar_bytes({"1.png": png(9)})})
    source = open_source(tmp_path / "a.tar")
    (tmp_path / "a.tar").unlink()
    (tmp_path / "a.tar").symlink_to("secret.tar")
    with pytest.raises(OSError, match="symbolic links"):
        list(source)
