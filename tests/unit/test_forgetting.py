"""What a training forgets: counted as a plain loop counts, without changing what is learnt, and taken up again."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import noise

from tamis.checkpoint import FileCheckpoint
from tamis.encoders.encoder import fingerprint
from tamis.encoders.spec import EncoderSpec
from trainer.forgetting import Forgotten, known
from trainer.recipe import Recipe
from trainer.training import train_encoder

CPU = torch.device("cpu")
SPEC = EncoderSpec("small", 16)


def test_events_are_what_a_plain_loop_counts() -> None:
    random = np.random.default_rng(0)
    forgotten, history = Forgotten(20, CPU), {sample: list[bool]() for sample in range(20)}
    for _ in range(40):
        samples, right = random.permutation(20)[:8], random.random(8) < 0.6
        right &= samples > 2
        forgotten.see(torch.from_numpy(samples), torch.from_numpy(right))
        for sample, each in zip(samples, right, strict=True):
            history[sample].append(bool(each))
    events = [sum(one and not other for one, other in pairwise(seen)) for seen in history.values()]
    assert forgotten.events.tolist() == events
    assert forgotten.ever.tolist() == [any(seen) for seen in history.values()]
    among = np.arange(20) % 5 > 0
    keep = forgotten.most(among, 9, seed=0)
    assert keep.sum() == 9
    assert not keep[~among].any()
    assert keep[[1, 2]].all(), "what was never known goes first"
    assert min(events[sample] for sample in np.flatnonzero(keep[3:]) + 3) >= max(
        events[sample] for sample in np.flatnonzero(among & ~keep)
    )


def test_equals_are_told_apart_by_chance_and_not_by_their_order() -> None:
    forgotten = Forgotten(1000, CPU)
    forgotten.see(torch.arange(1000), torch.ones(1000, dtype=torch.bool))
    first, second = (forgotten.most(np.ones(1000, bool), 500, seed) for seed in (0, 1))
    assert first.sum() == second.sum() == 500
    assert 200 < first[:500].sum() < 300
    assert not np.array_equal(first, second)


def test_a_sample_is_known_where_each_view_is_nearest_to_the_other() -> None:
    z1, z2 = (torch.randn(30, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    z2 = z1 + 0.4 * z2
    found, views = known(z1, z2), [*z1, *z2]
    for sample in range(30):
        nearest = [
            max(set(range(60)) - {own}, key=[float(cosine(views[own], other)) for other in views].__getitem__)
            for own in (sample, sample + 30)
        ]
        assert bool(found[sample]) == (nearest == [sample + 30, sample])
    assert 0 < found.sum() < 30


def cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return one @ other / (one.norm() * other.norm())


def test_counting_changes_nothing_that_is_learnt_and_is_taken_up(tmp_path: Path) -> None:
    images, recipe = noise(40), Recipe(steps=24, batch_size=10)
    whole = Forgotten(40, CPU)
    counted = train_encoder(images, SPEC, recipe, device="cpu", forgotten=whole)
    assert fingerprint(counted) == fingerprint(train_encoder(images, SPEC, recipe, device="cpu"))
    assert whole.ever.any()

    def stop(done: int, total: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    checkpoint, again = FileCheckpoint(tmp_path / "checkpoint.pt"), Forgotten(40, CPU)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(
            images, SPEC, recipe, device="cpu", checkpoint=checkpoint, progress=stop, forgotten=Forgotten(40, CPU)
        )
    train_encoder(images, SPEC, recipe, device="cpu", checkpoint=checkpoint, forgotten=again)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
