"""alpha, beta and gamma of a data set's similarity graph, estimated from its embeddings without labels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.curation.space import sampled
from tamis.theory import DELTA, SimilarityGraph, estimated

Floats = npt.NDArray[np.float64]

BOOTSTRAPS = 400
CONFIDENCE = 0.95
# Difficult samples among which partners are looked for, those that look for them, and their partners in all.
PARTNERS, SEEKERS, MATCHED = 8192, 512, 2**17


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% bootstrap interval; all NaN where the data hold nothing to estimate it from."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GraphEstimate:
    """The similarity graph that the data resemble.

    alpha: mean similarity inside a cluster. gamma: of a difficult sample and its most similar difficult partner in each
        other cluster, as the model matches them. beta: of all pairs of different clusters but those of two difficult
        samples. Negative cosines count as 0.
    n, r, n_d: samples a class, classes less one, difficult samples a class; means over the clusters.
    warning: what speaks against reading the bound, empty if nothing does.

    Assumes that clusters stand for classes, that cosine similarity of the features stands for augmentation similarity,
    and that classes have one size. All three hold approximately at best, so bounds compare remedies; they do not
    predict an error.
    """

    alpha: Interval
    beta: Interval
    gamma: Interval
    n: int
    r: int
    n_d: int
    warning: str

    def graph(self) -> SimilarityGraph | None:
        """The graph at the point estimates, with matched pairs; None where they are not beta <= gamma <= alpha < 1."""
        return estimated(self.n, self.r, self.n_d, self.alpha.value, self.beta.value, self.gamma.value)

    def bound(self, k: int | None = None, delta: float = DELTA) -> dict[str, float]:
        """Error bounds of a linear probe on k features (r + 1 by default): with difficult examples, without, and after
        each remedy.

        delta: labelling error, which no unlabelled data can tell: the default only serves the comparison. NaN
        throughout where the estimates describe no graph (see `warning`).
        """
        graph = self.graph()
        if graph is None:
            return dict.fromkeys(("with", "without", "removed", "margin", "temperature"), float("nan"))
        k = self.r + 1 if k is None else k
        treated = graph.bound(k, delta, treated=True)
        return {
            "with": graph.bound(k, delta),
            "without": graph.without().bound(k, delta),
            "removed": graph.removed().bound(k, delta),
            "margin": treated,
            "temperature": treated,
        }


@dataclass(frozen=True)
class PairSample:
    """Similarities among a random sample of the data, from which alpha and beta are estimated.

    rows: (M,) int64, ascending. similarity: (M, M) float32.
    """

    rows: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]


def estimate_graph(
    sample: PairSample,
    features: npt.NDArray[np.float16],
    cluster: npt.NDArray[np.int32],
    difficult: npt.NDArray[np.bool_],
    classes: int,
    seed: int = 0,
) -> GraphEstimate:
    """Estimates with percentile bootstrap intervals (Efron and Tibshirani 1993, ch. 13), resampling samples, not pairs:
    the pairs of one sample are not independent.

    features: (N, d), see `band_features`. cluster: (N,) int32. difficult: (N,) bool.
    """
    random = np.random.default_rng(seed)
    same = cluster[sample.rows][:, None] == cluster[sample.rows][None, :]
    both = difficult[sample.rows][:, None] & difficult[sample.rows][None, :]
    other = ~np.eye(len(sample.rows), dtype=bool)
    similarity = np.clip(sample.similarity.astype(np.float64), 0.0, 1.0)
    weights = _bootstrap_weights(random, len(sample.rows))
    alpha = _weighted_mean(similarity, same & other, weights)
    beta = _weighted_mean(similarity, ~same & ~both, weights)
    gamma = _gamma(features, cluster, np.flatnonzero(difficult), random)
    estimate = GraphEstimate(
        _interval(alpha),
        _interval(beta),
        _interval(gamma),
        n=max(1, round(len(cluster) / classes)),
        r=classes - 1,
        n_d=round(np.count_nonzero(difficult) / classes),
        warning="",
    )
    warning = _warning(estimate, gamma - beta, bool(difficult.any()))
    return GraphEstimate(**{**vars(estimate), "warning": warning})


def _bootstrap_weights(random: np.random.Generator, count: int) -> Floats:
    """(BOOTSTRAPS + 1, count): how often each sample is drawn; the first row is the data as they are."""
    drawn = random.multinomial(count, np.full(count, 1 / count), size=BOOTSTRAPS)
    return np.vstack([np.ones(count), drawn])


def _weighted_mean(similarity: Floats, mask: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """For each row of weights the mean over the masked pairs, a pair counting with the product of its two weights."""
    total = np.einsum("bi,bi->b", weights @ (similarity * mask), weights)
    count = np.einsum("bi,bi->b", weights @ mask.astype(np.float64), weights)
    means: Floats = np.divide(total, count, out=np.full(len(weights), np.nan), where=count > 0)
    return means


def _gamma(
    features: npt.NDArray[np.float16],
    cluster: npt.NDArray[np.int32],
    difficult: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> Floats:
    first, second, similarity = _matched(features, cluster, difficult, random)
    members, position = np.unique(np.concatenate([first, second]), return_inverse=True)
    first, second = np.split(position, 2)
    means = np.full(BOOTSTRAPS + 1, np.nan)
    if not len(members):
        return means
    means[0] = similarity.mean()
    for draw in range(1, BOOTSTRAPS + 1):
        drawn = random.multinomial(len(members), np.full(len(members), 1 / len(members)))
        weight = drawn[first] * drawn[second]
        if weight.any():
            means[draw] = np.average(similarity, weights=weight)
    return means


def _matched(
    features: npt.NDArray[np.float16],
    cluster: npt.NDArray[np.int32],
    difficult: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Difficult samples, the most similar difficult partner of each in each other cluster, and their similarities."""
    partners = sampled(len(difficult), PARTNERS, random)
    partners = difficult[partners[np.argsort(cluster[difficult[partners]], kind="stable")]]
    groups, starts = np.unique(cluster[partners], return_index=True)
    seekers = difficult[sampled(len(difficult), min(SEEKERS, max(1, MATCHED // max(1, len(groups)))), random)]
    products = features[seekers].astype(np.float32) @ features[partners].astype(np.float32).T
    first, second, similarity = [seekers[:0]], [partners[:0]], [np.empty(0)]
    for group, start, stop in zip(groups, starts, np.r_[starts, len(partners)][1:], strict=True):
        from_others = np.flatnonzero(cluster[seekers] != group)
        best = products[from_others, start:stop].argmax(1) + start
        first.append(seekers[from_others])
        second.append(partners[best])
        similarity.append(np.clip(products[from_others, best].astype(np.float64), 0.0, 1.0))
    return np.concatenate(first), np.concatenate(second), np.concatenate(similarity)


def _interval(draws: Floats) -> Interval:
    """From the estimate followed by its bootstrap draws."""
    usable = draws[1:][~np.isnan(draws[1:])]
    if np.isnan(draws[0]) or not len(usable):
        return Interval(float("nan"), float("nan"), float("nan"))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(usable, [tail, 1 - tail])
    return Interval(float(draws[0]), float(low), float(high))


def _warning(estimate: GraphEstimate, gap: Floats, some: bool) -> str:
    alpha, beta, gamma = estimate.alpha.value, estimate.beta.value, estimate.gamma.value
    if estimate.r == 0:
        return "The samples do not fall into classes: no pair is between two, and no sample is called difficult."
    if not some:
        return "No sample is nearer to blends of two samples than to samples: no sample is called difficult."
    if np.isnan(gamma):
        return "No difficult pairs between clusters were found, so gamma cannot be estimated."
    if np.isnan(alpha) or np.isnan(beta):
        return "Too few pairs were sampled to estimate alpha and beta."
    interval = _interval(gap)
    if interval.low <= 0 <= interval.high:
        return (
            f"The interval of gamma - beta ({interval.low:.3f} to {interval.high:.3f}) spans zero: these data do not "
            "show that difficult pairs are more alike than others."
        )
    if not beta < gamma < alpha < 1:
        return (
            f"The estimates are not ordered beta < gamma < alpha < 1 ({beta:.3f}, {gamma:.3f}, {alpha:.3f}): the model "
            "does not describe these data and no bound follows."
        )
    return ""
