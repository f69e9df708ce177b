"""The similarity graph of Zhang, Cui, Li and Wang (ICLR 2026), its spectrum, and the linear probe's error bound.

r + 1 classes of n samples, n_d of each difficult. Augmentation similarity: 1 on the diagonal, alpha inside a class,
gamma on difficult pairs of different classes, beta on all other pairs of different classes; beta < gamma < alpha < 1.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tamis.errors import InputError

# Labelling error, which no unlabelled data can tell: it only serves comparisons.
DELTA = 0.05

Floats = npt.NDArray[np.float64]
Pairing = Literal["matched", "block"]


@dataclass(frozen=True)
class SimilarityGraph:
    """The graph with its parameters.

    pairing: which pairs of difficult samples are difficult pairs. `matched`: each difficult sample has one partner in
        every other class, which is the case the paper's closed form describes. `block`: every difficult sample of one
        class with every one of another.

    Raises InputError when the parameters are not beta <= gamma <= alpha < 1 with 0 <= n_d <= n.
    """

    n: int
    r: int
    n_d: int
    alpha: float
    beta: float
    gamma: float
    pairing: Pairing = "matched"

    def __post_init__(self) -> None:
        if self.n < 1 or self.r < 1 or not 0 <= self.n_d <= self.n:
            raise InputError(f"n={self.n}, r={self.r}, n_d={self.n_d} describe no graph.", "Use 0 <= n_d <= n, r >= 1.")
        if not 0 <= self.beta <= self.gamma <= self.alpha < 1:
            raise InputError(
                f"alpha={self.alpha}, beta={self.beta}, gamma={self.gamma} are out of order.",
                "Use 0 <= beta <= gamma <= alpha < 1.",
            )
        if self.pairing not in ("matched", "block"):
            raise InputError(f"There is no pairing {self.pairing!r}.", "Use matched or block.")

    def adjacency(self) -> Floats:
        """A, (N, N) float64 with N = n (r + 1); sample i belongs to class i // n, its first n_d are difficult."""
        n, classes = self.n, self.r + 1
        inside = np.full((n, n), self.alpha)
        np.fill_diagonal(inside, 1.0)
        across = np.full((n, n), self.beta)
        difficult = slice(0, self.n_d)
        if self.pairing == "matched":
            across[range(self.n_d), range(self.n_d)] = self.gamma
        else:
            across[difficult, difficult] = self.gamma
        off_diagonal = np.ones((classes, classes)) - np.eye(classes)
        return np.kron(np.eye(classes), inside) + np.kron(off_diagonal, across)

    def degrees(self) -> tuple[float, float]:
        """Degree of a difficult sample and of an easy one."""
        easy = 1 - self.alpha + self.n * self.alpha + self.n * self.r * self.beta
        partners = 1 if self.pairing == "matched" else self.n_d
        return easy + self.r * partners * (self.gamma - self.beta), easy

    def spectrum(self, *, treated: bool = False) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Eigenvalues of A-bar = D^-1/2 A D^-1/2 in descending order, and how often each occurs.

        treated: after a margin or a temperature has turned gamma into beta on the difficult pairs. The degrees stay
        those of the untreated graph, for the loss changes what the features factorise, not how samples are drawn.

        A-bar commutes with permutations of the classes, so it splits into one problem for the vectors that are equal
        over the classes and r equal ones for those that sum to zero; each has n - 2 eigenvalues in closed form and a
        2 x 2 rest. Exact, and independent of n in cost.
        """
        pairs: list[tuple[float, int]] = []
        for class_eigenvalue, multiplicity in ((float(self.r), 1), (-1.0, self.r)):
            pairs += [(value, multiplicity * count) for value, count in self._within(class_eigenvalue, treated)]
        values = np.array([value for value, count in pairs if count])
        counts = np.array([count for _, count in pairs if count], np.int64)
        order = np.argsort(-values, kind="stable")
        return values[order], counts[order]

    def _within(self, s: float, treated: bool) -> list[tuple[float, int]]:
        """Eigenvalues of (1 - alpha) I + alpha J + s (beta J + (gamma - beta) E), normalised; E by the pairing."""
        difficult, easy, extra = self.n_d, self.n - self.n_d, 0.0 if treated else s * (self.gamma - self.beta)
        degree_difficult, degree_easy = self.degrees()
        level = self.alpha + s * self.beta
        matched = self.pairing == "matched"
        own = 1 - self.alpha + (extra if matched else 0.0)
        block = difficult * (level + (0.0 if matched else extra))
        found = [(own / degree_difficult, max(difficult - 1, 0)), ((1 - self.alpha) / degree_easy, max(easy - 1, 0))]
        corner = (own + block) / degree_difficult
        opposite = (1 - self.alpha + easy * level) / degree_easy
        if difficult and easy:
            coupling = level * np.sqrt(difficult * easy / (degree_difficult * degree_easy))
            rest = np.linalg.eigvalsh(np.array([[corner, coupling], [coupling, opposite]]))
            return [*found, (float(rest[0]), 1), (float(rest[1]), 1)]
        return [*found, (corner, 1)] if difficult else [*found, (opposite, 1)]

    def eigenvalue(self, k: int, *, treated: bool = False) -> float:
        """The k-th largest eigenvalue of A-bar, counted from 1."""
        values, counts = self.spectrum(treated=treated)
        if not 1 <= k <= counts.sum():
            raise InputError(f"There is no eigenvalue {k}.", f"The graph has {counts.sum()}.")
        return float(values[np.searchsorted(np.cumsum(counts), k)])

    def bound(self, k: int, delta: float, *, treated: bool = False) -> float:
        """4 delta / (1 - lambda_{k+1}) + 8 delta: bounds the error of a linear probe on k features.

        delta: the labelling error. Source: HaoChen, Wei, Gaidon and Ma (NeurIPS 2021), theorem 3.8, as the paper uses
        it. Not capped: a bound above 1 says nothing about the error, but still orders the graphs. Infinite for a graph
        of more than k components.
        """
        if not 0 <= delta <= 1:
            raise InputError(f"delta is {delta}.", "Use a share from 0 to 1.")
        # As many features as samples represent the graph exactly: nothing is left of its spectrum.
        gap = 1 - (self.eigenvalue(k + 1, treated=treated) if k < self.n * (self.r + 1) else 0.0)
        if gap <= np.finfo(float).eps:
            return float("inf") if delta else 0.0
        return 4 * delta / gap + 8 * delta

    def paper_eigenvalue(self) -> float:
        """The paper's closed form of lambda_{k+1}, r + 1 <= k < r + n_d, for matched pairs or none.

        ((1 - alpha) + r (gamma - beta)) / ((1 - alpha) + n alpha + n r beta + r (gamma - beta)), and without difficult
        samples (1 - alpha) / ((1 - alpha) + n alpha + n r beta).
        """
        growth = self.r * (self.gamma - self.beta) if self.n_d else 0.0
        return (1 - self.alpha + growth) / (self.degrees()[1] + growth)

    def without(self) -> "SimilarityGraph":
        """The same graph had it no difficult pairs."""
        return SimilarityGraph(self.n, self.r, 0, self.alpha, self.beta, self.beta, self.pairing)

    def removed(self) -> "SimilarityGraph":
        """What is left after the difficult samples are removed."""
        left = max(self.n - self.n_d, 1)
        return SimilarityGraph(left, self.r, 0, self.alpha, self.beta, self.beta, self.pairing)

    def margin(self) -> float:
        """The margin that turns gamma into beta in the spectral loss: vol (gamma - beta) / d_i d_j for i, j difficult.

        [derived] (f.f' + m)^2 makes F F^T factorise A-bar - sqrt(w w') m with w = d / vol.
        """
        difficult, easy = self.degrees()
        volume = (self.r + 1) * (self.n_d * difficult + (self.n - self.n_d) * easy)
        return volume * (self.gamma - self.beta) / difficult**2

    def temperature(self) -> float:
        """The factor on the temperature that turns gamma into beta in the spectral loss: beta / gamma. [derived]"""
        return self.beta / self.gamma if self.gamma else 1.0


def estimated(n: int, r: int, n_d: int, alpha: float, beta: float, gamma: float) -> SimilarityGraph | None:
    """The graph at estimates, with matched pairs; None where they are not 0 <= beta <= gamma <= alpha < 1.

    gamma is NaN, and taken for beta, where there are no difficult pairs.
    """
    if not n_d or np.isnan(gamma):
        gamma = beta
    if not 0 <= beta <= gamma <= alpha < 1:
        return None
    return SimilarityGraph(n, r, n_d, alpha, beta, gamma)


def relaxed_adjacency(graph: SimilarityGraph, epsilon: float, seed: int = 0) -> Floats:
    """A + epsilon times symmetric uniform noise in [-1, 1], the paper's relaxed form; the diagonal stays 1."""
    exact = graph.adjacency()
    noise = np.triu(np.random.default_rng(seed).uniform(-1, 1, exact.shape), 1)
    return exact + epsilon * (noise + noise.T)
