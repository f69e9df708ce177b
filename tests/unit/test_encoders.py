"""Encoders: the same from the same seed, stored without code, named by their weights; and embeddings users bring."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tamis.encoders.brought import load_embeddings, save_embeddings
from tamis.encoders.encoder import build_encoder, encoder_bytes, fingerprint
from tamis.encoders.files import load_encoder
from tamis.encoders.inference import embed
from tamis.encoders.spec import ON_CPU_UP_TO, EncoderSpec, choose_spec, to_pixels
from tamis.errors import InputError

SMALL = EncoderSpec("small", 16)


def noise(count: int, size: int = 16) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 3, size, size), np.uint8)


def cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


def test_a_seed_determines_the_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    encoders = [build_encoder(SMALL, seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint(encoders[0]) == fingerprint(encoders[1]) != fingerprint(encoders[2])


@pytest.mark.parametrize(
    ("side", "expected"),
    [(8, 16), (28, 24), (32, 32), (40, 40), (64, 64), (96, 96), (200, 200), (2000, 224)],
)
def test_the_spec_follows_the_median_shorter_side(side: int, expected: int) -> None:
    sides = [side, side, 3 * side], [2 * side, side, side]
    assert choose_spec(*sides, device="cuda") == EncoderSpec("small" if expected <= 40 else "resnet18", expected)
    assert choose_spec(*sides, device="cpu") == EncoderSpec("small", min(expected, ON_CPU_UP_TO))


def test_what_is_asked_for_is_taken_on_any_device() -> None:
    for device in ("cpu", "cuda"):
        assert choose_spec([200], [200], device=device, size=64).image_size == 64
        asked = choose_spec([200], [200], device=device, size=48, architecture="resnet50")
        assert asked == EncoderSpec("resnet50", 48)
        with pytest.raises(InputError, match="image size is 8"):
            choose_spec([200], [200], device=device, size=8)


def test_images_without_a_size_are_refused() -> None:
    for widths in ([], [0, 8]):
        with pytest.raises(InputError, match="without a width"):
            choose_spec(widths, widths, device="cpu")


@pytest.mark.parametrize("arguments", [("vit", 32), ("small", 8), ("small", 16.0), ("small", True)])
def test_a_spec_of_nothing_known_is_refused(arguments: tuple[Any, Any]) -> None:
    with pytest.raises(InputError):
        EncoderSpec(*arguments)


@pytest.mark.parametrize("spec", [SMALL, EncoderSpec("resnet18", 48), EncoderSpec("resnet18", 72)], ids=str)
def test_an_encoder_survives_its_file(spec: EncoderSpec, tmp_path: Path) -> None:
    encoder = build_encoder(spec, 3)
    path = tmp_path / "encoder.pt"
    path.write_bytes(encoder_bytes(encoder))
    loaded = load_encoder(path)
    assert loaded.spec == spec
    assert fingerprint(loaded) == fingerprint(encoder)
    pixels = noise(4, spec.image_size)
    features = embed(loaded, pixels, "cpu")
    assert features.shape == (4, encoder.dimension)
    assert np.array_equal(features, embed(encoder, pixels, "cpu"))


def test_the_fingerprint_follows_the_weights_and_not_the_container() -> None:
    encoder = build_encoder(SMALL, 0)
    original = fingerprint(encoder)
    sink = io.BytesIO()
    torch.save(torch.load(io.BytesIO(encoder_bytes(encoder))), sink, _use_new_zipfile_serialization=False)
    assert sink.getvalue() != encoder_bytes(encoder)
    assert fingerprint(load_encoder(sink.getvalue())) == original
    with torch.no_grad():
        next(encoder.parameters()).mul_(1.001)
    assert fingerprint(encoder) != original


class Trap:
    """Pickled, it writes a file when it is loaded by a loader that runs code."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def saved(value: object) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink)
    return sink.getvalue()


