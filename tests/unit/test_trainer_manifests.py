"""From a manifest to a trained arm: images found wherever they are, flags and pairs heeded, results written."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from layouts import cifar10_binary, cifar_pickle, image_column, parquet_bytes, pixels, png, tar_bytes, write
from PIL import Image
from sklearn.datasets import load_digits

from tamis.batches.listed import manifest_pairs
from tamis.encoders.encoder import fingerprint
from tamis.encoders.files import load_encoder
from tamis.errors import InputError
from tamis.ingest.located import Find
from tamis.ingest.shards import ingest, read_shard
from tamis.manifest import Manifest
from tamis.sources import open_source
from trainer.data import ImageSet, decode_shard
from trainer.recipe import Recipe
from trainer.run import probe_checkpoint, train_manifest

DIGITS = 120


def digits(folder: Path) -> Path:
    data: Any = load_digits()
    for number in range(DIGITS):
        path = folder / str(data.target[number]) / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data.images[number] * 15.9).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def stored(source: Path) -> tuple[pa.Table, dict[str, bytes], list[str]]:
    """The index of the digits, the objects ingest stored, and the shards' keys."""
    objects: dict[str, bytes] = {}
    result = ingest(open_source(source), objects.__setitem__)
    return result.index, objects, [shard.key for shard in result.shards]


def manifest_of(index: pa.Table, uris: Sequence[str] | None = None, margin: float = 0.0, **columns: Any) -> Manifest:
    """A manifest in which every tenth sample is dropped and the first kept neighbours are a difficult pair."""
    count = index.num_rows
    keep = np.arange(count) % 10 > 0
    names = index["sample_id"].to_pylist()
    return Manifest(
        samples=pa.table(
            {
                **{name: index[name] for name in ("sample_id", "sha256", "uri", "width", "height", "label")},
                "cluster": pa.array(np.zeros(count, np.int32)),
                "difficulty": pa.array(np.zeros(count, np.float32)),
                "keep": keep,
                "weight": keep.astype(np.float32),
                "reason": ["kept" if kept else "difficult" for kept in keep],
                **({} if uris is None else {"uri": uris}),
                **columns,
            }
        ),
        pairs=pa.table(
            {
                "a": [names[1]],
                "b": [names[2]],
                "similarity": pa.array([0.9], pa.float32()),
                "in_band": [True],
                "margin": pa.array([margin], pa.float32()),
                "temperature": pa.array([1.0], pa.float32()),
            }
        ),
        description={"strategy": "margin" if margin else "remove", "counts": {}},
    )


def found_in(shards: list[bytes]) -> Find:
    def find(sample_ids: Sequence[str]) -> Iterator[tuple[int, bytes]]:
        for content in shards:
            for row in read_shard(content).to_pylist():
                yield sample_ids.index(row["sample_id"]), row["data"]

    return find


def test_images_are_found_in_their_source_by_their_uris_and_in_shards(
    source: Path, stored: tuple[pa.Table, dict[str, bytes], list[str]], tmp_path: Path
) -> None:
    index, objects, keys = stored
    sha256 = index["sha256"].to_pylist()
    expected = ImageSet.from_shards((decode_shard(objects[key], 16) for key in keys), sha256, 16, tmp_path)
    manifest = manifest_of(index)
    in_shards = manifest_of(index, [f"tamis:{keys[0]}#{row}" for row in range(DIGITS)])
    for found in (
        ImageSet.from_manifest(manifest, 16, tmp_path),
        ImageSet.from_manifest(in_shards, 16, tmp_path, images=source),
        ImageSet.from_manifest(in_shards, 16, tmp_path, find=found_in([objects[key] for key in keys])),
        ImageSet.from_manifest(manifest, 16, tmp_path, memory_limit=1000),
    ):
        assert np.array_equal(found.pixels, expected.pixels)
        assert found.sha256 == tuple(sha256)
    assert isinstance(found.pixels, np.memmap)
    assert list(tmp_path.iterdir()) == []


