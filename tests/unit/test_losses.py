"""The losses against plain loops in float64, and the spectral loss against the matrix factorisation it stands for."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tamis.errors import InputError
from tamis.losses import CLIP, InfoNCE, PerPair, Spectral, in_band

Matrix = npt.NDArray[np.float64]


def info_nce(z1: Matrix, z2: Matrix, tau: float, flags: Matrix, margin: Matrix, scale: Matrix) -> float:
    """METHOD section 4, one logit at a time. flags: 0/1 over samples, in either orientation."""
    views = [row / math.sqrt(sum(x * x for x in row)) for row in (*z1, *z2)]
    count = len(z1)
    total = 0.0
    for i in range(2 * count):
        logits = {}
        for j in range(2 * count):
            if i != j:
                similarity = sum(x * y for x, y in zip(views[i], views[j], strict=True))
                logits[j] = pair_logit(similarity, i % count, j % count, flags, margin, scale) / tau
        largest = max(logits.values())
        normaliser = largest + math.log(sum(math.exp(value - largest) for value in logits.values()))
        total += normaliser - logits[(i + count) % (2 * count)]
    return total / (2 * count)


def of_the_literature(z1: Matrix, z2: Matrix, tau: float, prior: float, hardness: float, alike: Matrix) -> float:
    """Chuang et al. 2020 and Robinson et al. 2021 as they are written, one view at a time; alike: 0/1, no negatives."""
    views = [row / math.sqrt(sum(x * x for x in row)) for row in (*z1, *z2)]
    count = len(z1)
    total = 0.0
    for i in range(2 * count):
        others = [j for j in range(2 * count) if j % count != i % count and not alike[i % count, j % count]]
        negatives = [math.exp(float(views[i] @ views[j]) / tau) for j in others]
        positive = math.exp(float(views[i] @ views[(i + count) % (2 * count)]) / tau)
        importance = [value**hardness for value in negatives]
        mean = sum(importance) / max(1, len(importance))
        weighted = sum(weight / mean * value for weight, value in zip(importance, negatives, strict=True))
        left = (weighted - len(others) * prior * positive) / (1 - prior)
        left = max(left, len(others) * math.exp(-1 / tau))
        total -= math.log(positive / (positive + left))
    return total / (2 * count)


def clip(images: Matrix, texts: Matrix, tau: float, flags: Matrix, margin: Matrix, scale: Matrix) -> float:
    """Radford et al. 2021, figure 3, one logit at a time."""
    both = [[row / math.sqrt(sum(x * x for x in row)) for row in rows] for rows in (images, texts)]
    count = len(images)
    total = 0.0
    for own, others in (both, both[::-1]):
        for i in range(count):
            logits = [pair_logit(float(own[i] @ others[j]), i, j, flags, margin, scale) / tau for j in range(count)]
            total += math.log(sum(math.exp(value) for value in logits)) - logits[i]
    return total / (2 * count)


def spectral(z1: Matrix, z2: Matrix, flags: Matrix, margin: Matrix, scale: Matrix) -> float:
    count = len(z1)
    views = [*z1, *z2]
    positives = [float(z1[i] @ z2[i]) for i in range(count)]
    negatives = [
        pair_logit(float(views[i] @ views[j]), i % count, j % count, flags, margin, scale) ** 2
        for i in range(2 * count)
        for j in range(2 * count)
        if i % count != j % count
    ]
    return -2 * sum(positives) / count + sum(negatives) / len(negatives)


def pair_logit(value: float, i: int, j: int, flags: Matrix, margin: Matrix, scale: Matrix) -> float:
    """Of samples i and j: a pair flagged in one orientation alone takes that orientation's values in both."""
    if i == j or not (flags[i, j] or flags[j, i]):
        return value
    given = (i, j) if flags[i, j] else (j, i)
    return float((value + margin[given]) / scale[given])


def batch(seed: int, count: int = 6, dimension: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(count, dimension, generator=generator, dtype=torch.float64) for _ in range(2))
    return z1, z2, torch.rand(count, count, generator=generator) < 0.4


