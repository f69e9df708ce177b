"""What frameworks and optimisers have in common, and those that compare no images: SimSiam and BYOL."""

from pathlib import Path

import numpy as np
import pytest
import torch
from samples import noise

from tamis.checkpoint import FileCheckpoint
from tamis.encoders.encoder import fingerprint
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError
from trainer.data import ImageSet
from trainer.flags import Chance
from trainer.frameworks.byol import BYOL
from trainer.frameworks.simclr import SimCLR
from trainer.frameworks.simsiam import SimSiam
from trainer.recipe import OPTIMISERS, WITHOUT_PAIRS, Recipe
from trainer.training import train_encoder

CPU = torch.device("cpu")
SPEC = EncoderSpec("small", 16)
COUNT = 48


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return noise(COUNT)


def test_simsiam_learns_one_view_from_the_other_and_nothing_from_the_target(images: ImageSet) -> None:
    learner = SimSiam(SPEC, Recipe(method="simsiam", batch_size=16), CPU, 20)
    views = [torch.from_numpy(images.pixels[side]).float() / 255 for side in (slice(0, 16), slice(16, 32))]
    loss = learner._loss(*views, torch.arange(16))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=learner._autocast()._enabled):
        learner.encoder.train()
        targets = [learner._head["projection"](learner.encoder(view)).float() for view in views]
        guesses = [learner._head["predictor"](target.to(targets[0].dtype)).float() for target in targets]
    plain = [
        -(guess / guess.norm(dim=1, keepdim=True) * other / other.norm(dim=1, keepdim=True)).sum(1).mean()
        for guess, other in ((guesses[0], targets[1]), (guesses[1], targets[0]))
    ]
    assert float(loss.detach()) == pytest.approx(float(sum(plain)) / 2, abs=5e-3)
    # Were the target learnt from too, the predictor's gradient would be the same and the projection's would not.
    loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    last = learner._head["projection"][-2].weight
    assert last.grad is not None
    free = SimSiam(SPEC, Recipe(method="simsiam", batch_size=16), CPU, 20)
    with free._autocast():
        projections = [free._head["projection"](free.encoder(view)) for view in views]
        predictions = [free._head["predictor"](projection) for projection in projections]
    both = [
        torch.nn.functional.cosine_similarity(predictions[one].float(), projections[1 - one].float()) for one in (0, 1)
    ]
    (-torch.stack(both).mean()).backward()  # type: ignore[no-untyped-call]  # untyped in torch
    assert not torch.allclose(last.grad, free._head["projection"][-2].weight.grad, rtol=0.05)


def test_byol_learns_from_a_target_that_follows_and_has_no_gradient(images: ImageSet) -> None:
    total, recipe = 6, Recipe(method="byol", batch_size=16, momentum=0.8)
    learner = BYOL(SPEC, recipe, CPU, total)
    target = [each.clone() for each in learner._followed().parameters()]
    for step in range(1, total + 1):
        drawn = np.arange(16) + step
        learner.learn(step, images.pixels[drawn], drawn)
        kept = 1 - (1 - 0.8) * (np.cos(np.pi * step / total) + 1) / 2
        target = [
            kept * old + (1 - kept) * new for old, new in zip(target, learner._followed().parameters(), strict=True)
        ]
        for own, expected in zip(learner._target.parameters(), target, strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)
            assert own.grad is None
    assert kept == 1.0
    views = [torch.from_numpy(images.pixels[side]).float() / 255 for side in (slice(0, 16), slice(16, 32))]
    loss = learner._loss(*views, torch.arange(16))
    with torch.no_grad(), learner._autocast():
        encoder, projection = learner._target
        targets = [projection(encoder(view)).float() for view in views]
        guesses = [learner._head["predictor"](learner._head["projection"](learner.encoder(view))) for view in views]
    plain = [
        (guess.float() / guess.float().norm(dim=1, keepdim=True) - other / other.norm(dim=1, keepdim=True)).square()
        for guess, other in zip(guesses, targets[::-1], strict=True)
    ]
    # Equation 2, summed over both views, is four times one more than the mean negative cosine.
    assert float(sum(each.sum(1).mean() for each in plain)) == pytest.approx(4 * (1 + float(loss.detach())), abs=2e-2)


@pytest.mark.parametrize("method", WITHOUT_PAIRS)
def test_what_compares_no_images_takes_weights_and_removal_and_no_pairs(method: str, images: ImageSet) -> None:
    recipe = Recipe(method=method, steps=3, batch_size=8)
    keep = np.arange(COUNT) < 20
    encoder = train_encoder(images, SPEC, recipe, keep=keep, device="cpu")
    assert encoder.trained["loss"] == "the negative cosine of two views"
    assert fingerprint(encoder) != fingerprint(train_encoder(images, SPEC, recipe, device="cpu"))
    with pytest.raises(InputError, match=f"{WITHOUT_PAIRS[method]} compares an image with itself alone"):
        train_encoder(images, SPEC, recipe, flags=Chance(0.5, 0.1, 1.0), device="cpu")
    with pytest.raises(InputError, match=f"{method} does not learn by the loss spectral"):
        Recipe(method=method, loss="spectral")


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_optimiser_leaves_norms_without_decay_and_lowers_the_loss(optimiser: str, images: ImageSet) -> None:
    rate = {"adamw": 2e-3, "sgd": 0.05, "lars": 1.0}[optimiser]
    recipe = Recipe(optimiser=optimiser, learning_rate=rate, weight_decay=0.3, batch_size=16, steps=25)
    learner = SimCLR(SPEC, recipe, CPU, 25)
    decayed, free = learner._optimiser.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    assert all(parameter.ndim <= 1 for parameter in free["params"])
    learner._recipe = Recipe(optimiser=optimiser, learning_rate=rate, batch_size=16, steps=25)
    drawn = np.arange(16)
    losses = [float(learner.learn(step, images.pixels[drawn], drawn)) for step in range(1, 26)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.parametrize("method", ["simsiam", "byol", "simclr"])
@pytest.mark.parametrize("optimiser", ["sgd", "lars"])
def test_a_cut_training_ends_in_the_same_bits(
    method: str, optimiser: str, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.training.REPORT_EVERY", 2)
    recipe = Recipe(method=method, optimiser=optimiser, learning_rate=0.05, steps=6, batch_size=8)
    checkpoint = FileCheckpoint(tmp_path / "checkpoint.pt")

    def cut(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(images, SPEC, recipe, device="cpu", checkpoint=checkpoint, progress=cut)
    assert checkpoint.load() is not None
    taken: list[int] = []
    resumed = train_encoder(
        images, SPEC, recipe, device="cpu", checkpoint=checkpoint, progress=lambda done, total: taken.append(done)
    )
    assert taken[0] > 1
    assert fingerprint(resumed) == fingerprint(train_encoder(images, SPEC, recipe, device="cpu"))


def test_a_vision_transformer_is_trained_at_the_size_that_is_asked_for(images: ImageSet) -> None:
    pytest.importorskip("timm")
    spec = EncoderSpec("timm:vit_tiny_patch16_224", 32)
    larger = ImageSet(images.pixels.repeat(2, axis=2).repeat(2, axis=3), images.sha256)
    encoder = train_encoder(larger, spec, Recipe(steps=1, batch_size=8), device="cpu")
    assert encoder.dimension == 192
