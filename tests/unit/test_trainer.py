"""The trainer: interrupted and taken up it ends in the same bits, and it trains on what the manifest says."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import noise
from scipy.ndimage import correlate1d

from tamis.batches.flags import Listed
from tamis.batches.listed import DifficultPairs
from tamis.checkpoint import FileCheckpoint
from tamis.encoders.encoder import fingerprint
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError, TamisError
from trainer.augment import _blur, _Draw, augment
from trainer.augmentation import Augmentation, read_augmentation
from trainer.data import ImageSet
from trainer.recipe import Recipe
from trainer.training import _batches, train_encoder

SPEC = EncoderSpec("small", 16)


class InterruptedTrainingError(Exception):
    """What a progress callback raises to stop a training."""


def stop_at(step: int) -> Any:
    def progress(done: int, total: int) -> None:
        if done == step:
            raise InterruptedTrainingError

    return progress


def some_pairs(a: Any, b: Any, margin: float = 0.1, temperature: float = 0.8) -> Listed:
    treatment = (np.full(len(a), value, np.float32) for value in (margin, temperature))
    return Listed(DifficultPairs(np.array(a, np.int64), np.array(b, np.int64), *treatment))


@pytest.mark.parametrize("loss", ["infonce", "spectral"])
def test_a_run_taken_up_ends_in_the_bits_of_one_never_interrupted(loss: str, tmp_path: Path) -> None:
    images, flags = noise(50), some_pairs(range(20), range(20, 40))
    recipe = Recipe(epochs=10, batch_size=12, loss=loss, seed=3)
    weight = np.random.default_rng(0).random(50).astype(np.float32)
    whole: dict[int, dict[str, float]] = {}
    expected = train_encoder(images, SPEC, recipe, flags=flags, weight=weight, on_metrics=whole.__setitem__)
    stop = int(np.random.default_rng().integers(11, recipe.steps_for(50)))
    checkpoint = FileCheckpoint(tmp_path / "checkpoint.pt")
    again: dict[int, dict[str, float]] = {}

    def train(progress: Any) -> Any:
        return train_encoder(
            images,
            SPEC,
            recipe,
            flags=flags,
            weight=weight,
            checkpoint=checkpoint,
            progress=progress,
            on_metrics=again.__setitem__,
        )

    with pytest.raises(InterruptedTrainingError):
        train(stop_at(stop))
    steps: list[int] = []
    found = train(lambda done, total: steps.append(done))
    assert 10 < steps[0] <= stop + 1, "it began anew"
    assert fingerprint(found) == fingerprint(expected), f"interrupted at step {stop}"
    assert again == whole


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": Recipe(epochs=5, batch_size=10, seed=1)},
        {"recipe": Recipe(epochs=5, batch_size=10, temperature=0.3)},
        {"recipe": Recipe(epochs=5, batch_size=10, augmentation=Augmentation(flip=0.0))},
        {"keep": np.arange(40) > 3},
        {"flags": some_pairs([1], [2])},
        {"images": ImageSet(noise(40).pixels, tuple("abcdefghij" * 4))},
    ],
    ids=["seed", "temperature", "augmentation", "keep", "flags", "images"],
)
def test_a_checkpoint_of_other_settings_is_passed_over(changed: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = FileCheckpoint(tmp_path / "checkpoint.pt")
    given: dict[str, Any] = {"images": noise(40), "spec": SPEC, "recipe": Recipe(epochs=5, batch_size=10)}
    with pytest.raises(InterruptedTrainingError):
        train_encoder(**given, checkpoint=checkpoint, progress=stop_at(12))
    first: list[int] = []
    train_encoder(**{**given, **changed}, checkpoint=checkpoint, progress=lambda done, total: first.append(done))
    assert first[0] == 1


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x02cposix\nsystem\n."])
def test_a_damaged_checkpoint_is_passed_over(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    steps: list[int] = []
    images = noise(8)
    train_encoder(
        images, SPEC, Recipe(steps=2), checkpoint=FileCheckpoint(path), progress=lambda done, _: steps.append(done)
    )
    assert steps == [1, 2]


def test_the_seed_decides_and_nothing_else() -> None:
    images = noise(30)
    torch.manual_seed(1)
    first = train_encoder(images, SPEC, Recipe(epochs=3, seed=5))
    torch.manual_seed(2)
    assert fingerprint(train_encoder(images, SPEC, Recipe(epochs=3, seed=5))) == fingerprint(first)
    assert fingerprint(train_encoder(images, SPEC, Recipe(epochs=3, seed=6))) != fingerprint(first)


def test_four_samples_are_enough_and_three_are_not() -> None:
    encoder = train_encoder(noise(4), SPEC, Recipe(epochs=2))
    assert all(torch.isfinite(value).all() for value in encoder.state_dict().values())
    with pytest.raises(InputError, match="Only 3 samples"):
        train_encoder(noise(3), SPEC, Recipe(epochs=2))


def test_dropped_samples_leave_no_trace() -> None:
    images = noise(24)
    keep = np.arange(24) % 3 > 0
    blackened = ImageSet(images.pixels * keep[:, None, None, None], images.sha256)
    recipe = Recipe(epochs=4, batch_size=8)
    kept = [train_encoder(each, SPEC, recipe, keep=keep) for each in (images, blackened)]
    assert fingerprint(kept[0]) == fingerprint(kept[1]) != fingerprint(train_encoder(images, SPEC, recipe))


def test_margins_and_temperatures_change_the_training() -> None:
    images = noise(16)
    a, b = np.tril_indices(16, -1)
    fingerprints = {
        fingerprint(train_encoder(images, SPEC, Recipe(epochs=3, batch_size=8), flags=flags))
        for flags in (
            None,
            some_pairs(a, b, margin=0.3, temperature=1.0),
            some_pairs(a, b, margin=0.0, temperature=0.7),
        )
    }
    assert len(fingerprints) == 3


def test_every_arm_takes_equally_many_steps() -> None:
    recipe = Recipe(epochs=3, batch_size=10)
    totals: list[int] = []
    for keep in (None, np.arange(45) < 22):
        train_encoder(noise(45), SPEC, recipe, keep=keep, progress=lambda _, total: totals.append(total))
    assert totals == [15] * 30
    assert Recipe().steps_for(1797) == Recipe().epochs_for(1797) * 15


def test_equal_weights_show_every_sample_once_a_pass_and_others_in_proportion() -> None:
    kept = np.arange(100, 160)
    batches = _batches(kept, np.full(60, 0.1), 20, seed=1, first=0)
    for _ in range(3):
        assert sorted(np.concatenate([next(batches) for _ in range(3)])) == sorted(kept)
    weights = np.where(kept < 130, 3.0, 1.0)
    drawn = _batches(kept, weights, 20, seed=1, first=0)
    counts = Counter(index for _ in range(3 * 200) for index in next(drawn))
    often = np.array([counts[index] for index in kept[:30]])
    seldom = np.array([counts[index] for index in kept[30:]])
    assert often == pytest.approx(300, rel=0.05)
    assert seldom == pytest.approx(100, rel=0.1)
    later = _batches(kept, weights, 20, seed=1, first=7)
    fresh = _batches(kept, weights, 20, seed=1, first=0)
    for _ in range(7):
        next(fresh)
    assert np.array_equal(next(later), next(fresh))


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(TamisError, match="lower learning rate"):
        train_encoder(noise(8), SPEC, Recipe(learning_rate=1e30, loss="spectral", steps=30))


@pytest.mark.parametrize("values", [{"loss": "l2"}, {"epochs": 0}, {"batch_size": 3}])
def test_recipes_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Recipe(**values)


def test_pairs_in_a_batch_are_those_of_the_whole_matrix() -> None:
    random = np.random.default_rng(0)
    chosen = [(a, b) for a in range(40) for b in range(a + 1, 40) if random.random() < 0.2]
    a, b = (np.array(side, np.int64) for side in zip(*chosen, strict=True))
    values = [random.random(len(a)).astype(np.float32) for _ in range(2)]
    flags, margin, temperature = np.zeros((40, 40), bool), np.zeros((40, 40)), np.ones((40, 40))
    for row, column in ((a, b), (b, a)):
        flags[row, column], margin[row, column], temperature[row, column] = True, *values
    pairs = DifficultPairs(a, b, *values)
    for size in (1, 7, 60):
        indices = random.integers(0, 40, size)
        for found, expected in zip(pairs.in_batch(indices), (flags, margin, temperature), strict=True):
            assert np.array_equal(found, expected[np.ix_(indices, indices)].astype(found.dtype))
    assert not some_pairs([], []).pairs.in_batch(np.arange(5))[0].any()


def test_augmentations_are_reproducible_bounded_and_keep_grays_gray() -> None:
    pixels = torch.randint(0, 256, (8, 1, 64, 64), dtype=torch.uint8).expand(-1, 3, -1, -1)
    first, second, other = (augment(pixels, Augmentation(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (8, 3, 64, 64)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.allclose(first[:, 0], first[:, 2], atol=1e-5)


def test_an_augmentation_that_changes_nothing_changes_nothing() -> None:
    pixels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    nothing = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)
    assert torch.allclose(augment(pixels, nothing, torch.Generator()), pixels / 255, atol=1e-5)


@pytest.mark.parametrize("size", [64, 101])
def test_a_blur_is_what_a_filter_of_its_width_makes(size: int) -> None:
    image = torch.rand(3, 3, size, size, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    draws = [_Draw(3, torch.Generator().manual_seed(1), 0, 1) for _ in range(2)]
    found = _blur(image, Augmentation(blur=1.0), draws[0])
    reach = size // 20
    for own, blurred, sigma in zip(image.numpy(), found.numpy(), draws[1].uniform(0.1, 2.0).tolist(), strict=True):
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        kernel /= kernel.sum()
        expected = correlate1d(correlate1d(own, kernel, 1, mode="mirror"), kernel, 2, mode="mirror")
        np.testing.assert_allclose(blurred, expected, atol=1e-5)
    draws = [_Draw(3, torch.Generator().manual_seed(1), 0, 1) for _ in range(2)]
    assert torch.equal(_blur(image, Augmentation(blur=0.0), draws[0]), image)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("some.toml", "flip = 0\nscale = [0.5, 1]\nhue = 0.02\n"),
        ("some.json", '{"flip": 0, "scale": [0.5, 1], "hue": 0.02}'),
    ],
)
def test_augmentations_are_read_and_what_a_file_does_not_name_stays(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert read_augmentation(tmp_path / name) == Augmentation(flip=0, scale=(0.5, 1), hue=0.02)
    (tmp_path / name).write_text("" if name.endswith("toml") else "{}")
    assert read_augmentation(tmp_path / name) == Augmentation()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", "flips = 0.5", "no augmentation 'flips'. Use some of scale, ratio, flip"),
        ("a.toml", "flip = 1.5", "flip is 1.5. Use a number from 0 to 1"),
        ("a.toml", "flip = true", "flip is True"),
        ("a.toml", "hue = 0.6", "hue is 0.6. Use a number from 0 to 0.5"),
        ("a.toml", "blur = nan", "blur is nan"),
        ("a.toml", "scale = [0.5, 0.2]", "scale is .0.5, 0.2.. Use two numbers above 0, of at most 1"),
        ("a.toml", "scale = 0.5", "scale is 0.5"),
        ("a.toml", "ratio = [0.0, 2.0]", "ratio is"),
        ("a.toml", "[train]\nflip = 0", "no augmentation 'train'"),
        ("a.toml", "flip 0", "does not parse"),
        ("a.json", "[1]", "names with values"),
        ("a.yaml", "", "neither TOML nor JSON"),
        ("nowhere/a.toml", None, "cannot be read"),
    ],
)
def test_augmentations_that_cannot_be_are_refused(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_augmentation(tmp_path / name)


@pytest.mark.parametrize("field", ["scale", "ratio", "flip", "jitter", "grayscale"])
def test_every_augmentation_changes_what_it_names(field: str) -> None:
    pixels = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    values: dict[str, Any] = {"scale": (0.5, 0.5), "ratio": (2.0, 2.0), "flip": 1.0, "jitter": 1.0, "grayscale": 1.0}
    nothing = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)
    views = [
        augment(pixels, how, torch.Generator().manual_seed(0))
        for how in (nothing, replace(nothing, **{field: values[field]}))
    ]
    assert (views[0] - views[1]).abs().mean() > 0.02
    if field == "flip":
        assert torch.allclose(views[0].flip(3), views[1], atol=1e-5)
