"""MoCo: its queue, its key encoder and its flags as plain versions have them; taken up it ends in the same bits."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import noise

from tamis.batches.flags import Curated, Listed
from tamis.batches.listed import DifficultPairs
from tamis.checkpoint import FileCheckpoint
from tamis.encoders.encoder import fingerprint
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError
from trainer.data import ImageSet
from trainer.flags import Chance, Flags, Online
from trainer.frameworks.moco import MoCo, Queue
from trainer.recipe import Recipe, check_flag_source
from trainer.training import train_encoder

CPU = torch.device("cpu")
SPEC = EncoderSpec("small", 16)
COUNT = 60


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return noise(COUNT)


def curated(low: float = -0.2, high: float = 0.4) -> Curated:
    rows = np.random.default_rng(1).standard_normal((COUNT, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Curated(rows.astype(np.float16), low, high, 0.1, 0.5)


def some_pairs() -> Listed:
    both = np.array([1]), np.array([2])
    return Listed(DifficultPairs(*both, np.ones(1, np.float32), np.ones(1, np.float32)))


@pytest.mark.parametrize("size", [4, 10, 100])
def test_the_queue_holds_the_last_keys_in_order(size: int) -> None:
    queue, plain = Queue(size, 2, CPU), list[int]()
    for batch in range(7):
        samples = torch.arange(6) + 10 * batch
        queue.add(samples[:, None].expand(-1, 2).float(), samples)
        plain = [*plain, *samples.tolist()][-size:]
        assert queue.samples.tolist() == plain
        assert queue.keys[:, 0].tolist() == queue.keys[:, 1].tolist() == plain


def test_the_key_encoder_follows_and_has_no_gradient(images: ImageSet) -> None:
    recipe = Recipe(method="moco", steps=5, batch_size=12, momentum=0.7, queue=20)
    learner = MoCo(SPEC, recipe, CPU, 5)
    followed = [deepcopy(each) for each in _learning(learner)]
    seen = list[int]()
    for step in range(1, 5):
        before = [each.detach().clone() for each in _learning(learner)]
        indices = np.random.default_rng(step).permutation(COUNT)[:12]
        learner.learn(step, images.pixels[indices], indices)
        followed = [0.7 * key + 0.3 * own for key, own in zip(followed, before, strict=True)]
        keyed = list(learner._keyed.parameters())
        for key, expected in zip(keyed, followed, strict=True):
            torch.testing.assert_close(key, expected, rtol=1e-5, atol=1e-7)
            assert key.grad is None
        seen = [*seen, *indices.tolist()][-20:]
        assert learner._queue.samples.tolist() == seen
        torch.testing.assert_close(learner._queue.keys.norm(dim=1), torch.ones(len(seen)))
    assert any((one != other).any() for one, other in zip(keyed, _learning(learner), strict=True))


def _learning(learner: MoCo) -> list[torch.nn.Parameter]:
    return [*learner.encoder.parameters(), *learner._head.parameters()]


@pytest.mark.parametrize("flags", [curated(), Chance(0.3, 0.1, 0.5, seed=2)], ids=["curated", "chance"])
def test_flags_of_queued_keys_are_those_of_the_whole_matrix(flags: Curated | Chance) -> None:
    whole = flags.on(CPU)(torch.arange(COUNT), torch.zeros(2, COUNT, 3))[0].numpy()
    queries, keys = (np.random.default_rng(seed).integers(0, COUNT, size) for seed, size in ((0, 12), (1, 45)))
    found, margin, temperature = flags.between(CPU)(torch.from_numpy(queries), torch.from_numpy(keys))
    assert (margin, temperature) == (0.1, 0.5)
    np.testing.assert_array_equal(found.numpy(), whole[np.ix_(queries, keys)])
    if isinstance(flags, Curated):
        plain = flags.rows[queries].astype(np.float64) @ flags.rows[keys].astype(np.float64).T
        certain = np.minimum(abs(plain - flags.low), abs(plain - flags.high)) > 1e-5
        np.testing.assert_array_equal(found.numpy()[certain], ((plain >= flags.low) & (plain < flags.high))[certain])
    assert 0 < found.float().mean() < 1


def test_the_loss_compares_with_the_queue_and_its_flags(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = MoCo(SPEC, Recipe(method="moco", batch_size=12, queue=30), CPU, 9, curated())
    given: list[tuple[Any, ...]] = []
    real = type(learner._contrast).queued
    monkeypatch.setattr(type(learner._contrast), "queued", lambda *each: given.append(each[1:]) or real(*each))
    owners = list[int]()
    for step in range(1, 5):
        indices = np.random.default_rng(step).permutation(COUNT)[:12]
        learner.learn(step, images.pixels[indices], indices)
        _, keys, queue, own, difficult, margin, _ = given[-1]
        np.testing.assert_array_equal(own, indices[:, None] == np.array(owners)[None, :])
        assert queue.shape == (len(owners), 64)
        expected = curated().between(CPU)(torch.from_numpy(indices), torch.tensor(owners, dtype=torch.int64))[0]
        assert torch.equal(difficult, expected)
        assert margin == 0.1
        owners = [*owners, *indices.tolist()][-30:]
        torch.testing.assert_close(learner._queue.keys[-12:], keys)
    assert own.any()


def test_keys_and_queries_of_a_sample_stand_in_the_same_place(images: ImageSet) -> None:
    """Batches of more than one group of statistics: in evaluation mode groups make no difference."""
    learner = MoCo(SPEC, Recipe(method="moco", queue=100, batch_size=70), CPU, 9)
    learner.encoder.eval()
    learner._keyed.eval()
    pixels = torch.from_numpy(np.concatenate([images.pixels, images.pixels])[:70]).float() / 255
    learner._loss(pixels, pixels, torch.arange(70))
    with torch.no_grad():
        plain = torch.nn.functional.normalize(learner._head(learner.encoder(pixels)).float(), dim=1)
    torch.testing.assert_close(learner._queue.keys, plain, atol=0.02, rtol=0.02)


def test_a_run_taken_up_ends_in_the_bits_of_one_never_interrupted(images: ImageSet, tmp_path: Path) -> None:
    recipe = Recipe(method="moco", steps=30, batch_size=12, queue=100, seed=3)
    expected = train_encoder(images, SPEC, recipe, flags=curated())
    checkpoint, steps = FileCheckpoint(tmp_path / "checkpoint.pt"), list[int]()

    def stopped(done: int, total: int) -> None:
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(images, SPEC, recipe, flags=curated(), checkpoint=checkpoint, progress=stopped)
    found = train_encoder(
        images, SPEC, recipe, flags=curated(), checkpoint=checkpoint, progress=lambda done, _: steps.append(done)
    )
    assert steps[0] == 11, "it began anew"
    assert fingerprint(found) == fingerprint(expected)
    assert found.trained["method"] == "moco"


def test_method_and_flags_change_the_training(images: ImageSet) -> None:
    moco = Recipe(method="moco", steps=4, batch_size=12)
    sources: list[Flags | None] = [None, curated(), Chance(1.0, 0.0, 0.5)]
    made = {fingerprint(train_encoder(images, SPEC, moco, flags=flags)) for flags in sources}
    made.add(fingerprint(train_encoder(images, SPEC, Recipe(steps=4, batch_size=12))))
    assert len(made) == 4


def test_what_moco_cannot_be_is_refused() -> None:
    for flags, source in ((some_pairs(), "listed"), (Online(0.1, 0.9, 0.0, 0.5), "online")):
        with pytest.raises(InputError, match=f"flags {source} know the pairs of one batch"):
            MoCo(SPEC, Recipe(method="moco"), CPU, 9, flags)
        with pytest.raises(InputError, match=f"flags {source} know the pairs of one batch"):
            check_flag_source("moco", source)
        check_flag_source("simclr", source)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"method": "swav"}, "no method 'swav'"),
        ({"method": "moco", "loss": "spectral"}, "does not learn by the loss spectral"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"queue": 0}, "queue is 0"),
    ]
    for values, message in refused:
        with pytest.raises(InputError, match=message):
            Recipe(**values)
