"""What the runs of an experiment say of an arm, in numbers and in a plain sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from trainer.arms import CONTROLS, OF_IMAGES, PEERS, Arm
from trainer.statistics import Difference, paired_difference

# How the sentence names each kind of control.
ALIKE = {
    "random": "random removal of the same share",
    "margin-all": "the same margin on all negatives",
    "margin-random": "the same margin on as many random pairs",
    "temperature-all": "the same factor on all negatives",
    "temperature-random": "the same factor on as many random pairs",
    "combined-all": "random removal with the same treatment of all negatives",
    "combined-random": "random removal with the same treatment of as many random pairs",
    "auto-all": "the same treatment of all negatives",
    "auto-random": "the same treatment of as many random pairs",
}


Rows: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Scores:
    """One measure, in percent, by arm and seed: of the seeds that every one of these arms has run with.

    baselines: by temperature, that of the other arms in the middle.
    """

    by_arm: Mapping[str, Sequence[float]]
    baselines: Sequence[str]

    @property
    def best_baseline(self) -> str:
        return max(self.baselines, key=lambda name: sum(self.by_arm[name]))

    def against(self, arm: str, other: str) -> Difference:
        return paired_difference(self.by_arm[arm], self.by_arm[other])

    @property
    def own_baseline(self) -> str:
        """Of the arms' temperature."""
        return self.baselines[len(self.baselines) // 2]

    def baseline_of(self, arm: str) -> str:
        """What an arm is compared with: the best, or, where it changes no loss, that of its own temperature."""
        return self.own_baseline if arm in OF_IMAGES else self.best_baseline

    def gain(self, arm: str) -> Difference:
        return self.against(arm, self.baseline_of(arm))


@dataclass(frozen=True)
class Compared:
    """An arm beside its baseline, by one measure in points. seeds: the differences of its runs, in the seeds' order."""

    arm: Arm
    baseline: str
    gain: Difference
    seeds: Sequence[float]


def compared(scores: Scores, arms: Sequence[Arm]) -> list[Compared]:
    """Every arm that is no baseline, in order."""
    found = []
    for arm in arms:
        if arm.strategy:
            baseline = scores.baseline_of(arm.name)
            own, other = scores.by_arm[arm.name], scores.by_arm[baseline]
            seeds = [mine - theirs for mine, theirs in zip(own, other, strict=True)]
            found.append(Compared(arm, baseline, scores.gain(arm.name), seeds))
    return found


def scores_of(rows: Rows, arms: Sequence[Arm], measure: str) -> Scores:
    """Of the seeds that all the arms have run with."""
    found = {(row["arm"], row["seed"]): 100 * row[measure] for row in rows}
    seeds = sorted({seed for _, seed in found})
    common = [seed for seed in seeds if all((arm.name, seed) in found for arm in arms)]
    by_arm = {arm.name: [found[arm.name, seed] for seed in common] for arm in arms}
    return Scores(by_arm, [arm.name for arm in arms if not arm.strategy])


def difference(rows: Rows, arm: str, baseline: Rows, measure: str) -> Difference:
    """In points, of an arm's runs from those of `baseline`, over the seeds that both have."""
    of_arm = [row for row in rows if row["arm"] == arm]
    own, other = ({row["seed"]: 100 * row[measure] for row in side} for side in (of_arm, baseline))
    seeds = sorted(own.keys() & other.keys())
    return paired_difference([own[seed] for seed in seeds], [other[seed] for seed in seeds])


def verdict(arm: str, scores: Scores) -> str:
    """Such as "gains 1.1 (0.8 to 1.4) over the best baseline, but so does the same factor on all negatives: not due to
    difficult pairs". Raises KeyError where a control has not run: nothing is said without. Of a peer, which has none,
    only whether it gains."""
    controls = {control: scores.against(arm, control) for control in CONTROLS.get(arm, ())}
    gain = scores.gain(arm)
    bar = "the baseline of its temperature" if arm in OF_IMAGES else "the best baseline"
    if gain.is_loss:
        return f"loses {-gain.mean:.1f} ({-gain.high:.1f} to {-gain.low:.1f}) against {bar}"
    if not gain.is_gain:
        return f"no difference found from {bar} ({told(gain)})"
    begun = f"gains {gain.mean:.1f} ({gain.low:.1f} to {gain.high:.1f}) over {bar}"
    if arm in PEERS:
        return begun
    due = "difficult pairs" if arm != "remove" else "which images go"
    equals = [control for control, difference in controls.items() if not difference.is_gain]
    if not equals:
        beaten = " and than ".join(f"{ALIKE[name]} ({told(controls[name])})" for name in controls)
        return f"{begun}, and more than {beaten}: due to {due}"
    gaining = [control for control in equals if scores.gain(control).is_gain]
    if gaining:
        return f"{begun}, but so does {' and '.join(ALIKE[name] for name in gaining)}: not due to {due}"
    unlike = " and ".join(f"{ALIKE[name]} ({told(controls[name])})" for name in equals)
    return f"{begun}, but does not differ from {unlike}: not shown to be due to {due}"


def told(difference: Difference) -> str:
    """Such as "+0.5 (-0.1 to +1.1)"."""
    return f"{difference.mean:+.1f} ({difference.low:+.1f} to {difference.high:+.1f})"
