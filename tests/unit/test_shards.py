import hashlib
import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from harness import until
from layouts import idx_images
from PIL import Image

from tamis.errors import InputError
from tamis.images import THUMBNAIL_SIZES, inspect
from tamis.ingest import checking, shards
from tamis.ingest.checking import check_files
from tamis.ingest.shards import INDEX_SCHEMA, SHARD_SAMPLES, SHARD_SCHEMA, Ingested, ingest, read_shard
from tamis.sources import RawSample, Refused, Source, open_source


def png(value: int, size: tuple[int, int] = (5, 4)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, (value % 256, value // 256 % 256, 0)).save(sink, "PNG")
    return sink.getvalue()


def noise(seed: int) -> bytes:
    sink = io.BytesIO()
    Image.frombytes("RGB", (24, 24), random.Random(seed).randbytes(24 * 24 * 3)).save(sink, "PNG")
    return sink.getvalue()


@dataclass(frozen=True)
class Listed:
    """A source of given entries."""

    entries: list[RawSample | Refused]
    total: int | None = None

    def __iter__(self) -> Iterator[RawSample | Refused]:
        return iter(self.entries)


def sample(number: int, label: str | None = None, data: bytes | None = None) -> RawSample:
    return RawSample(f"{number:05}.png", png(number) if data is None else data, label, f"file:///{number}.png")


def stored(source: Source) -> tuple[Ingested, dict[str, bytes]]:
    objects: dict[str, bytes] = {}
    return ingest(source, objects.__setitem__), objects


def test_shards_hold_the_files_as_they_came() -> None:
    entries = [sample(number) for number in range(SHARD_SAMPLES + 10)]
    result, objects = stored(Listed(list(entries)))
    assert [(shard.first, shard.count) for shard in result.shards] == [(0, SHARD_SAMPLES), (SHARD_SAMPLES, 10)]
    rows = [row for shard in result.shards for row in read_shard(objects[shard.key]).to_pylist()]
    assert [(row["sample_id"], row["data"]) for row in rows] == [(entry.sample_id, entry.data) for entry in entries]
    assert all(row["sha256"] == hashlib.sha256(row["data"]).hexdigest() for row in rows)
    assert all((row["width"], row["height"]) == (5, 4) for row in rows)
    assert result.bytes == sum(len(entry.data) for entry in entries)


def test_objects_are_named_after_their_content() -> None:
    result, objects = stored(Listed([sample(number) for number in range(3)]))
    assert set(objects) == {result.shards[0].key, result.shards[0].thumbnails}
    for key, content in objects.items():
        assert hashlib.sha256(content).hexdigest() in key
    assert result.shards[0].key.startswith("shards/")
    assert result.shards[0].thumbnails.startswith("thumbnails/")


def test_the_index_leads_to_every_image_and_thumbnail() -> None:
    sizes = [(9, 7), (120, 40), (300, 200)]
    files = [png(number, sizes[number % 3]) for number in range(SHARD_SAMPLES + 3)]
    result, objects = stored(Listed([sample(number, data=data) for number, data in enumerate(files)]))
    assert result.index.schema == INDEX_SCHEMA
    tables = [read_shard(objects[shard.key]) for shard in result.shards]
    for row in result.index.slice(SHARD_SAMPLES - 2, 5).to_pylist():
        image = tables[row["shard"]].slice(row["row"], 1).to_pylist()[0]
        assert (image["sample_id"], image["sha256"]) == (row["sample_id"], row["sha256"])
        assert row["size"] == len(image["data"])
        assert row["uri"] == f"file:///{int(row['sample_id'][:5])}.png"
        pack = objects[result.shards[row["shard"]].thumbnails]
        for side, made in zip(THUMBNAIL_SIZES, inspect(image["data"]).thumbnails, strict=True):
            start, length = row[f"thumbnail_{side}_offset"], row[f"thumbnail_{side}_length"]
            assert pack[start : start + length] == (made or image["data"])


def test_images_in_place_are_neither_copied_nor_read_once_they_have_changed(tmp_path: Path) -> None:
    # Of chance, so that nothing of them can be stored in fewer bytes.
    images = {f"{number}.png": noise(number) for number in range(20)}
    for name, content in images.items():
        (tmp_path / name).write_bytes(content)
    objects: dict[str, bytes] = {}
    result = ingest(open_source(tmp_path), objects.__setitem__, in_place=True)
    assert sum(map(len, objects.values())) < sum(map(len, images.values())) / 4
    (shard,) = result.shards
    table = read_shard(objects[shard.key])
    assert table.schema.equals(SHARD_SCHEMA)
    assert dict(zip(table["sample_id"].to_pylist(), table["data"].to_pylist(), strict=True)) == images
    (tmp_path / "7.png").write_bytes(images["8.png"])
    with pytest.raises(InputError, match=r"7\.png has changed"):
        read_shard(objects[shard.key])


def test_a_shard_closes_when_its_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * len(png(1)))
    result, _ = stored(Listed([sample(1, data=png(1)) for _ in range(5)]))
    assert [shard.count for shard in result.shards] == [2, 2, 1]


def test_what_does_not_decode_goes_to_quarantine_in_order() -> None:
    cut = png(1)[:-20]
    entries: list[RawSample | Refused] = [
        sample(0),
        sample(1, data=b"text"),
        Refused("x.zip", "nested"),
        sample(3),
        sample(4, data=cut),
    ]
    result, _ = stored(Listed(entries))
    assert result.index["sample_id"].to_pylist() == ["00000.png", "00003.png"]
    names, reasons = (result.quarantine[column].to_pylist() for column in ("name", "reason"))
    assert names == ["00001.png", "x.zip", "00004.png"]
    assert "known format" in reasons[0]
    assert reasons[1] == "nested"
    assert reasons[2]


def test_no_usable_image_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "b.txt").write_text("no image")
    with pytest.raises(InputError, match=r"None of its 2 files .* a\.png: not an intact image") as caught:
        stored(open_source(tmp_path))
    assert caught.value.hint
    with pytest.raises(InputError, match="no image in it"):
        stored(Listed([]))


