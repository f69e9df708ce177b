"""Contrastive losses that treat difficult pairs apart, with margins and temperatures: InfoNCE, the spectral loss, and
CLIP's of images and texts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tamis.errors import InputError

PerPair: TypeAlias = "float | torch.Tensor"
# Samples whose logits are held at once: two views of them against all, 32 MiB for a batch of as many.
BLOCK = 1024


@dataclass(frozen=True)
class InfoNCE:
    """NT-Xent over the 2B views of B samples (Chen et al. 2020, section 2.1; difficult pairs: Zhang et al. 2026,
    section 4).

    logit_ij = (s_ij + margin_ij * p_ij) / (temperature * (temperature_scale_ij if p_ij else 1)), s the cosine; a view
    is never compared with itself, and the two views of a sample, the positives, are never difficult.

    Calling it takes
    z1, z2: (B, d) float, the two views of the samples, row by row; B >= 2.
    difficult: (B, B) bool, p over samples, or None. It holds for all four combinations of views and in both
        orientations; its diagonal is ignored.
    margin, temperature_scale: floats, or (B, B) tensors, used only where a pair is difficult. A pair flagged in one
        orientation alone takes that orientation's values in both.
    and returns the mean over the 2B views, a scalar tensor (half precision is raised to float32).

    Of the literature, over the same logits:
    prior: the probability that a negative is of the view's own class; its share is taken out of the sum over the N
        negatives, (sum - N * prior * e^positive) / (1 - prior), but no less than N * e^(-1 / temperature) is left
        (Chuang et al. 2020, section 4).
    hardness: negatives weigh as e^(hardness * logit), with mean one (Robinson et al. 2021, section 3; there beta).
    A margin of minus infinity takes a pair out of the negatives: false-negative elimination (Huynh et al. 2022,
        section 3).

    Raises InputError for unfitting shapes or types, for temperatures that are not positive, for a prior outside [0, 1)
    and a hardness below 0.

    >>> z1 = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> loss = InfoNCE(temperature=0.5)
    >>> round(float(loss(z1, z1)), 4)
    0.2395
    >>> difficult = torch.tensor([[False, True], [True, False]])
    >>> round(float(loss(z1, z1, difficult, margin=0.2)), 4)
    0.3392
    """

    temperature: float = 0.5
    prior: float = 0.0
    hardness: float = 0.0

    def __post_init__(self) -> None:
        _check_positive("temperature", self.temperature)
        if not 0 <= self.prior < 1:
            raise InputError(f"prior is {self.prior}.", "Give a probability, from 0 to below 1.")
        if not (self.hardness >= 0 and math.isfinite(self.hardness)):
            raise InputError(f"hardness is {self.hardness}.", "Give 0 or more.")

    def __call__(
        self,
        z1: torch.Tensor,
        z2: torch.Tensor,
        difficult: torch.Tensor | None = None,
        margin: PerPair = 0.0,
        temperature_scale: PerPair = 1.0,
    ) -> torch.Tensor:
        views = functional.normalize(_views(z1, z2), dim=1).view(2, len(z1), -1)
        _check_pairs((len(z1), len(z1)), difficult, margin, temperature_scale)
        number = torch.arange(views[..., 0].numel(), device=views.device).view(2, -1)

        def of_rows(rows: slice) -> torch.Tensor:
            logits = _adjusted(_products(views, rows), rows, difficult, margin, temperature_scale) / self.temperature
            own = number[:, rows].flatten()
            logits = logits.reshape(len(own), -1).scatter(1, own[:, None], -math.inf)
            return self._contrast(logits, number.roll(1, 0)[:, rows].flatten()).sum()

        return _over_blocks(of_rows, len(z1)) / number.numel()

    def queued(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        queue: torch.Tensor,
        own: torch.Tensor,
        difficult: torch.Tensor | None = None,
        margin: PerPair = 0.0,
        temperature_scale: PerPair = 1.0,
    ) -> torch.Tensor:
        """The mean over queries, each compared with its key and with the keys of a queue (He et al. 2020, equation 1).

        queries, keys: (B, d) float. queue: (K, d), K may be 0. own: (B, K) bool, the queued keys of a query's own
        sample, which are no negatives: where MoCo comes from, data are so many that there are next to none. difficult
        to temperature_scale: of the pairs of a query and a queued key, (B, K), or floats. Raises the same.
        """
        both = functional.normalize(_views(queries, keys), dim=1).view(2, len(queries), -1)
        similarity = both[0] @ functional.normalize(queue.to(both.dtype), dim=1).T
        _check_pairs(similarity.shape, difficult, margin, temperature_scale)
        if difficult is not None:
            similarity = torch.where(difficult, (similarity + margin) / temperature_scale, similarity)
        negatives = similarity.masked_fill(own, -math.inf)
        logits = torch.cat([(both[0] * both[1]).sum(1, keepdim=True), negatives], 1) / self.temperature
        positive = torch.zeros(len(queries), dtype=torch.int64, device=logits.device)
        return self._contrast(logits, positive).mean()

    def _contrast(self, logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        """Of each row. logits: minus infinity for what is no negative. positive: of each row, its column."""
        if not (self.prior or self.hardness):
            return functional.cross_entropy(logits, positive, reduction="none")
        # Taken away, so that no exponential overflows.
        highest = logits.detach().amax(1)
        logits = logits - highest[:, None]
        own = logits.gather(1, positive[:, None]).squeeze(1)
        negatives = logits.scatter(1, positive[:, None], -math.inf)
        others = torch.isfinite(negatives)
        number = others.sum(1, dtype=logits.dtype)
        # A finite filling, for a row without negatives.
        hard = (self.hardness * negatives).masked_fill(~others, torch.finfo(logits.dtype).min).softmax(1)
        weighted = number * (hard * negatives.exp()).sum(1)
        least = number * torch.exp(-1 / self.temperature - highest)
        left = torch.maximum((weighted - number * self.prior * own.exp()) / (1 - self.prior), least)
        return (own.exp() + left).log() - own


@dataclass(frozen=True)
class Spectral:
    """The spectral contrastive loss (HaoChen et al. 2021, section 3.2; difficult pairs: Zhang et al. 2026, section 4).

    L = -2 E[f(x).f(x+)] + E[(f(x).f(x'))^2], the first mean over the B positives, the second over the views of
    different samples of the batch. On difficult pairs f.f' becomes (f.f' + margin) / temperature_scale. In expectation
    L is ||A_bar - F F^T||_F^2 up to a constant, rows of F being sqrt(w_x) f(x).

    Called as `InfoNCE` is, on features that are not normalised, and raises the same.

    >>> f = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    >>> float(Spectral()(f, f))
    -1.25
    >>> difficult = torch.tensor([[False, True], [False, False]])
    >>> float(Spectral()(f, f, difficult, margin=0.5))
    -0.5
    """

    def __call__(
        self,
        z1: torch.Tensor,
        z2: torch.Tensor,
        difficult: torch.Tensor | None = None,
        margin: PerPair = 0.0,
        temperature_scale: PerPair = 1.0,
    ) -> torch.Tensor:
        count = len(z1)
        views = _views(z1, z2).view(2, count, -1)
        _check_pairs((count, count), difficult, margin, temperature_scale)

        def of_rows(rows: slice) -> torch.Tensor:
            product = _adjusted(_products(views, rows), rows, difficult, margin, temperature_scale)
            return product.square().sum((0, 2)).masked_fill(_itself(product, rows), 0.0).sum()

        negatives = _over_blocks(of_rows, count) / (4 * count * (count - 1))
        return negatives - 2 * (views[0] * views[1]).sum(1).mean()


@dataclass(frozen=True)
class CLIP:
    """InfoNCE between images and texts (Radford et al. 2021, section 2.3), with difficult pairs treated apart.

    An image's positive is its own text and its negatives are the other texts of the batch, and the other way round;
    logit_ij is that of `InfoNCE`, s the cosine of the one's image and the other's text. The paper learns the
    temperature, from 0.07; here it is what it is set to.

    Called as `InfoNCE` is, on images and texts, (B, d) float each, row by row; returns the mean over all 2B, and
    raises the same. A pair of samples is difficult both for the one's image with the other's text and for the other's
    image with the one's text.

    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> loss = CLIP(temperature=0.5)
    >>> round(float(loss(z, z)), 4)
    0.1269
    >>> difficult = torch.tensor([[False, True], [True, False]])
    >>> round(float(loss(z, z, difficult, margin=0.2)), 4)
    0.1839
    """

    temperature: float = 0.07

    def __post_init__(self) -> None:
        _check_positive("temperature", self.temperature)

    def __call__(
        self,
        images: torch.Tensor,
        texts: torch.Tensor,
        difficult: torch.Tensor | None = None,
        margin: PerPair = 0.0,
        temperature_scale: PerPair = 1.0,
    ) -> torch.Tensor:
        count = len(images)
        both = functional.normalize(_views(images, texts), dim=1).view(2, count, -1)
        _check_pairs((count, count), difficult, margin, temperature_scale)
        own = torch.arange(count, device=both.device)

        def of_rows(rows: slice) -> torch.Tensor:
            product = torch.einsum("vbd,vcd->vbc", both[:, rows], both.flip(0))[:, :, None]
            logits = _adjusted(product, rows, difficult, margin, temperature_scale) / self.temperature
            return functional.cross_entropy(logits.reshape(-1, count), own[rows].repeat(2), reduction="sum")

        return _over_blocks(of_rows, count) / (2 * count)


def in_band(similarity: torch.Tensor, pos_high: float, pos_low: float) -> torch.Tensor:
    """The difficult pairs of a batch, found online: Sim_posLow <= s < Sim_posHigh (Zhang et al. 2026, section 3).

    similarity: (B, B) float. pos_high < pos_low: shares of the off-diagonal similarities in descending order, each
    standing for the smallest similarity within that share. Returns (B, B) bool, False on the diagonal.
    Raises InputError when the matrix is not square or the shares are not in order within [0, 1].

    >>> s = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.5], [0.1, 0.5, 1.0]])
    >>> in_band(s, pos_high=1 / 3, pos_low=2 / 3).int().tolist()
    [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    """
    count = len(similarity)
    if similarity.shape != (count, count) or count < 2:
        raise InputError(f"The similarities have shape {tuple(similarity.shape)}.", "Give a square matrix.")
    if not 0.0 <= pos_high < pos_low <= 1.0:
        raise InputError(f"pos_high {pos_high} and pos_low {pos_low} are not in order within 0 to 1.")
    other = ~torch.eye(count, dtype=torch.bool, device=similarity.device)
    values = similarity.masked_select(other)

    def at(share: float) -> torch.Tensor:
        # Less a hair, so that a share such as 1/3 of 6 pairs does not round up to a third pair.
        within = math.ceil(share * len(values) - 1e-9)
        return values.kthvalue(len(values) - within + 1).values if within else values.new_tensor(math.inf)

    return (similarity >= at(pos_low)) & (similarity < at(pos_high)) & other


def _views(z1: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
    if z1.ndim != 2 or z1.shape != z2.shape or len(z1) < 2:
        raise InputError(
            f"The two views have shapes {tuple(z1.shape)} and {tuple(z2.shape)}.",
            "Give two (B, d) tensors of the same samples, at least two.",
        )
    if not (z1.is_floating_point() and z2.is_floating_point()):
        raise InputError(f"The two views are of types {z1.dtype} and {z2.dtype}.", "Give floats.")
    views = torch.cat([z1, z2])
    return views.float() if views.dtype in (torch.float16, torch.bfloat16) else views


def _over_blocks(of_rows: Callable[[slice], torch.Tensor], count: int) -> torch.Tensor:
    """The sum over blocks of samples. More than one is each computed once more for its gradient, so that memory grows
    with the batch and not with its square (Chen et al. 2016)."""
    if count <= BLOCK:
        return of_rows(slice(0, count))
    blocks = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    parts: list[torch.Tensor] = [
        checkpoint(of_rows, rows, use_reentrant=False, preserve_rng_state=False) for rows in blocks
    ]
    return torch.stack(parts).sum()


def _products(views: torch.Tensor, rows: slice) -> torch.Tensor:
    """(2, b, 2, B): of the views of some samples with those of all, (2, B, d)."""
    return torch.einsum("vbd,wcd->vbwc", views[:, rows], views)


def _itself(similarity: torch.Tensor, rows: slice) -> torch.Tensor:
    """(b, B) bool, where a pair is one sample twice."""
    samples = torch.arange(similarity.shape[-1], device=similarity.device)
    return samples[rows, None] == samples


def _adjusted(
    similarity: torch.Tensor,
    rows: slice,
    difficult: torch.Tensor | None,
    margin: PerPair,
    temperature_scale: PerPair,
) -> torch.Tensor:
    """(2, b, 2 or 1, B) similarities of views, shifted and scaled where their samples are a difficult pair."""
    if difficult is None:
        return similarity
    other = ~_itself(similarity, rows)
    given = difficult[rows] & other, difficult.T[rows] & other
    shift = _on_pairs(similarity, rows, given, margin, 0.0)
    scale = _on_pairs(similarity, rows, given, temperature_scale, 1.0)
    return (similarity + shift[:, None, :]) / scale[:, None, :]


def _check_pairs(
    shape: tuple[int, ...], difficult: torch.Tensor | None, margin: PerPair, temperature_scale: PerPair
) -> None:
    for name, value in (("difficult", difficult), ("margin", margin), ("temperature_scale", temperature_scale)):
        if isinstance(value, torch.Tensor) and value.shape != shape:
            raise InputError(f"{name} has shape {tuple(value.shape)}.", f"Give {tuple(shape)}, the pairs compared.")
    if not isinstance(temperature_scale, torch.Tensor):
        _check_positive("temperature_scale", temperature_scale)
    if difficult is not None and difficult.dtype != torch.bool:
        raise InputError(f"difficult is of type {difficult.dtype}.", "Give bool.")


def _on_pairs(
    like: torch.Tensor, rows: slice, given: tuple[torch.Tensor, torch.Tensor], value: PerPair, elsewhere: float
) -> torch.Tensor:
    """(b, B): `value` on the pairs flagged in either orientation, `elsewhere` on the others."""
    count = like.shape[-1]
    values = value.to(like) if isinstance(value, torch.Tensor) else like.new_full((), value)
    values = values.expand(count, count)
    forwards, backwards = given
    return torch.where(forwards, values[rows], torch.where(backwards, values.T[rows], elsewhere))


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name} is {value}.", "Give a positive number.")
