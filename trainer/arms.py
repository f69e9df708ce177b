"""The arms of an experiment, and the controls without which nothing is said about one. Light to import."""

from collections.abc import Sequence
from dataclasses import dataclass

from tamis.errors import InputError
from trainer.recipe import OF_TEXTS, USUAL, WITHOUT_PAIRS, Recipe, no_pairs

# Baselines are of half the recipe's temperature, the same and twice it, and the best is what every arm is compared
# with: what a factor on difficult pairs gains is not to be had by another temperature for all.
BASELINE_FACTORS = (0.5, 1.0, 2.0)
BASELINE = "baseline"
# Random removal of as many, and the same treatment of all negatives or of as many random pairs as the band holds.
CONTROLS = {
    "remove": ("random",),
    **{name: (f"{name}-all", f"{name}-random") for name in ("margin", "temperature", "combined", "auto")},
}
# Of the literature, with the strategy whose manifest each takes what it needs from: `auto` keeps all images and brings
# features, `combined` drops as many as `remove` and brings them too; of `remove` is only how many to drop. They treat
# whole sets by rules of their own and do not claim that the difficult pairs of a manifest are what counts, so none of
# our controls is theirs: they are peers, told apart from the best baseline alone.
PEERS = {"debiased": "auto", "hard": "auto", "eliminated": "auto", "sas": "combined", "forgetting": "remove"}
PAPERS = {
    "debiased": "Chuang et al. 2020",
    "hard": "Robinson et al. 2021",
    "eliminated": "Huynh et al. 2022",
    "sas": "Joshi and Mirzasoleiman 2023",
    "forgetting": "Toneva et al. 2019",
}
FORGETTING = "forgetting"
# Those that change the loss, which is infonce in their papers.
LOSSES_OF_PEERS = ("debiased", "hard", "eliminated")
# Those that change no loss are compared with the baseline of their own temperature, and not of the best: else what
# another temperature gains would count against them.
OF_IMAGES = ("remove", "random", "sas", "forgetting")
ARMS = (BASELINE, *CONTROLS, *PEERS)
MIN_SEEDS = 2
MOST_MIXED = 0.5


@dataclass(frozen=True)
class Arm:
    """strategy: of the manifest it takes; "" for all images alike. control: "" for the manifest as it is; `random` for
    images and pairs that chance picks, as many; `all` for all pairs, and images that chance picks.

    temperature: of the loss. of: the arm that a control is the control of. keeps: a rule of `trainer/subset.py` that
    keeps as many images in the manifest's place, and treats no pairs; FORGETTING keeps the most often forgotten. An arm
    of PEERS does by its name what its paper says; of its manifest it takes what it needs for that.
    """

    name: str
    strategy: str = ""
    control: str = ""
    temperature: float = Recipe.temperature
    of: str = ""
    keeps: str = ""


def planned(asked: Sequence[str], recipe: Recipe = USUAL) -> tuple[Arm, ...]:
    """The arms to run: the baselines, then each arm that is asked for, by its name or a control's, with its controls.

    Raises InputError for names that there are not, for peers that are rules on another loss, for what is about
    pairs where the method compares none, and for the method clip.
    """
    of = {control: name for name, controls in CONTROLS.items() for control in controls}
    unknown = [name for name in asked if name not in ARMS and name not in of]
    if unknown or not asked:
        known = ", ".join((*ARMS, *of))
        raise InputError(f"There is no arm {unknown[0]!r}." if unknown else "No arm is named.", f"Use some of {known}.")
    if recipe.method == OF_TEXTS:
        raise InputError("An experiment has no texts for clip to learn from.", "Use another method, or `tamis train`.")
    others = [name for name in asked if name in LOSSES_OF_PEERS]
    if others and recipe.objective != "infonce":
        raise InputError(f"The arm {others[0]} is a rule on infonce.", f"Leave it out, or {recipe.objective}.")
    if FORGETTING in asked and recipe.method != "simclr":
        raise InputError(f"The arm {FORGETTING} counts what SimCLR forgets.", f"Leave it out, or {recipe.method}.")
    of_pairs = [name for name in asked if of.get(name, name) not in (BASELINE, *OF_IMAGES)]
    if of_pairs and recipe.method in WITHOUT_PAIRS:
        raise no_pairs(recipe.method, f"the arm {of_pairs[0]}")
    usual = recipe.temperature
    arms = [Arm(f"{BASELINE} {usual * factor:g}", temperature=usual * factor) for factor in BASELINE_FACTORS]
    if recipe.objective != "infonce":  # which alone has a temperature
        arms = [Arm(BASELINE, temperature=usual)]
    for name in dict.fromkeys(of.get(name, name) for name in asked):
        if name in PEERS:
            arms.append(Arm(name, PEERS[name], temperature=usual, keeps=name if name in OF_IMAGES else ""))
        elif name != BASELINE:
            arms.append(Arm(name, name, temperature=usual))
            arms += [Arm(control, name, control.rpartition("-")[2], usual, of=name) for control in CONTROLS[name]]
    return tuple(arms)


def strategies_of(plan: Sequence[Arm]) -> list[str]:
    """Those that an arm takes; the baselines alone need images, which any manifest lists."""
    return list(dict.fromkeys(arm.strategy for arm in plan if arm.strategy)) or ["auto"]


def check_seeds(seeds: int) -> None:
    if seeds < MIN_SEEDS:
        raise InputError(f"seeds is {seeds}.", f"An interval takes {MIN_SEEDS} or more.")


def shares_of(text: str) -> tuple[float, ...]:
    """Of "0,0.1,0.2": ascending, with 0, which the others are compared with. Raises InputError for what is no share."""
    try:
        shares = {float(word) for word in text.split(",") if word.strip()}
    except ValueError:
        shares = {-1.0}
    if any(not 0 <= share <= MOST_MIXED for share in shares):
        raise InputError(
            f"{text} is no list of shares to mix.", f"Use numbers from 0 to {MOST_MIXED}, with commas between."
        )
    return tuple(sorted(shares | {0.0})) if shares else ()
