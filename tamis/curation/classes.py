"""The number of classes r+1 and a cluster for each sample, without labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tamis.curation.peaks import A_CLASS, Peaks, density_peaks
from tamis.curation.space import Whitened, sampled
from tamis.errors import InputError
from tamis.scan.nearest import FEW, assign, kmeans
from tamis.scan.rows import Embeddings, Rows, as_rows

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

# Samples whose density is looked at, and again where that leaves fewer than a hundred and fifty a class; and those from
# which centres are learnt, for each of them if there are many.
PEAKS_SAMPLE, MORE_PEAKS = 65_536, 131_072
TRAINED, A_CENTRE = 20_000, 64
MAX_CLASSES = 4096
# Measured: k-means of raw features follows their few largest components, and on the unit sphere a class far larger than
# the others, near to which the mean is, lies all around it.
WHITENING = 0.5
# Of the components in which peaks are sought.
PEAKS_WHITENING = 0.25


@dataclass(frozen=True)
class ClassEstimate:
    """classes: r+1. labels: (N,) int32, each sample's cluster. criteria: the estimate and its interval, or empty."""

    classes: int
    labels: Labels
    criteria: dict[str, int]


def estimate_classes(
    embeddings: "Embeddings | Rows", classes: int | Literal["auto"] = "auto", seed: int = 0
) -> ClassEstimate:
    """Clusters the samples by k-means of half-whitened components (see `space.py`), into `classes` or as many as their
    density has significant peaks (see `peaks.py`). Centres begin at points far apart, and at peaks where there are many
    or their number is estimated.

    The peaks are of at most 65,536 samples, or of twice as many where classes are small, so that their cost does not
    grow with N, and no more than 4,096. A single peak says that there is nothing to tell apart: then classes is 1.

    Raises InputError when `classes` is not between 2 and N, when fewer samples differ, and without FAISS.
    """
    rows = as_rows(embeddings)
    count = len(rows)
    if classes != "auto" and not 2 <= classes <= count:
        raise InputError(f"classes is {classes}.", f"Use auto or 2 to {count}, the number of samples.")
    space = Whitened(rows, WHITENING, seed)
    if classes != "auto" and classes <= FEW:
        return ClassEstimate(classes, _cluster(rows, space, classes, None, seed), {})
    whitened = Whitened(rows, PEAKS_WHITENING, seed)

    def sought(size: int, number: int | None = None) -> Peaks:
        chosen = sampled(count, size, np.random.default_rng((seed, 3)))
        found = density_peaks(whitened.components(rows, chosen).numpy(), number)
        return found._replace(places=chosen[found.places])

    if classes != "auto":
        centres = space.components(rows, sought(PEAKS_SAMPLE, classes).places).numpy()
        return ClassEstimate(classes, _cluster(rows, space, classes, centres, seed), {})
    peaks = sought(PEAKS_SAMPLE)
    if min(count, A_CLASS * len(peaks.places)) > PEAKS_SAMPLE:
        peaks = sought(MORE_PEAKS)
    number = min(len(peaks.places), MAX_CLASSES)
    centres = space.components(rows, peaks.places[:number]).numpy()
    labels = np.zeros(count, np.int32) if number == 1 else _cluster(rows, space, number, centres, seed)
    return ClassEstimate(
        number, labels, {"density_peaks": number, "at_least": peaks.at_least, "at_most": peaks.at_most}
    )


def _cluster(rows: Rows, space: Whitened, classes: int, centres: Floats | None, seed: int) -> Labels:
    size = max(TRAINED, A_CENTRE * classes)
    chosen = sampled(len(rows), size, np.random.default_rng(seed))
    found = kmeans(space.components(rows, chosen).numpy(), classes, seed, centres)
    return np.concatenate([assign(space.components(rows, part).numpy(), found) for part in rows.blocks()])
