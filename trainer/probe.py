"""The linear probe: how well a linear classifier reads the labels off an encoder's features."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

MIN_PER_LABEL = 5
TEST_SHARE = 5  # one in so many samples
INVERSE_REGULARISATION = 0.1
# The 97.5% quantile of the standard normal distribution.
Z = 1.959963984540054


@dataclass(frozen=True)
class Probe:
    """accuracy on the test samples with its Wilson 95% interval; numbers of train and test samples, and of classes."""

    accuracy: float
    low: float
    high: float
    train: int
    test: int
    classes: int


def linear_probe(
    features: npt.NDArray[np.float32], labels: Sequence[str | None], sha256: Sequence[str]
) -> Probe | None:
    """Multinomial logistic regression (L2, lbfgs) on standardised features.

    features: (N, d). labels: N, None where unknown. sha256: N hex digests of the samples, which alone decide the split
    into four fifths to train and one fifth to test: the same in every arm, and copies of an image on the same side.
    Labels with fewer than 5 samples are left out. Returns None when fewer than 2 labels remain, or one side is empty.
    """
    counts = Counter(label for label in labels if label is not None)
    names = sorted(label for label, count in counts.items() if count >= MIN_PER_LABEL)
    code = {name: number for number, name in enumerate(names)}
    codes = np.array([-1 if label is None else code.get(label, -1) for label in labels], np.int64)
    tested = np.array([int(digest[:8], 16) % TEST_SHARE == 0 for digest in sha256], np.bool_)
    train, test = np.flatnonzero((codes >= 0) & ~tested), np.flatnonzero((codes >= 0) & tested)
    if len(np.unique(codes[train])) < 2 or len(test) == 0:
        return None
    mean, deviation = features[train].mean(0), features[train].std(0)
    deviation[deviation == 0] = 1.0
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
    # lbfgs hands its threads work so small that waiting for them takes far longer: 0.05 s in one, 2.1 s in two.
    with threadpool_limits(1):
        model.fit((features[train] - mean) / deviation, codes[train])
    correct = int((model.predict((features[test] - mean) / deviation) == codes[test]).sum())
    low, high = wilson_interval(correct, len(test))
    return Probe(correct / len(test), low, high, len(train), len(test), len(names))


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