def test_images_are_found_in_archives_and_idx_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "mnist").mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
    header = b"\0\0\x08\x03" + b"".join(number.to_bytes(4) for number in values.shape)
    (data / "mnist" / "train-images-idx3-ubyte").write_bytes(header + values.tobytes())
    with zipfile.ZipFile(tmp_path / "a file.zip", "w") as archive:
        for number, value in enumerate(values):
            sink = io.BytesIO()
            Image.fromarray(value).save(sink, "png")
            archive.writestr(f"ä b/{number}#.png", sink.getvalue())
    for source in (data, tmp_path / "a file.zip"):
        index = ingest(open_source(source), lambda key, content: None).index
        found = ImageSet.from_manifest(manifest_of(index), 8, tmp_path)
        assert np.array_equal(found.pixels[:, 0], values)


def test_images_are_found_in_every_file_that_holds_many(tmp_path: Path) -> None:
    images = pixels(3, 32)
    files = {
        "cifar/data_batch_1.bin": cifar10_binary(images, [0, 1, 2]),
        "cifar/test_batch": cifar_pickle(images, labels=[0, 1, 2]),
        "hf/t.parquet": parquet_bytes({"image": image_column([png(1), png(2)])}),
    }
    shards = {
        "web/0.tar": tar_bytes({"1.png": png(4), "1.cls": b"7"}),
        "web/1.tar": tar_bytes({"1.png": png(5), "2.png": png(6)}),
    }
    for source in (write(tmp_path / "files", files), write(tmp_path / "shards", shards)):
        index = ingest(open_source(source), lambda key, content: None).index
        for given in ({}, {"images": source}):
            found = ImageSet.from_manifest(manifest_of(index), 8, tmp_path, **given)
            assert list(found.sha256) == index["sha256"].to_pylist()


def test_missing_and_altered_images_are_named(
    source: Path, stored: tuple[pa.Table, dict[str, bytes], list[str]], tmp_path: Path
) -> None:
    index, _, keys = stored
    names = index["sample_id"].to_pylist()
    other = digits(tmp_path / "other")
    (other / names[5]).unlink()
    (other / names[7]).write_bytes((other / names[8]).read_bytes())
    with pytest.raises(InputError, match=rf"1 missing: {names[5]}; 1 altered or damaged: {names[7]}"):
        ImageSet.from_manifest(manifest_of(index), 16, tmp_path, images=other)
    elsewhere = manifest_of(index, [f"tamis:{keys[0]}#{row}" for row in range(DIGITS)])
    with pytest.raises(InputError, match=rf"{DIGITS} missing: {names[0]}, .*\.\.\..*--images"):
        ImageSet.from_manifest(elsewhere, 16, tmp_path)


def test_undecodable_samples_of_a_manifest_are_left_out(
    stored: tuple[pa.Table, dict[str, bytes], list[str]], tmp_path: Path
) -> None:
    index, _, _ = stored
    reasons = ["undecodable" if row == 3 else "kept" for row in range(DIGITS)]
    found = ImageSet.from_manifest(manifest_of(index, reason=reasons), 16, tmp_path)
    assert len(found) == DIGITS - 1
    assert index["sha256"][3].as_py() not in found.sha256


def test_pairs_of_unknown_samples_are_refused_and_neutral_ones_cost_nothing(
    stored: tuple[pa.Table, dict[str, bytes], list[str]],
) -> None:
    index, _, _ = stored
    names = index["sample_id"].to_pylist()
    assert manifest_pairs(manifest_of(index), names) is None
    pairs = manifest_pairs(manifest_of(index, margin=0.2), names)
    assert pairs is not None
    assert (pairs.a.tolist(), pairs.b.tolist()) == ([1], [2])
    with pytest.raises(InputError, match="none of its samples"):
        manifest_pairs(manifest_of(index, margin=0.2), names[2:])


