"""Probes: how well labels are read off an encoder's features, by a linear classifier and by the nearest neighbours."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tamis.device import resolve_device

Codes = npt.NDArray[np.int64]

MIN_PER_LABEL = 5
TEST_SHARE = 5  # one in so many samples
# Shares of the training samples whose labels are known.
FEWER_LABELS = (0.01, 0.1)
NEIGHBOURS, VOTE_TEMPERATURE = 20, 0.07
INVERSE_REGULARISATION = 0.1
MAX_ITERATIONS = 500
BLOCK = 4096
# The 97.5% quantile of the standard normal distribution.
Z = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Labelled:
    """features: (N, d) float32. labels: N, None where unknown. sha256: N hex digests of the samples."""

    features: npt.NDArray[np.float32]
    labels: Sequence[str | None]
    sha256: Sequence[str]

    def pick(self, chosen: npt.NDArray[np.bool_]) -> "Labelled":
        places = np.flatnonzero(chosen).tolist()
        return Labelled(
            self.features[places], [self.labels[place] for place in places], [self.sha256[place] for place in places]
        )


@dataclass(frozen=True)
class Accuracy:
    """Shares of the test samples that are told right, and the same with every class counting alike (`balanced`).

    accuracy, balanced: by multinomial logistic regression. nearest, nearest_balanced: by the 20 nearest neighbours.
    train: how many labelled samples they learnt from.
    """

    accuracy: float
    balanced: float
    nearest: float
    nearest_balanced: float
    train: int


@dataclass(frozen=True)
class Probe(Accuracy):
    """low, high: the 95% Wilson interval of `accuracy`. test: number of test samples. classes: of both.

    fewer_labels: the same where 1% and 10% of the training samples have labels, by that share as text.
    """

    low: float
    high: float
    test: int
    classes: int
    fewer_labels: dict[str, Accuracy]


def held_out(sha256: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(N,) bool: the fifth of the samples that is tested on where there is no test set. The hash alone decides: it is
    the same in every arm, and copies of an image are on the same side."""
    return np.array([int(digest[:8], 16) % TEST_SHARE == 0 for digest in sha256], np.bool_)


def probe_split(data: Labelled, device: str = "cpu") -> Probe | None:
    """`probe` on four fifths of the samples, tested on the others."""
    tested = held_out(data.sha256)
    return probe(data.pick(~tested), data.pick(tested), device)


def probe(train: Labelled, test: Labelled, device: str = "cpu") -> Probe | None:
    """Both probes, with all labels and with fewer. None when fewer than 2 labels have 5 samples, or one side has none.

    Labels with fewer than 5 samples are left out, and test samples of labels that no training sample has. Few labels
    are of the samples first by hash, of each class its share and at least one.

    The classifier is regularised (L2, C = 0.1) on standardised features and fitted by L-BFGS in float32, which ends
    within its tolerance of the one optimum on any device. Neighbours vote by exp(cosine / 0.07) (Wu et al. 2018,
    section 3.4), on features as they are.
    """
    counts = Counter(label for label in (*train.labels, *test.labels) if label is not None)
    known = {label for label in train.labels if label is not None}
    names = sorted(label for label, count in counts.items() if count >= MIN_PER_LABEL and label in known)
    train_codes, test_codes = (_codes(side.labels, names) for side in (train, test))
    tested = np.flatnonzero(test_codes >= 0)
    if len(names) < 2 or len(tested) == 0:
        return None
    order = np.flatnonzero(train_codes >= 0)
    # By hash, so that neither few labels nor the order of a sum depend on the order of the samples.
    order = order[np.argsort([train.sha256[int(place)] for place in order], kind="stable")]
    codes = train_codes[order]
    sides = _Sides(
        train.features[order], codes, test.features[tested], test_codes[tested], len(names), resolve_device(device)
    )
    fewer = {str(share): sides.accuracy(_first_of_each(codes, share)) for share in FEWER_LABELS}
    all_labels = sides.accuracy(np.arange(len(codes)))
    low, high = wilson_interval(round(all_labels.accuracy * len(tested)), len(tested))
    return Probe(**vars(all_labels), low=low, high=high, test=len(tested), classes=len(names), fewer_labels=fewer)