def scripted() -> bytes:
    sink = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        lambda trap: pickle.dumps(trap),
        lambda trap: saved(trap),
        lambda trap: saved({"format": "tamis-encoder-1", "spec": trap, "state": {}}),
        lambda trap: saved(build_encoder(SMALL, 0)),
        lambda trap: saved({"format": "tamis-encoder-1", "spec": {"architecture": "small"}, "state": {}}),
        lambda trap: saved({"format": "tamis-encoder-1", "spec": SMALL.__dict__, "state": {}}),
        lambda trap: saved({"format": "tamis-encoder-9"}),
        lambda trap: saved([1, 2]),
        lambda trap: encoder_bytes(build_encoder(SMALL, 0))[:-500],
        lambda trap: scripted(),
        lambda trap: b"",
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.load:UserWarning")
def test_what_is_no_encoder_is_refused_and_not_run(content: Callable[[Trap], bytes], tmp_path: Path) -> None:
    target = tmp_path / "touched"
    with pytest.raises(InputError):
        load_encoder(content(Trap(target)))
    assert not target.exists()


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.pt cannot be read"):
        load_encoder(tmp_path / "nothing.pt")


def test_features_hardly_depend_on_the_batch_and_not_at_all_on_the_run(tmp_path: Path) -> None:
    encoder = build_encoder(SMALL, 0)
    pixels = noise(37)
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=pixels.shape)
    mapped[:] = pixels
    features = embed(encoder, pixels, "cpu")
    assert np.array_equal(features, embed(encoder, mapped, "cpu"))
    assert cosines(features[:5], embed(encoder, pixels[:5], "cpu")) == pytest.approx(1, abs=1e-4)
    assert embed(encoder, pixels[:0], "cpu").shape == (0, encoder.dimension)


def test_pixels_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(N, 3, 16, 16\)"):
        embed(build_encoder(SMALL, 0), noise(2, 24), "cpu")


