"""CLIP in the trainer: images learnt against embeddings of their texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from samples import noise

from tamis.checkpoint import FileCheckpoint
from tamis.encoders.encoder import fingerprint
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError
from tamis.manifest import Manifest
from trainer.arms import planned
from trainer.data import ImageSet
from trainer.flags import Chance, Online
from trainer.frameworks.clip import CLIP
from trainer.recipe import Recipe, check_texts
from trainer.texts import Texts, read_texts
from trainer.training import train_encoder

COUNT = 48
SPEC = EncoderSpec("small", 16)
RECIPE = Recipe(method="clip", steps=6, batch_size=8)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return noise(COUNT)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return np.random.default_rng(1).normal(size=(COUNT, 24)).astype(np.float32)


def test_images_learn_their_texts(images: ImageSet, texts: Texts) -> None:
    learner = CLIP(SPEC, Recipe(method="clip", batch_size=16), torch.device("cpu"), 60, texts=texts)
    drawn = np.arange(16)
    losses = [float(learner.learn(step, images.pixels[drawn], drawn)) for step in range(1, 61)]
    by_chance = np.log(len(drawn))
    assert losses[0] == pytest.approx(by_chance, abs=0.3)
    assert np.mean(losses[-5:]) < by_chance - 0.4


def test_the_loss_is_of_each_view_against_the_texts(images: ImageSet, texts: Texts) -> None:
    learner = CLIP(SPEC, RECIPE, torch.device("cpu"), 6, texts=texts)
    views = [torch.from_numpy(images.pixels[side]).float() / 255 for side in (slice(0, 8), slice(8, 16))]
    drawn = np.arange(8) + 20
    loss = float(learner._loss(*views, torch.from_numpy(drawn)).detach())
    head: Any = learner._head
    with torch.no_grad(), learner._autocast():
        images_of = head["image"](learner.encoder(torch.cat(views))).float().chunk(2)
        own = head["text"](torch.from_numpy(texts[drawn])).float()
    plain = []
    for view in images_of:
        cosines = torch.nn.functional.cosine_similarity(view[:, None], own[None], dim=2) / RECIPE.temperature
        right = torch.arange(8)
        plain += [torch.nn.functional.cross_entropy(each, right) for each in (cosines, cosines.T)]
    assert loss == pytest.approx(float(torch.stack(plain).mean()), abs=2e-2)


def test_equal_seeds_give_equal_bytes_and_texts_and_remedies_count(images: ImageSet, texts: Texts) -> None:
    def trained(**given: Any) -> str:
        return fingerprint(train_encoder(images, SPEC, RECIPE, device="cpu", **{"texts": texts, **given}))

    keep = np.arange(COUNT) % 2 == 0
    others = [
        trained(texts=texts[::-1].copy()),
        trained(keep=keep),
        trained(flags=Chance(0.5, 0.3, 1.0)),
        trained(flags=Chance(0.5, 0.0, 2.0)),
        trained(flags=Online(0.1, 0.6, 0.3, 1.0)),
    ]
    assert trained() == trained()
    assert len({trained(), *others}) == 6


def test_a_cut_training_ends_in_the_same_bits_and_other_texts_begin_anew(
    images: ImageSet, texts: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.training.REPORT_EVERY", 2)
    checkpoint = FileCheckpoint(tmp_path / "checkpoint.pt")

    def run(of: Texts, progress: Callable[[int, int], None], kept: FileCheckpoint | None = checkpoint) -> str:
        given: dict[str, Any] = {"texts": of, "progress": progress, "checkpoint": kept, "device": "cpu"}
        return fingerprint(train_encoder(images, SPEC, RECIPE, **given))

    def cut(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(texts, cut)
    stored, steps = checkpoint.load(), list[int]()
    resumed = run(texts, lambda done, _: steps.append(done))
    assert steps[0] > 1
    assert resumed == run(texts, lambda *_: None, None)
    assert stored is not None
    checkpoint.save(stored)
    steps.clear()
    run(texts + 1, lambda done, _: steps.append(done))
    assert steps[0] == 1


def test_what_cannot_be_learnt_from_is_told(images: ImageSet, texts: Texts) -> None:
    with pytest.raises(InputError, match="clip learns from texts, and there are none"):
        train_encoder(images, SPEC, RECIPE, device="cpu")
    with pytest.raises(InputError, match="simclr learns from images alone"):
        check_texts("simclr", True)
    with pytest.raises(InputError, match="There are 47 texts and 48 images"):
        train_encoder(images, SPEC, RECIPE, device="cpu", texts=texts[1:])
    with pytest.raises(InputError, match="An experiment has no texts"):
        planned(["remove"], RECIPE)
    with pytest.raises(InputError, match="clip does not learn by the loss spectral"):
        Recipe(method="clip", loss="spectral")
    with pytest.raises(InputError, match="clip knows no prior"):
        Recipe(method="clip", prior=0.1)


def test_texts_are_matched_with_the_samples_or_it_is_told_which_are_wrong(texts: Texts, tmp_path: Path) -> None:
    names = [f"{number:02}.png" for number in range(5)]
    reasons = ["kept", "undecodable", "kept", "difficult", "kept"]
    manifest = Manifest(
        samples=pa.table({"sample_id": names, "reason": reasons}),
        pairs=pa.table({"a": pa.array([], pa.string())}),
        description={},
    )
    good = [0, 2, 3, 4]
    plain = tmp_path / "texts.npy"
    np.save(plain, texts[good])
    np.testing.assert_array_equal(read_texts(plain, manifest), texts[good])
    named = tmp_path / "texts.parquet"
    order = [4, 1, 0, 3, 2]
    column = pa.array(texts[order].tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"path": [f"photos/{names[row]}" for row in order], "text": column}), named)
    np.testing.assert_array_equal(read_texts(named, manifest), texts[good])
    pq.write_table(pa.table({"path": names[:3], "text": column[:3]}), named)
    with pytest.raises(InputError, match=r"2 \(03\.png, 04\.png\) without a row"):
        read_texts(named, manifest)
    np.save(plain, texts[:3])
    with pytest.raises(InputError, match="has 3 rows and the data set 4 images"):
        read_texts(plain, manifest)
    for value, told in ((np.nan, "1 samples are not finite: 02.png"), (0.0, "1 samples are zero.*: 02.png")):
        wrong = texts[good].copy()
        wrong[1] = value
        np.save(plain, wrong)
        with pytest.raises(InputError, match=told):
            read_texts(plain, manifest)
    with pytest.raises(InputError, match="cannot be read"):
        read_texts(tmp_path / "none.npy", manifest)