def _codes(labels: Sequence[str | None], names: Sequence[str]) -> Codes:
    code = {name: number for number, name in enumerate(names)}
    return np.array([-1 if label is None else code.get(label, -1) for label in labels], np.int64)


class _Sides:
    """Both sides on the device, so that every share of the labels finds them ready; all samples have a code."""

    def __init__(
        self,
        train: npt.NDArray[np.float32],
        codes: Codes,
        test: npt.NDArray[np.float32],
        wanted: Codes,
        classes: int,
        device: torch.device,
    ) -> None:
        self._train, self._codes, self._test = (torch.from_numpy(array).to(device) for array in (train, codes, test))
        self._wanted, self._classes = wanted, classes
        self._mean, deviation = self._train.mean(0), self._train.std(0, correction=0)
        self._deviation = torch.where(deviation == 0, 1.0, deviation)

    def accuracy(self, labelled: Codes) -> Accuracy:
        """Of what learns from the labels of the training samples `labelled` alone."""
        places = torch.from_numpy(labelled).to(self._train.device)
        features, codes = self._train[places], self._codes[places]
        linear = self._by_line(self._standard(features), codes)
        nearest = self._by_neighbours(functional.normalize(features), codes)
        return Accuracy(*self._right(linear), *self._right(nearest), train=len(labelled))

    def _standard(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self._mean) / self._deviation

    def _by_line(self, features: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        weight, bias = fit_logistic(features, codes, self._classes)
        return (self._standard(self._test) @ weight + bias).argmax(1)

    def _by_neighbours(self, features: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        test = functional.normalize(self._test)
        votes = functional.one_hot(codes, self._classes).float()
        found = []
        for block in torch.split(test, BLOCK):
            similarity, nearest = (block @ features.T).topk(min(NEIGHBOURS, len(features)), dim=1)
            weight = torch.exp((similarity - 1) / VOTE_TEMPERATURE)
            found.append((votes[nearest] * weight[:, :, None]).sum(1).argmax(1))
        return torch.cat(found)

    def _right(self, found: torch.Tensor) -> tuple[float, float]:
        right = found.cpu().numpy() == self._wanted
        each = np.bincount(self._wanted, minlength=self._classes)
        hits = np.bincount(self._wanted, right, self._classes)
        return float(right.mean()), float((hits[each > 0] / each[each > 0]).mean())


def fit_logistic(
    features: torch.Tensor, codes: torch.Tensor, classes: int, inverse_regularisation: float = INVERSE_REGULARISATION
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (d, classes) and bias (classes,) of multinomial logistic regression: the least of the summed cross entropy
    times `inverse_regularisation` plus half the squared weights.

    features: (n, d) float32. codes: (n,) int64, of which some below `classes` may be absent.
    """
    weight = features.new_zeros(features.shape[1], classes).requires_grad_()
    bias = features.new_zeros(classes).requires_grad_()
    decay = 0.5 / (inverse_regularisation * len(features))
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(features @ weight + bias, codes) + decay * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]  # untyped in torch
    return weight.detach(), bias.detach()


def _first_of_each(codes: Codes, share: float) -> Codes:
    """The first places of each class: its share, and at least one."""
    own = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    return np.concatenate([places[: max(1, round(share * len(places)))] for places in own])


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a proportion (Wilson 1927); trials >= 1.

    >>> low, high = wilson_interval(9, 10)
    >>> f"{low:.3f} {high:.3f}"
    '0.596 0.982'
    """
    share, squared = successes / trials, Z * Z
    centre = (share + squared / (2 * trials)) / (1 + squared / trials)
    half = Z / (1 + squared / trials) * math.sqrt(share * (1 - share) / trials + squared / (4 * trials * trials))
    return centre - half, centre + half