def test_labels_are_in_the_index_and_not_in_the_shards() -> None:
    result, objects = stored(Listed([sample(0, "cat"), sample(1, "dog"), sample(2)]))
    assert result.index["label"].to_pylist() == ["cat", "dog", None]
    assert read_shard(objects[result.shards[0].key]).schema == SHARD_SCHEMA
    assert "label" not in SHARD_SCHEMA.names


@pytest.mark.parametrize("labels", [["all", "all"], ["all", None], [None, None]])
def test_a_single_label_counts_as_none(labels: list[str | None]) -> None:
    result, _ = stored(Listed([sample(number, label) for number, label in enumerate(labels)]))
    assert result.index["label"].null_count == 2
    assert result.index.schema == INDEX_SCHEMA


def test_equal_sources_give_equal_objects_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        (tmp_path / f"{number}.png").write_bytes(png(number) if number % 7 else b"no image")
    first = stored(open_source(tmp_path))
    in_processes = stored(open_source(tmp_path))
    assert first[0] == in_processes[0]
    assert first[1] == in_processes[1]


def test_images_made_of_pixels_are_stored_as_if_they_had_been_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    made, objects = stored(open_source(io.BytesIO(idx_images(100))))
    decoded, others = stored(Listed([entry._replace(size=None) for entry in open_source(io.BytesIO(idx_images(100)))]))
    assert (made, objects) == (decoded, others)


DEADLY = png(11)


def deadly(files: Sequence[bytes], thumbnails: bool = True) -> list[Any]:
    """`check_files` with a decoder that one file brings down."""
    if DEADLY in files:
        os.kill(os.getpid(), signal.SIGKILL)
    return check_files(files, thumbnails)


def test_an_image_that_ends_its_process_is_refused_and_no_other_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BATCH_SAMPLES", 5)
    monkeypatch.setattr(checking, "check_files", deadly)
    result, _ = stored(Listed([sample(number) for number in range(100)]))
    assert result.index["sample_id"].to_pylist() == [f"{number:05}.png" for number in range(100) if number != 11]
    assert result.quarantine["name"].to_pylist() == ["00011.png"]
    assert "ends the process" in result.quarantine["reason"][0].as_py()


def test_an_ingest_whose_helpers_are_killed_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BATCH_SAMPLES", 10)
    entries: list[RawSample | Refused] = [sample(number) for number in range(400)]
    quiet = stored(Listed(entries))

    class Interrupted(Listed):
        def __iter__(self) -> Iterator[RawSample | Refused]:
            for number, entry in enumerate(self.entries):
                if number in {150, 300}:
                    for helper in multiprocessing.active_children():
                        helper.kill()
                yield entry

    assert stored(Interrupted(entries)) == quiet


