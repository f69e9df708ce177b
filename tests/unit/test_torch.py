"""A manifest in a plain PyTorch loop: what is kept, how often it is drawn, and which pairs are flagged."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from samples import digit_embeddings, digit_files, write_folder, write_tar
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import pil_to_tensor

import tamis
from tamis import InputError
from tamis.commands.cli import main
from tamis.losses import InfoNCE
from tamis.torch import ManifestDataset, ManifestSampler

COUNT, STEP = 120, 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos`, `photos.tar` of the same, and a manifest of each that removes a fifth and treats pairs."""
    folder = tmp_path_factory.mktemp("made")
    write_folder(folder / "photos", digit_files(COUNT))
    write_tar(folder / "photos.tar", digit_files(COUNT))
    np.save(folder / "e.npy", digit_embeddings(COUNT))
    for source in ("photos", "photos.tar"):
        typed = ["curate", str(folder / source), "-o", str(folder / f"of-{source}"), "--classes", "5", "--quiet"]
        given = ["--encoder", f"embeddings:{folder / 'e.npy'}", "--strategy", "combined", "--fraction", "0.2"]
        assert main([*typed, *given]) == 0
    return folder


def test_an_item_is_a_kept_image_wherever_it_lies(made: Path) -> None:
    manifest = tamis.read_manifest(made / "of-photos")
    kept = [row for row in manifest.samples.to_pylist() if row["keep"]]
    assert len(kept) == round(0.8 * COUNT)
    content = dict(digit_files(COUNT))
    moved = replace(
        manifest,
        samples=manifest.samples.set_column(manifest.samples.column_names.index("uri"), "uri", [["gone:"] * COUNT]),
    )
    for images in (
        ManifestDataset(made / "of-photos", pil_to_tensor),
        ManifestDataset(made / "of-photos.tar", pil_to_tensor),
        ManifestDataset(moved, pil_to_tensor, images=made / "photos"),
        ManifestDataset(moved, pil_to_tensor, images=made / "photos.tar"),
    ):
        assert images.samples["sample_id"].to_pylist() == [row["sample_id"] for row in kept]
        for number in (0, len(kept) - 1):
            row, one, other = images[number]
            shown = tamis.images.decode(content[kept[number]["sample_id"]])  # type: ignore[attr-defined]
            assert row == number
            assert torch.equal(one, pil_to_tensor(shown))
            assert torch.equal(one, other)
    with pytest.raises(InputError, match="96 missing"):
        ManifestDataset(moved, pil_to_tensor)


def test_an_image_that_changed_is_refused(made: Path, tmp_path: Path) -> None:
    (name, _), (_, second) = digit_files(COUNT)[:2]
    photos = write_folder(tmp_path, (*digit_files(COUNT), (name, second)))
    images = ManifestDataset(made / "of-photos", pil_to_tensor, images=photos)
    row = images.samples["sample_id"].to_pylist().index(name)
    with pytest.raises(InputError, match=f"altered or damaged: {name}"):
        images[row]


def test_a_pass_draws_by_weight_and_the_next_in_another_order(made: Path) -> None:
    manifest = tamis.read_manifest(made / "of-photos")
    images = ManifestDataset(manifest, pil_to_tensor)
    alike = ManifestSampler(images, seed=1)
    first, second = list(alike), list(alike)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(len(alike))) == list(range(len(images)))
    assert list(ManifestSampler(images, seed=1)) == first
    weights = pa.array([3.0 if place % 2 else 1.0 for place in range(COUNT)], pa.float32())
    at = manifest.samples.column_names.index("weight")
    weighed = ManifestDataset(replace(manifest, samples=manifest.samples.set_column(at, "weight", weights)), np.asarray)
    sampler = ManifestSampler(weighed)
    drawn = Counter(row for _ in range(1000) for row in sampler)
    heavy = np.array(weighed.samples["weight"].to_pylist()) == 3
    often, seldom = (np.mean([drawn[int(row)] for row in np.flatnonzero(which)]) for which in (heavy, ~heavy))
    assert often / seldom == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("strategy", ["combined", "remove"])
def test_a_plain_loop_treats_the_difficult_pairs_of_its_batches(strategy: str, made: Path) -> None:
    manifest = tamis.read_manifest(made / "of-photos")
    if strategy == "remove":
        description = {name: value for name, value in manifest.description.items() if name != "band"}
        manifest = replace(manifest, pairs=manifest.pairs.slice(0, 0), features=None, description=description)
    images = ManifestDataset(manifest, pil_to_tensor)
    loader = DataLoader(images, STEP, sampler=ManifestSampler(images), drop_last=True)
    for rows, one, other in loader:
        z1, z2 = one.flatten(1).float(), other.flatten(1).float()
        difficult, margin, factor = images.flags(rows)
        loss = InfoNCE(0.2)(z1, z2, difficult, margin, factor)
        if strategy == "remove":
            assert loss == InfoNCE(0.2)(z1, z2)
            continue
        band = manifest.description["band"]
        assert (margin, factor) == (band["margin"], band["temperature"])
        features = manifest.features[manifest.samples["keep"].to_numpy()][rows].astype(np.float32)  # type: ignore[index]
        similarity = features @ features.T
        assert np.array_equal(difficult, (similarity >= band["sim_low"]) & (similarity < band["sim_high"]))
        assert loss > InfoNCE(0.2)(z1, z2)


def test_what_keeps_nothing_is_refused(made: Path) -> None:
    manifest = tamis.read_manifest(made / "of-photos")
    at = manifest.samples.column_names.index("keep")
    nothing = replace(manifest, samples=manifest.samples.set_column(at, "keep", [[False] * COUNT]))
    with pytest.raises(InputError, match="keeps no sample"):
        ManifestDataset(nothing, pil_to_tensor)


def test_it_is_loaded_when_it_is_used_and_hides_no_other() -> None:
    code = (
        "import sys, tamis; assert 'torch' not in sys.modules; tamis.torch.ManifestDataset; import torch; torch.zeros"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