def test_the_centred_square_is_taken() -> None:
    image = Image.new("RGB", (60, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    pixels = to_pixels(image, 10)
    assert pixels.shape == (3, 10, 10)
    assert (pixels[:, :, 1:-1] == np.array([0, 0, 255], np.uint8)[:, None, None]).all()
    assert to_pixels(Image.new("RGB", (1, 5000)), 16).shape == (3, 16, 16)


def test_shrinking_averages_and_does_not_pick() -> None:
    checkered = np.indices((64, 64)).sum(0) % 2 * 255
    pixels = to_pixels(Image.fromarray(np.stack([checkered] * 3, 2).astype(np.uint8)), 8)
    assert pixels == pytest.approx(127.5, abs=4)


SIX = pa.chunked_array([["cat-wild/0.png", "cat/0.png", "cat/1.png"], ["dog/0.png", "dog/1.png", "dog/é.png"]])
KINDS = ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "g")


def test_embeddings_load_from_npy_and_parquet_whatever_the_suffix(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    np.save(tmp_path / "plain.npy", values)
    (tmp_path / "plain.npy").rename(tmp_path / "one")
    tables = {
        "two": pa.table({"embedding": pa.FixedSizeListArray.from_arrays(values.ravel(), 3)}),
        "three": pa.table({"embedding": list(values)}),
        "tensors": pa.table({"embedding": pa.FixedShapeTensorArray.from_numpy_ndarray(values)}),
        "four": pa.table({f"d{column}": values[:, column] for column in range(3)}),
    }
    for name, table in tables.items():
        pq.write_table(table, tmp_path / name, row_group_size=4)
    for name in ("one", *tables):
        loaded = load_embeddings(tmp_path / name, SIX)
        assert np.array_equal(loaded, values), name
    assert isinstance(load_embeddings(tmp_path / "one", SIX), np.memmap)


@pytest.mark.parametrize("name", ["sample_id", "path"])
def test_rows_with_names_come_in_any_order(name: str, tmp_path: Path) -> None:
    values, order = np.arange(12, dtype=np.float32).reshape(6, 2), [3, 0, 5, 1, 4, 2]
    names = SIX.take(pa.array(order))
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        table = pa.table({name: names.cast(kind), "a": values[order, 0], "b": values[order, 1]})
        pq.write_table(table, tmp_path / "e", row_group_size=4)
        assert np.array_equal(load_embeddings(tmp_path / "e", SIX), values)
    # A row of a file that is no image is passed over.
    with_broken = pa.table({name: [*SIX.to_pylist(), "dog/broken.png"], "e": [*map(list, values), [7.0, 7.0]]})
    pq.write_table(with_broken, tmp_path / "e")
    assert np.array_equal(load_embeddings(tmp_path / "e", SIX, ["dog/broken.png"]), values)


def test_rows_that_are_not_one_a_sample_are_named(tmp_path: Path) -> None:
    names = ["photos/cat/0.png", "cat/1.png", "cat/1.png", *SIX.to_pylist()[3:5]]
    pq.write_table(pa.table({"path": names, "e": [[1.0, 2.0]] * 5}), tmp_path / "e")
    with pytest.raises(InputError) as refused:
        load_embeddings(tmp_path / "e", SIX)
    assert "3 images have no row: cat-wild/0.png, cat/0.png, dog/é.png;" in refused.value.message
    assert "1 rows name no image: photos/cat/0.png;" in refused.value.message
    assert "1 images have several rows: cat/1.png" in refused.value.message
    np.save(tmp_path / "e.npy", np.ones((7, 2)))
    with pytest.raises(
        InputError, match=r"7 rows for 6 images; left out, with no row, 1 files: 3\.png.*order.*sample_id"
    ):
        load_embeddings(tmp_path / "e.npy", SIX, ["3.png"])


@pytest.mark.parametrize(("scale", "kind"), [(1.0, "<f2"), (1 / 3, "<f4"), (1e6, "<f4"), (1e300, "<f8")])
def test_the_same_numbers_are_kept_as_the_same_bytes(scale: float, kind: str, tmp_path: Path) -> None:
    values = (np.arange(6000, dtype=np.float64).reshape(3000, 2) % 1000 * scale).astype(kind)
    for fitting in KINDS[KINDS.index(kind) :]:
        for array in (values.astype(fitting), np.asfortranarray(values.astype(fitting))):
            save_embeddings(array, tmp_path / "e.npy")
            expected = io.BytesIO()
            np.save(expected, values)
            assert np.array_equal(np.load(tmp_path / "e.npy"), values)
            assert (tmp_path / "e.npy").read_bytes() == expected.getvalue(), fitting


def written(value: Any) -> Callable[[Path], object]:
    if isinstance(value, pa.Table):
        return lambda path: pq.write_table(value, path)
    return lambda path: path.write_bytes(value if isinstance(value, bytes) else npy(value))


def npy(array: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        np.zeros((4, 3), np.int32),
        np.zeros(4, np.float32),
        np.zeros((4, 3, 2), np.float32),
        np.zeros((4, 0), np.float32),
        np.array([["a", 1.0]], object),
        pickle.dumps([[1.0]]),
        npy(np.zeros((40, 30)))[:-100],
        b"PAR1 and no more",
        pa.table({"embedding": [[1.0, 2.0], [3.0]]}),
        pa.table({"embedding": [[1.0, 2.0], [3.0, None]]}),
        pa.table({"embedding": [[1.0, 2.0], None]}),
        pa.table({"embedding": [[1, 2], [3, 4]]}),
        pa.table({"embedding": ["a", "b"]}),
        pa.table({"name": ["a", "b"], "x": [1.0, 2.0]}),
        pa.table({"x": [1.0, None]}),
        pa.table({}),
    ],
    ids=str,
)
def test_files_that_hold_no_embeddings_are_refused(content: Any, tmp_path: Path) -> None:
    written(content)(tmp_path / "file")
    with pytest.raises(InputError, match="file"):
        load_embeddings(tmp_path / "file", SIX)
