"""Where `tamis curate` may write: not into the source, not over another manifest, and not where there is no room."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from samples import digit_embeddings, digit_files, write_folder

import tamis
from tamis.commands.cli import main
from tamis.scan.memory import Arrays
from trainer.data import ImageSet

COUNT = 60


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `photos` and `own.npy`, where the commands run."""
    write_folder(tmp_path / "photos", digit_files(COUNT))
    np.save(tmp_path / "own.npy", digit_embeddings(COUNT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def curate(*more: str, source: str = "photos", out: str = "out") -> int:
    return main(["curate", source, "-o", out, "--encoder", "embeddings:own.npy", "--classes", "5", "--quiet", *more])


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """As on a disk that is full: Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("out", ["photos", "photos/out", "photos/0/../out", "link/out"])
@pytest.mark.parametrize("source", ["photos", "link"])
def test_nothing_is_written_into_the_source(
    source: str, out: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "link").symlink_to("photos")
    before = sorted(work.rglob("*"))
    assert curate(source=source, out=out) == 2
    assert f"{out} is in {source}" in capsys.readouterr().err
    assert sorted(work.rglob("*")) == before


def test_a_folder_beside_the_source_or_an_archive_is_none_in_it(work: Path) -> None:
    assert curate(out="photos-out") == 0
    assert curate(out="photos/../out") == 0


def test_another_manifest_is_replaced_by_force_alone(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate() == 0
    first = tamis.read_manifest("out").description
    assert curate() == 0, "the same command again"
    for other in (["--strategy", "margin"], ["--seed", "1"], ["--duplicates", "exact"]):
        assert curate(*other) == 1
        assert "out holds the manifest of something else" in capsys.readouterr().err
    assert tamis.read_manifest("out").description == first
    assert curate("--strategy", "margin", "--force") == 0
    assert tamis.read_manifest("out").description["strategy"] == "margin"


def test_a_manifest_of_other_images_is_found_before_they_are_compared(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert curate() == 0
    write_folder(work / "others", digit_files(2 * COUNT)[COUNT:])

    def begun(*_: object) -> None:
        pytest.fail("work has begun")

    monkeypatch.setattr("worker.local.load_embeddings", begun)
    assert curate(source="others") == 1
    assert "Choose another folder with -o, or replace it with --force" in capsys.readouterr().err


def test_a_manifest_that_cannot_be_read_is_not_replaced_either(work: Path) -> None:
    for damaged in ("{", "[]", "null", json.dumps({"request": None})):
        (work / "out").mkdir(exist_ok=True)
        (work / "out" / "manifest.json").write_text(damaged)
        assert curate() == 1
        assert (work / "out" / "manifest.json").read_text() == damaged
    assert curate("--force") == 0


def test_rows_that_come_in_another_order_give_the_same_manifest(work: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert curate() == 0
    order = np.random.default_rng(0).permutation(COUNT)
    names = np.array([name for name, _ in digit_files(COUNT)])[order]
    pq.write_table(pa.table({"path": names, "e": list(digit_embeddings(COUNT)[order])}), "own.parquet")
    again = ["curate", "photos", "-o", "out", "--encoder", "embeddings:own.parquet", "--classes", "5", "--quiet"]
    assert main(again) == 0
    for kind in (">f4", ">f8", "<f8", "g"):
        np.save("own.npy", digit_embeddings(COUNT).astype(kind))
        assert curate() == 0, kind


def test_arrays_that_the_disk_has_no_room_for_are_refused_at_once(tmp_path: Path) -> None:
    """A map would end the process by SIGBUS when it is written to."""
    with no_file_above(2**16):
        with pytest.raises(OSError, match="File too large: '/"):
            Arrays(2**10).zeros((2**10, 2**10), np.float32)
        shards = iter([([str(n) for n in range(COUNT)], np.ones((COUNT, 3, 32, 32), np.uint8))])
        with pytest.raises(OSError, match=f"File too large: '{tmp_path}'"):
            ImageSet.from_shards(shards, [""] * COUNT, 32, tmp_path, memory_limit=0)
    assert Arrays(2**10).zeros((2**10, 2**5), np.float32).sum() == 0


def test_a_full_disk_under_a_training_is_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate() == 0
    with no_file_above(2**14):
        assert main(["train", "out", "-o", "run", "--steps", "10", "--batch-size", "8", "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "There is no room for what is to be written to run: " in told
    assert "-o" in told