TREATMENTS: dict[str, tuple[PerPair, PerPair]] = {
    "none": (0.0, 1.0),
    "margin": (0.3, 1.0),
    "temperature": (0.0, 0.6),
    "both": (0.2, 0.8),
    "per pair": (
        torch.rand(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
        0.5 + torch.rand(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64),
    ),
}


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_their_definition(treatment: str, seed: int) -> None:
    z1, z2, difficult = batch(seed)
    margin, scale = TREATMENTS[treatment]
    as_matrices = [np.broadcast_to(np.asarray(value, np.float64), (6, 6)) for value in (margin, scale)]
    plain = (z1.numpy(), z2.numpy())
    flags = difficult.double().numpy()
    assert float(InfoNCE(0.3)(z1, z2, difficult, margin, scale)) == pytest.approx(
        info_nce(*plain, 0.3, flags, *as_matrices), rel=1e-12
    )
    assert float(CLIP(0.3)(z1, z2, difficult, margin, scale)) == pytest.approx(
        clip(*plain, 0.3, flags, *as_matrices), rel=1e-12
    )
    assert float(Spectral()(z1, z2, difficult, margin, scale)) == pytest.approx(
        spectral(*plain, flags, *as_matrices), rel=1e-12
    )


LITERATURE = {"plain": (0.0, 0.0), "debiased": (0.1, 0.0), "hard": (0.1, 1.0), "hard alone": (0.0, 0.5)}


@pytest.mark.parametrize("eliminated", [False, True])
@pytest.mark.parametrize("name", LITERATURE)
@pytest.mark.parametrize("seed", range(3))
def test_losses_of_the_literature_equal_their_definition_and_gradients_finite_differences(
    name: str, eliminated: bool, seed: int
) -> None:
    z1, z2, flags = batch(seed)
    prior, hardness = LITERATURE[name]
    alike = (flags | flags.T) & ~torch.eye(6, dtype=torch.bool) & eliminated
    loss = InfoNCE(0.3, prior, hardness)

    def value(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return loss(first, second, alike, margin=-math.inf)

    expected = of_the_literature(z1.numpy(), z2.numpy(), 0.3, prior, hardness, alike.double().numpy())
    assert float(value(z1, z2)) == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(value, (z1.requires_grad_(), z2.requires_grad_()))


@pytest.mark.parametrize("name", LITERATURE)
@pytest.mark.parametrize("treatment", ["none", "both"])
def test_the_loss_over_a_queue_equals_its_definition_and_gradients_finite_differences(
    name: str, treatment: str
) -> None:
    queries, keys, _ = batch(2)
    queue, own = batch(5, count=9)[0], torch.zeros(6, 9, dtype=torch.bool)
    own[1, 3] = own[4, 0] = True
    difficult = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    margin, scale = TREATMENTS[treatment]
    prior, hardness = LITERATURE[name]
    loss = InfoNCE(0.3, prior, hardness)
    unit = [(rows / rows.norm(dim=1, keepdim=True)).numpy() for rows in (queries, keys, queue)]
    expected = 0.0
    for i in range(6):
        positive = math.exp(float(unit[0][i] @ unit[1][i]) / 0.3)
        negatives = []
        for j in range(9):
            similarity = float(unit[0][i] @ unit[2][j])
            similarity = (similarity + margin) / scale if difficult[i, j] else similarity
            negatives += [] if own[i, j] else [math.exp(similarity / 0.3)]
        mean = sum(value**hardness for value in negatives) / len(negatives)
        left = sum(value ** (1 + hardness) / mean for value in negatives) - len(negatives) * prior * positive
        left = max(left / (1 - prior), len(negatives) * math.exp(-1 / 0.3))
        expected -= math.log(positive / (positive + left)) / 6

    def value(first: torch.Tensor) -> torch.Tensor:
        return loss.queued(first, keys, queue, own, difficult, margin, scale)

    assert float(value(queries)) == pytest.approx(expected, rel=1e-12)
    assert float(loss.queued(queries, keys, queue[:0], own[:, :0])) == pytest.approx(0.0, abs=1e-12)
    assert torch.autograd.gradcheck(value, (queries.requires_grad_(),))
    with pytest.raises(InputError, match=r"difficult has shape \(6, 6\)\. Give \(6, 9\)"):
        loss.queued(queries, keys, queue, own, difficult[:, :6])


def test_the_sum_over_negatives_is_never_less_than_it_can_be() -> None:
    z1, _, _ = batch(3)
    near = z1 + 0.01 * batch(4)[0]
    alone = torch.zeros(6, 6, dtype=torch.double).numpy()
    expected = of_the_literature(z1.numpy(), near.numpy(), 0.1, 0.9, 0.0, alone)
    assert float(InfoNCE(0.1, prior=0.9)(z1, near)) == pytest.approx(expected, rel=1e-9)
    assert float(InfoNCE(0.1, prior=0.9)(z1, near)) < 1e-6 < float(InfoNCE(0.1)(z1, near))


@pytest.mark.parametrize("loss", [InfoNCE(0.005), InfoNCE(0.005, 0.1, 1.0)], ids=["plain", "hard"])
def test_a_view_without_negatives_and_low_temperatures_stay_finite(loss: InfoNCE) -> None:
    z1, z2, _ = batch(3)
    first, second = z1.float().requires_grad_(), z2.float()
    everything = torch.ones(6, 6, dtype=torch.bool)
    for value in (loss(first, second), loss(first, second, everything, margin=-math.inf)):
        (gradient,) = torch.autograd.grad(value, first)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()
    assert float(value.detach()) == 0.0


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("loss", [InfoNCE(0.3), Spectral(), CLIP(0.3)], ids=["infonce", "spectral", "clip"])
def test_gradients_equal_finite_differences(loss: InfoNCE | Spectral | CLIP, treatment: str) -> None:
    z1, z2, difficult = batch(4)
    margin, scale = TREATMENTS[treatment]

    def value(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return loss(first, second, difficult, margin, scale)

    assert torch.autograd.gradcheck(value, (z1.requires_grad_(), z2.requires_grad_()))


@pytest.mark.parametrize("loss", [InfoNCE(0.3), Spectral(), CLIP(0.3)], ids=["infonce", "spectral", "clip"])
def test_unflagged_pairs_are_untouched_and_a_sample_is_never_difficult_to_itself(
    loss: InfoNCE | Spectral | CLIP,
) -> None:
    z1, z2, _ = batch(5)
    plain = loss(z1, z2)
    assert loss(z1, z2, torch.zeros(6, 6, dtype=torch.bool), 0.7, 0.2) == plain
    assert loss(z1, z2, torch.eye(6, dtype=torch.bool), 0.7, 0.2) == plain
    assert loss(z1, z2, None, 0.7, 0.2) == plain
    assert loss(z1, z2, torch.ones(6, 6, dtype=torch.bool), 0.7, 0.2) != plain


def test_flags_hold_in_both_orientations() -> None:
    z1, z2, _ = batch(6)
    upper = torch.zeros(6, 6, dtype=torch.bool)
    upper[1, 4] = True
    margin = torch.zeros(6, 6, dtype=torch.float64)
    margin[1, 4] = 0.5
    loss = InfoNCE(0.3)
    assert loss(z1, z2, upper, margin) == loss(z1, z2, upper.T, margin.T)
    assert loss(z1, z2, upper, margin) == loss(z1, z2, upper | upper.T, 0.5)


@pytest.mark.parametrize(
    "loss", [InfoNCE(0.2), InfoNCE(0.2, 0.1, 1.0), Spectral(), CLIP(0.2)], ids=["infonce", "hard", "spectral", "clip"]
)
def test_blocks_of_a_large_batch_give_the_loss_and_the_gradients_of_the_whole(
    loss: InfoNCE | Spectral | CLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, 23, 5, generator=random, dtype=torch.float64)
    flags = torch.rand(23, 23, generator=random) < 0.3
    margin, scale = torch.rand(2, 23, 23, generator=random, dtype=torch.float64) + 0.5

    def found() -> list[torch.Tensor]:
        views = [view.clone().requires_grad_() for view in (z1, z2)]
        value = loss(*views, flags, margin, scale)
        value.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return [value.detach(), *(view.grad for view in views if view.grad is not None)]

    whole = found()
    monkeypatch.setattr("tamis.losses.BLOCK", 7)
    for one, other in zip(found(), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_memory_grows_with_the_batch_and_not_with_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tamis.losses.BLOCK", 64)
    held: list[int] = []
    for count in (256, 512):
        z1, z2 = torch.randn(2, count, 8).requires_grad_()
        kept = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            InfoNCE(0.2)(z1, z2)
        held.append(kept)
    assert held[1] < 3 * held[0], "what is held for the gradient is of the logits"


def test_half_precision_is_raised_and_large_logits_stay_finite() -> None:
    z1, z2, difficult = batch(7)
    loss = InfoNCE(0.01)(z1.bfloat16(), z2.bfloat16(), difficult, 0.5, 0.1)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda z: InfoNCE(0.0), "temperature"),
        (lambda z: InfoNCE(prior=1.0), "prior"),
        (lambda z: InfoNCE(hardness=-1.0), "hardness"),
        (lambda z: InfoNCE()(z, z[:3]), "shapes"),
        (lambda z: InfoNCE()(z[:1], z[:1]), "at least two"),
        (lambda z: InfoNCE()(z.long(), z.long()), "types"),
        (lambda z: InfoNCE()(z, z, torch.zeros(3, 3, dtype=torch.bool)), "difficult"),
        (lambda z: InfoNCE()(z, z, torch.zeros(6, 6)), "bool"),
        (lambda z: Spectral()(z, z, torch.zeros(6, 6, dtype=torch.bool), torch.zeros(6)), "margin"),
        (lambda z: Spectral()(z, z, torch.zeros(6, 6, dtype=torch.bool), 0.0, -1.0), "temperature_scale"),
        (lambda z: in_band(z, 0.1, 0.9), "square"),
        (lambda z: in_band(torch.eye(4), 0.9, 0.1), "in order"),
    ],
)
def test_unfitting_input_is_named(call: Callable[[torch.Tensor], object], names: str) -> None:
    with pytest.raises(InputError, match=names):
        call(batch(8)[0])


def test_in_band_flags_the_shares_it_was_asked_for() -> None:
    z, _, _ = batch(9, count=30)
    similarity = z @ z.T
    flags = in_band(similarity, 0.1, 0.9)
    order = similarity[~torch.eye(30, dtype=torch.bool)].sort(descending=True).values
    high, low = order[round(0.1 * len(order)) - 1], order[round(0.9 * len(order)) - 1]
    for i in range(30):
        for j in range(30):
            assert bool(flags[i, j]) == (i != j and bool(low <= similarity[i, j] < high))
    assert not in_band(similarity, 0.0, 1.0).diagonal().any()
    assert int(in_band(similarity, 0.0, 1.0).sum()) == 30 * 29


def test_spectral_loss_is_the_factorisation_of_the_augmentation_graph() -> None:
    """HaoChen et al. 2021, lemma 3.2, with exact expectations: L(f) = ||A_bar - F F^T||^2 - ||A_bar||^2.

    A batch of two natural samples drawn independently of each other makes the two means of the loss unbiased, so its
    expectation over all such batches is the loss of the population.
    """
    random = np.random.default_rng(0)
    views, naturals = 4, 3
    # augment[n, v]: probability that natural sample n is augmented into view v.
    augment = random.random((naturals, views))
    augment /= augment.sum(1, keepdims=True)
    adjacency = augment.T @ augment / naturals
    degree = adjacency.sum(1)
    normalised = adjacency / np.sqrt(np.outer(degree, degree))
    constants = []
    for seed in range(5):
        f = np.random.default_rng(seed).normal(size=(views, 2)) * 0.7
        loss = population_spectral(f, augment)
        F = np.sqrt(degree)[:, None] * f
        constants.append(loss - ((normalised - F @ F.T) ** 2).sum())
    assert constants == pytest.approx([-(normalised**2).sum()] * 5, abs=1e-10)


def population_spectral(f: Matrix, augment: Matrix) -> float:
    """The expectation of `Spectral` over independent pairs of natural samples and the four views drawn of them."""
    naturals, views = len(augment), len(f)
    features = torch.from_numpy(f)
    total = 0.0
    for n in range(naturals):
        for m in range(naturals):
            for a1, a2, b1, b2 in np.ndindex(views, views, views, views):
                probability = float(augment[n, a1] * augment[n, a2] * augment[m, b1] * augment[m, b2])
                total += probability * float(Spectral()(features[[a1, b1]], features[[a2, b2]]))
    return total / (naturals * naturals)
