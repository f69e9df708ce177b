"""Which pairs of a batch are difficult: by each source as a plain oracle says, and of manifests of every kind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch

import tamis
from tamis import InputError
from tamis.batches.flags import Curated, Listed
from tamis.curation.features import COMPONENTS, band_features, band_of
from tamis.encoders.encoder import fingerprint
from tamis.encoders.spec import EncoderSpec
from tamis.manifest import Manifest
from tamis.scan.rows import Rows
from trainer.data import ImageSet
from trainer.flags import Chance, Flags, Online, manifest_flags
from trainer.recipe import Recipe
from trainer.training import train_encoder

COUNT, CLASSES = 300, 5
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def embeddings() -> npt.NDArray[np.float32]:
    """Five classes of 60 in 128 dimensions that matter less and less, about a common mean: all cosines are positive."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CLASSES, 128))
    noise = random.standard_normal((COUNT, 128)) * np.geomspace(2.0, 0.1, 128)
    rows = np.repeat(centres, COUNT // CLASSES, 0) + noise
    return (rows + 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def curation(embeddings: npt.NDArray[np.float32]) -> tamis.Curation:
    return tamis.curate(embeddings, classes=CLASSES, neighbours=10)


@pytest.fixture(scope="module")
def manifest(curation: tamis.Curation) -> Manifest:
    return curation.select("temperature")


def cosines(rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return unit @ unit.T  # type: ignore[no-any-return]


def flagged(flags: Flags | None, indices: Any, features: torch.Tensor | None = None) -> tuple[Any, Any, Any]:
    assert flags is not None
    some = torch.zeros(2, len(indices), 3) if features is None else features
    found, margin, temperature = flags.on(CPU)(torch.as_tensor(indices), some)
    assert found.dtype == torch.bool
    return found.numpy(), margin, temperature


def between_samples(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Less the diagonal, which the losses ignore."""
    return flags[np.triu_indices(len(flags), 1)]


def test_features_flag_as_the_embeddings_do_and_the_band_holds_what_its_shares_say(
    embeddings: npt.NDArray[np.float32],
) -> None:
    rows = Rows(embeddings)
    features = band_features(rows, seed=0)
    assert (features.dtype, features.shape) == (np.float16, (COUNT, COMPONENTS))
    upper = np.triu_indices(COUNT, 1)
    for high, low in ((0.2, 0.95), (0.05, 0.6)):
        sim_low, sim_high = band_of(features, high, low, seed=0)
        found = (features.astype(np.float32) @ features.astype(np.float32).T)[upper]
        found_flags = (found >= sim_low) & (found < sim_high)
        assert found_flags.mean() == pytest.approx(low - high, abs=1e-3)
        exact = cosines(embeddings)[upper]
        own_low, own_high = np.quantile(exact, [1 - low, 1 - high])
        assert (found_flags == ((exact >= own_low) & (exact < own_high))).mean() > 0.95
    few = band_features(Rows(embeddings[:, :8]), seed=0)
    np.testing.assert_allclose(few.astype(float) @ few.astype(float).T, cosines(embeddings[:, :8]), atol=2e-3)


@pytest.mark.parametrize("strategy", ["remove", "margin", "temperature", "combined", "auto"])
def test_a_manifest_carries_a_band_where_its_strategy_treats_pairs(
    curation: tamis.Curation, strategy: str, tmp_path: Path
) -> None:
    made = curation.select(strategy)
    written = tamis.read_manifest(made.write(tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    assert ("features.npy" in names) == ("band" in made.description) == (strategy != "remove")
    if made.features is None:
        assert written.features is None
        assert manifest_flags(written) is None
        with pytest.raises(InputError, match="treats no pairs"):
            manifest_flags(written, "online")
        return
    assert written.features is not None
    np.testing.assert_array_equal(written.features, made.features)
    flags = manifest_flags(written)
    assert isinstance(flags, Curated)
    expected = {"margin": (0.2, 1.0), "temperature": (0.0, 0.5), "combined": (0.2, 0.5), "auto": (0.0, 0.5)}
    assert (flags.margin, flags.temperature) == expected[strategy]
    treated = written.pairs.filter(written.pairs["in_band"])
    assert set(treated["temperature"].to_pylist()) == {np.float32(flags.temperature)}
    assert made.description["counts"]["kept"] < COUNT or strategy != "combined"
    # A later manifest of the same folder that treats none leaves no features of this one.
    assert tamis.read_manifest(curation.select("remove").write(tmp_path)).features is None
    assert not (tmp_path / "features.npy").exists()


def test_of_one_class_auto_treats_nothing() -> None:
    noise = np.random.default_rng(0).standard_normal((600, 32)).astype(np.float32)
    made = tamis.curate(noise).select("auto")
    assert made.features is None
    assert "band" not in made.description
    assert made.samples["keep"].to_pylist() == [True] * 600


def test_curated_flags_are_the_band_of_the_features(manifest: Manifest) -> None:
    assert manifest.features is not None
    rows, band = manifest.features.astype(np.float32), manifest.description["band"]
    similarity = rows @ rows.T
    whole = (similarity >= band["sim_low"]) & (similarity < band["sim_high"])
    indices = np.random.default_rng(1).integers(0, COUNT, 64)
    found, margin, temperature = flagged(manifest_flags(manifest), indices)
    np.testing.assert_array_equal(found, whole[np.ix_(indices, indices)])
    assert (margin, temperature) == (0.0, 0.5)
    cut = manifest.description["thresholds"]
    assert between_samples(whole).mean() == pytest.approx(cut["pos_low"] - cut["pos_high"], abs=1e-3)


def test_rows_of_samples_that_cannot_be_decoded_are_passed_over(manifest: Manifest) -> None:
    reasons = ["undecodable" if row == 3 else "kept" for row in range(COUNT)]
    place = manifest.samples.column_names.index("reason")
    lacking = replace(manifest, samples=manifest.samples.set_column(place, "reason", pa.array(reasons)))
    found, whole = flagged(manifest_flags(lacking), [2, 3, 4])[0], flagged(manifest_flags(manifest), [2, 4, 5])[0]
    np.testing.assert_array_equal(found, whole)


def test_listed_flags_are_the_listed_pairs(manifest: Manifest) -> None:
    number = {name: row for row, name in enumerate(manifest.samples["sample_id"].to_pylist())}
    whole = np.zeros((COUNT, COUNT), bool)
    for pair in manifest.pairs.to_pylist():
        if pair["in_band"]:
            whole[number[pair["a"]], number[pair["b"]]] = whole[number[pair["b"]], number[pair["a"]]] = True
    indices = np.random.default_rng(2).permutation(COUNT)[:50]
    flags = manifest_flags(manifest, "listed")
    assert isinstance(flags, Listed)
    found, margin, temperature = flagged(flags, indices)
    np.testing.assert_array_equal(found, whole[np.ix_(indices, indices)])
    np.testing.assert_array_equal(temperature, np.where(found, np.float32(0.5), np.float32(1.0)))
    assert not margin.any()


def test_online_flags_are_percentiles_of_the_batch(manifest: Manifest) -> None:
    flags = manifest_flags(manifest, "online")
    assert isinstance(flags, Online)
    features = torch.randn(2, 40, 12, generator=torch.Generator().manual_seed(0))
    views = features.numpy().astype(np.float64)
    views /= np.linalg.norm(views, axis=2, keepdims=True)
    similarity = cosines(views.sum(0))
    others = np.sort(similarity[~np.eye(40, dtype=bool)])[::-1]
    low, high = (others[int(np.ceil(share * len(others) - 1e-9)) - 1] for share in (flags.pos_low, flags.pos_high))
    expected = (similarity >= low - 1e-7) & (similarity < high - 1e-7)
    found, _, temperature = flagged(flags, np.arange(40), features)
    assert temperature == 0.5
    assert (between_samples(found) != between_samples(expected)).mean() < 0.005


def test_chance_flags_as_many_pairs_always_the_same_and_others_by_seed() -> None:
    indices = np.random.default_rng(0).permutation(100_000)[:500]
    found, margin, temperature = flagged(Chance(0.3, 0.2, 0.5), indices)
    assert (margin, temperature) == (0.2, 0.5)
    np.testing.assert_array_equal(found, found.T)
    assert between_samples(found).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(flagged(Chance(0.3, 0.2, 0.5), indices[::-1].copy())[0], found[::-1, ::-1])
    other = flagged(Chance(0.3, 0.2, 0.5, seed=1), indices)[0]
    assert np.corrcoef(between_samples(found), between_samples(other))[0, 1] == pytest.approx(0, abs=0.02)
    assert abs(found.mean(1) - 0.3).max() < 0.12
    assert flagged(Chance(1.0, 0.2, 0.5), indices)[0].all()


def test_a_manifest_of_the_first_format_is_read_and_its_list_flags(manifest: Manifest, tmp_path: Path) -> None:
    replace(manifest, features=None, description={"strategy": "temperature"}).write(tmp_path)
    described = tmp_path / "manifest.json"
    described.write_text(described.read_text().replace('"format_version": 2', '"format_version": 1'))
    old = tamis.read_manifest(tmp_path)
    assert isinstance(manifest_flags(old), Listed)
    described.write_text(described.read_text().replace('"format_version": 1', '"format_version": 3'))
    with pytest.raises(InputError, match="format 3; this version reads up to 2"):
        tamis.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((COUNT - 1, 4), np.float16), f"shape .* for {COUNT} samples"),
        (np.zeros((COUNT, 4), np.float32), "float32"),
        (np.full((COUNT, 4), np.nan, np.float16), "not finite"),
    ],
    ids=["another length", "another type", "not finite"],
)
def test_features_that_do_not_fit_are_refused(manifest: Manifest, features: Any, message: str, tmp_path: Path) -> None:
    replace(manifest, features=features).write(tmp_path)
    with pytest.raises(InputError, match=message):
        tamis.read_manifest(tmp_path)


def test_features_altered_or_missing_are_told(manifest: Manifest, tmp_path: Path) -> None:
    manifest.write(tmp_path)
    (tmp_path / "features.npy").write_bytes(b"altered")
    with pytest.raises(InputError, match=r"features\.npy does not match the hash"):
        tamis.read_manifest(tmp_path)
    (tmp_path / "features.npy").unlink()
    with pytest.raises(InputError, match=r"features\.npy is missing"):
        tamis.read_manifest(tmp_path)


def test_every_source_changes_the_training(manifest: Manifest) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 16, 16), np.uint8)
    images = ImageSet(pixels, tuple(manifest.samples["sha256"].to_pylist()))
    spec, recipe = EncoderSpec("small", 16), Recipe(steps=3, batch_size=32)
    sources: list[Any] = [None, Chance(1.0, 0.0, 0.5)]
    sources += [manifest_flags(manifest, source) for source in ("curated", "listed", "online")]
    made = {fingerprint(train_encoder(images, spec, recipe, flags=flags)) for flags in sources}
    assert len(made) == len(sources)
    assert len({flags.digest() for flags in sources[1:]}) == len(sources) - 1