def test_arms_of_a_manifest_are_trained_probed_and_written(
    source: Path, stored: tuple[pa.Table, dict[str, bytes], list[str]], tmp_path: Path
) -> None:
    manifest = manifest_of(stored[0], margin=0.1).write(tmp_path / "manifest")
    metrics: list[int] = []
    recipe = Recipe(epochs=6, batch_size=40)
    curated = train_manifest(manifest, tmp_path / "a", recipe, on_metrics=lambda step, _: metrics.append(step))
    control = train_manifest(manifest, tmp_path / "b", recipe, baseline=True)
    assert metrics == [10, 18]
    assert (curated.arm, curated.samples, curated.steps) == ("margin", 108, 18)
    assert (control.arm, control.samples, control.steps) == ("baseline", 120, 18)
    assert curated.probe is not None
    assert control.probe is not None
    assert curated.probe.test == control.probe.test
    assert curated.encoder_fingerprint == fingerprint(load_encoder(curated.encoder)) != control.encoder_fingerprint
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["encoder.pt", "result.json"]
    assert set(curated.as_json()) >= {
        "probe",
        "steps",
        "epochs",
        "samples",
        "loss",
        "encoder",
        "seconds",
        "seed",
        "arm",
    }
    assert curated.as_json()["recipe"]["augmentation"]["flip"] == 0.5
    assert "linear probe" in curated.describe()
    probed = probe_checkpoint(curated.encoder, source)
    assert probed.samples == DIGITS
    assert probed.probe is not None
    assert probed.probe.accuracy == pytest.approx(curated.probe.accuracy, abs=0.05)


def test_a_manifest_of_embeddings_alone_cannot_be_trained_on(
    stored: tuple[pa.Table, dict[str, bytes], list[str]], tmp_path: Path
) -> None:
    nothing = pa.array(np.zeros(DIGITS, np.int32))
    manifest = manifest_of(stored[0], width=nothing, height=nothing).write(tmp_path / "manifest")
    with pytest.raises(InputError, match="Curate from the images"):
        train_manifest(manifest, tmp_path / "out")


def test_clip_learns_a_manifest_from_texts_in_either_form(stored: Any, tmp_path: Path) -> None:
    manifest = manifest_of(stored[0], margin=0.1)
    names, labels = (manifest.samples[name].to_pylist() for name in ("sample_id", "label"))
    texts = np.eye(10, dtype=np.float32)[[int(label) for label in labels]]
    np.save(tmp_path / "texts.npy", texts)
    table = pa.table({"sample_id": names[::-1], "text": pa.array(texts[::-1].tolist(), pa.list_(pa.float32()))})
    (tmp_path / "texts.parquet").write_bytes(parquet_bytes(table))
    recipe = Recipe(method="clip", steps=6, batch_size=40)
    folder = manifest.write(tmp_path / "manifest")
    plain, named = (
        train_manifest(folder, tmp_path / form, recipe, texts=tmp_path / f"texts.{form}") for form in ("npy", "parquet")
    )
    assert plain.encoder_fingerprint == named.encoder_fingerprint
    assert (plain.arm, plain.samples) == ("margin", 108)
    assert plain.probe is not None
    with pytest.raises(InputError, match="clip learns from texts"):
        train_manifest(folder, tmp_path / "none", recipe)


def test_a_checkpoint_of_other_images_of_the_same_names_is_passed_over(tmp_path: Path) -> None:
    """As all IDX and CIFAR sets name their images alike."""

    class EndedError(Exception):
        pass

    def end(done: int, total: int) -> None:
        if done == 12:
            raise EndedError

    folders = []
    for name, first in (("one", 0), ("other", 20)):
        files = {f"{number}.png": png(first + number) for number in range(20)}
        index = ingest(open_source(write(tmp_path / name, files)), lambda key, content: None).index
        folders.append(manifest_of(index).write(tmp_path / f"{name}.manifest"))
    recipe = Recipe(steps=20, batch_size=8)
    with pytest.raises(EndedError):
        train_manifest(folders[0], tmp_path / "run", recipe, baseline=True, progress=end)
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    steps: list[int] = []
    again = train_manifest(
        folders[1], tmp_path / "run", recipe, baseline=True, progress=lambda done, _: steps.append(done)
    )
    assert steps[0] == 1
    fresh = train_manifest(folders[1], tmp_path / "fresh", recipe, baseline=True)
    assert again.encoder_fingerprint == fresh.encoder_fingerprint
