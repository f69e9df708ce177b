"""Scores of other tools and papers by their published formulas, from the same features; higher is more difficult."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trainer.subset import within_cluster

Floats = npt.NDArray[np.floating]

BATCH, ROUNDS = 128, 20


@dataclass(frozen=True)
class Study:
    """What scores may look at: never a label.

    unit: (N, d) float32 of length one. cluster: (N,), of `classes` clusters. loss, forgotten: (N,), of the training.
    """

    unit: npt.NDArray[np.float32]
    cluster: npt.NDArray[np.int32]
    classes: int
    loss: Floats
    forgotten: Floats
    seed: int

    @cached_property
    def nearest(self) -> Floats:
        """(N, 50) similarities to each sample's nearest, highest first."""
        similar = self.unit @ self.unit.T
        np.fill_diagonal(similar, -2)
        return -np.sort(-np.partition(similar, -50, axis=1)[:, -50:], axis=1)

    @cached_property
    def prototypes(self) -> Floats:
        """(N, classes) similarities to the clusters' centres."""
        centres = np.stack([self.unit[self.cluster == number].mean(0) for number in np.unique(self.cluster)])
        similar: Floats = self.unit @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
        return similar


def _batch_band(study: Study) -> Floats:
    """Share of a sample's pairs in the band, each batch with its own percentiles (Zhang et al. 2026, section 3)."""
    random = np.random.default_rng(study.seed)
    share = np.zeros(len(study.unit))
    for _ in range(ROUNDS):
        for batch in np.array_split(random.permutation(len(share)), max(1, len(share) // BATCH)):
            similar = study.unit[batch] @ study.unit[batch].T
            pairs = similar[np.triu_indices(len(batch), 1)]
            high, low = np.quantile(pairs, [1 - 1 / study.classes, 0.05])
            inside = (similar >= low) & (similar < high)
            np.fill_diagonal(inside, False)
            share[batch] += inside.mean(1) / ROUNDS
    return share


def _margin(study: Study) -> Floats:
    two = np.sort(study.prototypes, axis=1)[:, -2:]
    margin: Floats = two[:, 0] - two[:, 1]
    return margin


PEERS: dict[str, Callable[[Study], Floats]] = {
    "random": lambda study: np.random.default_rng(study.seed).random(len(study.unit)),
    # Sorscher et al. 2022: self-supervised prototypes.
    "distance to own centroid": lambda study: -study.prototypes.max(1),
    "prototype margin": _margin,
    # FiftyOne Brain's compute_uniqueness: weighted distances to the three nearest.
    "k-NN distance (FiftyOne uniqueness)": lambda study: (
        -(study.nearest[:, :3] @ np.array([0.6, 0.3, 0.1], np.float32))
    ),
    # fastdup's outliers: those whose nearest neighbour is least similar.
    "nearest-neighbour distance (fastdup)": lambda study: -study.nearest[:, 0],
    # Datalab's outlier score: 1 - exp(-mean cosine distance to the 10 nearest), of the same order as that distance.
    "10-NN distance (cleanlab Datalab)": lambda study: -study.nearest[:, :10].mean(1),
    "50-NN distance": lambda study: -study.nearest.mean(1),
    # Joshi and Mirzasoleiman 2023: SAS keeps what is most similar to the rest of its latent class.
    "similarity within the cluster (SAS)": lambda study: -within_cluster(study.unit, study.cluster),
    "InfoNCE loss of late epochs": lambda study: study.loss,
    "forgetting events": lambda study: study.forgotten,
    "batch band (the paper's rule)": _batch_band,
}
