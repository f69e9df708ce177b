"""Where to draw samples: a plane of principal directions at once, and a neighbour embedding where there is time."""

from typing import Any

import numpy as np
import numpy.typing as npt

# Of so many samples the principal directions are found.
PLANE_SAMPLE = 20_000
BLOCK = 65_536


def principal_plane(features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(N, d) features along their two directions of largest variance, (N, 2) float32; zeros where there are fewer.

    The sign of each direction is chosen so that its largest weight is positive: equal features give equal planes.
    """
    count, dimensions = features.shape
    sample = features[np.linspace(0, count - 1, min(count, PLANE_SAMPLE)).astype(np.int64)].astype(np.float64)
    middle = sample.mean(0)
    _, vectors = np.linalg.eigh((sample - middle).T @ (sample - middle))
    directions = vectors[:, : -min(2, dimensions) - 1 : -1]
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), range(directions.shape[1])])
    plane = np.zeros((count, 2), np.float32)
    for start in range(0, count, BLOCK):
        part = features[start : start + BLOCK].astype(np.float64) - middle
        plane[start : start + BLOCK, : directions.shape[1]] = part @ directions
    return plane
