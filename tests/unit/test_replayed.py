"""Steps that a GPU replays, and what they must do without to be replayed."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tamis.batches.flags import Curated
from tamis.encoders.encoder import fingerprint
from tamis.encoders.spec import EncoderSpec
from trainer.flags import Chance, Flags
from trainer.forgetting import Forgotten
from trainer.frameworks.byol import BYOL
from trainer.frameworks.learner import Learner
from trainer.frameworks.replayed import WARM, Replayed
from trainer.frameworks.simclr import SimCLR
from trainer.frameworks.simsiam import SimSiam
from trainer.recipe import Recipe

COUNT, STEPS = 40, WARM + 4
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="replays on a GPU alone")
# A look at a value, as many outputs as values say, and a tensor that is made of the host's numbers.
LOOKS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select}
LOOKS |= {torch.ops.aten._unique2, torch.ops.aten.lift_fresh, torch.ops.aten.lift_fresh_copy}

BAND = Curated(np.random.default_rng(0).standard_normal((COUNT, 6)).astype(np.float16), -1.0, 2.0, 0.1, 0.5)
FLAGS: tuple[Flags | None, ...] = (None, BAND, Chance(0.3, 0.2, 0.5))
FRAMEWORKS: list[tuple[type[Learner], Flags | None]] = [
    *((SimCLR, flags) for flags in FLAGS),
    (SimSiam, None),
    (BYOL, None),
]


def pixels_of(count: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (count, 3, size, size), np.uint8)


def learner_of(kind: type[Learner], flags: Flags | None, device: str, size: int = 16, **recipe: Any) -> Learner:
    given = EncoderSpec("small", size), Recipe(batch_size=16, **recipe), torch.device(device), STEPS, flags
    return kind(*given)


class _Looks(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def at_a_step_of(self, learner: Learner, size: int) -> list[str]:
        """The second one: constants are brought to the device at the first."""
        pixels, samples = torch.from_numpy(pixels_of(16, size)), torch.arange(16)
        learner._computed(pixels, samples)
        with self:
            learner._computed(pixels, samples)
        return self.seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in LOOKS:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("kind", "flags"), FRAMEWORKS)
@pytest.mark.parametrize("size", [16, 64])
def test_a_step_looks_at_no_value(kind: type[Learner], flags: Flags | None, size: int) -> None:
    learner = learner_of(kind, flags, "cpu", size)
    if isinstance(learner, SimCLR):
        learner.forgotten = Forgotten(COUNT, torch.device("cpu"))
    assert not _Looks().at_a_step_of(learner, size)


@pytest.mark.parametrize("recipe", [{"loss": "spectral"}, {"prior": 0.1, "hardness": 1.0}])
def test_nor_does_another_loss(recipe: dict[str, Any]) -> None:
    assert not _Looks().at_a_step_of(learner_of(SimCLR, None, "cpu", **recipe), 16)


def test_what_looks_at_a_value_is_seen() -> None:
    with _Looks() as looks:
        values = torch.tensor([1.0, 2.0])
        float(values[0])
        values.masked_select(values > 1)
    assert len(looks.seen) == 3


@on_gpu
@pytest.mark.parametrize(("kind", "flags"), FRAMEWORKS)
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_replayed_steps_are_those_that_are_told(kind: type[Learner], flags: Flags | None, optimiser: str) -> None:
    told = type("Told", (kind,), {"alike": False})
    learners = [learner_of(each, flags, "cuda", optimiser=optimiser) for each in (kind, told)]
    assert [isinstance(learner._gradients, Replayed) for learner in learners] == [True, False]
    pixels = pixels_of(COUNT, 16)
    for step in range(1, STEPS + 1):
        drawn = np.random.default_rng(step).permutation(COUNT)[:16]
        losses = [float(learner.learn(step, pixels[drawn], drawn)) for learner in learners]
        assert losses[0] == losses[1]
    assert learners[0]._gradients._graph is not None
    assert len({fingerprint(learner.encoder) for learner in learners}) == 1


@on_gpu
def test_a_training_taken_up_ends_as_one_never_cut_off() -> None:
    pixels, whole, cut = pixels_of(COUNT, 16), learner_of(SimCLR, BAND, "cuda"), learner_of(SimCLR, BAND, "cuda")
    for step in range(1, STEPS + 1):
        drawn = np.random.default_rng(step).permutation(COUNT)[:16]
        if step == WARM + 3:
            again = learner_of(SimCLR, BAND, "cuda")
            assert again.restore(cut.content(step - 1, "same"), "same") == step - 1
            cut = again
        for learner in (whole, cut):
            learner.learn(step, pixels[drawn], drawn)
    assert fingerprint(whole.encoder) == fingerprint(cut.encoder)


@on_gpu
def test_work_that_looks_at_a_value_is_told_every_time() -> None:
    def work(values: torch.Tensor) -> torch.Tensor:
        return values * float(values.sum())

    replayed = Replayed(work)
    for number in range(WARM + 3):
        assert float(replayed(torch.tensor([2.0 + number], device="cuda"))) == (2.0 + number) ** 2
