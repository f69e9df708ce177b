"""Features on which a trainer tells of any pair whether it is difficult: few, in half precision, and the band there.

The band holds nearly all pairs below pos_high, too many to list; so a manifest carries what tells them. Measured on
features of encoders trained on digits, Fashion-MNIST, glyphs and emoji, 64 components out of 128 flag 99.6% to 99.9% of
pairs as all do, and 32 components 99.0% to 99.9%; centred or whitened ones flag 64% to 95% alike.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from tamis.curation.space import COMPONENTS, COVARIANCE_SAMPLE, leading_directions, sampled
from tamis.scan.rows import Rows

# Of so many samples all pairs tell the percentiles: 8 million.
BAND_SAMPLE = 4096


def band_features(rows: Rows, seed: int) -> npt.NDArray[np.float16]:
    """(N, COMPONENTS or fewer) float16 of length one, whose products are nearly the cosines of the rows.

    They are the unit rows along the leading directions of their second moments, not of their covariance: cosines are of
    the rows themselves, so their mean is not taken away.
    """
    sample = rows.unit(sampled(len(rows), COVARIANCE_SAMPLE, np.random.default_rng((seed, 0)))).double()
    leading = leading_directions(sample, COMPONENTS)[1].float()
    features = np.empty((len(rows), leading.shape[1]), np.float16)
    for part in rows.blocks():
        features[part] = normalize(rows.unit(part) @ leading).half().numpy()
    return features


def band_of(features: npt.NDArray[np.float16], pos_high: float, pos_low: float, seed: int) -> tuple[float, float]:
    """sim_low and sim_high among these features: what the shares pos_low and pos_high of all pairs reach."""
    chosen = sampled(len(features), BAND_SAMPLE, np.random.default_rng((seed, 0)))
    some = torch.from_numpy(features[chosen].astype(np.float32))
    similarity = (some @ some.T).numpy()[np.triu_indices(len(some), 1)]
    low, high = np.quantile(similarity, [1 - pos_low, 1 - pos_high], method="higher")
    return float(low), float(high)