def test_where_no_process_can_be_started_no_image_is_blamed(tmp_path: Path) -> None:
    program = tmp_path / "unguarded.py"
    program.write_text(
        "from tamis.ingest.checking import checked\n"
        "from tamis.sources import RawSample\n"
        "print(*checked([RawSample('1.png', b'no image', None, '')]))\n"
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert not done.stdout
    assert "could not be started" in done.stderr


def test_nothing_remains_of_an_ingest_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "endless.py"
    program.write_text(
        "import itertools, multiprocessing\n"
        "from tamis.ingest.checking import checked\n"
        "from tamis.sources import RawSample\n"
        "if __name__ == '__main__':\n"
        "    endless = (RawSample(str(number), b'no image', None, '') for number in itertools.count())\n"
        "    for number, _ in enumerate(checked(endless)):\n"
        "        if number == 0:\n"
        "            print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        children = [int(word) for word in process.stdout.readline().split()]
        assert children
        process.kill()

    def running(child: int) -> bool:
        # Of one that ended and was not waited for yet, the command line is empty.
        command = Path(f"/proc/{child}/cmdline")
        return command.exists() and command.read_bytes() != b""

    until(lambda: not any(running(child) for child in children), 10, "the processes to end")


def test_the_fingerprint_depends_on_ids_contents_and_order_alone() -> None:
    def fingerprint(*entries: RawSample | Refused) -> str:
        return stored(Listed(list(entries)))[0].fingerprint

    one, two = sample(1), sample(2)
    base = fingerprint(one, two)
    assert fingerprint(RawSample(one.sample_id, one.data, "cat", ""), Refused("x", "y"), two) == base
    assert fingerprint(two, one) != base
    assert fingerprint(one, sample(2, data=png(3))) != base
    assert fingerprint(RawSample("other.png", one.data, None, ""), two) != base


def test_progress_counts_every_sample_refused_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    entries: list[RawSample | Refused] = [sample(0), Refused("x", "y"), *(sample(number) for number in range(1, 60))]
    ingest(Listed(entries, total=61), lambda key, content: None, lambda *call: calls.append(call))
    assert calls == [(61, 61)]
    monkeypatch.setattr(checking, "BATCH_SAMPLES", 25)
    calls.clear()
    ingest(Listed(entries, total=61), lambda key, content: None, lambda *call: calls.append(call))
    assert calls == [(25, 61), (50, 61), (61, 61)]
    calls.clear()
    ingest(Listed(entries[:1]), lambda key, content: None, lambda *call: calls.append(call))
    assert calls == [(1, 0)]


def test_only_few_samples_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_SAMPLES", 10)
    monkeypatch.setattr(checking, "BATCH_SAMPLES", 5)
    read = kept = ahead = 0

    class Endless(Listed):
        def __iter__(self) -> Iterator[RawSample | Refused]:
            nonlocal read
            for number in range(2000):
                read += 1
                yield sample(number)

    def put(key: str, content: bytes) -> None:
        nonlocal kept, ahead
        kept += key.startswith("shards/") and 10
        ahead = max(ahead, read - kept)

    ingest(Endless([]), put)
    assert ahead < 40 * (os.cpu_count() or 1)


def test_an_error_of_the_source_or_the_caller_ends_the_ingest(monkeypatch: pytest.MonkeyPatch) -> None:

    class Broken(Listed):
        def __iter__(self) -> Iterator[RawSample | Refused]:
            yield from self.entries
            raise InputError("The archive ends early.")

    with pytest.raises(InputError, match="ends early"):
        stored(Broken([sample(number) for number in range(500)]))

    def cancelled(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(Listed([sample(number) for number in range(500)]), lambda key, content: None, cancelled)
    assert not multiprocessing.active_children()


def test_shards_are_read_from_files_and_refused_when_they_are_none(tmp_path: Path) -> None:
    result, objects = stored(Listed([sample(0)]))
    # A reader of data sets would take the folder's name for a column.
    path = tmp_path / "label=cat" / "shard.parquet"
    path.parent.mkdir()
    path.write_bytes(objects[result.shards[0].key])
    assert read_shard(path).equals(read_shard(path.read_bytes()))
    for content in (b"", b"no parquet", path.read_bytes()[:-9]):
        with pytest.raises(InputError, match="not a shard"):
            read_shard(content)


def test_a_folder_of_labelled_images_is_ingested_whole(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.png").write_bytes(png(number))
    result, _ = stored(open_source(tmp_path))
    assert result.index.num_rows == 6
    assert result.quarantine.num_rows == 0
    counts = pc.value_counts(result.index["label"]).to_pylist()
    assert {row["values"]: row["counts"] for row in counts} == {"cat": 3, "dog": 3}
