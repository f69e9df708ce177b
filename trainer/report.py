"""The report of an experiment: a table of differences, and a plain sentence for each arm."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.arms import OF_IMAGES, PAPERS, Arm
from trainer.results import MEASURES
from trainer.sweeps import SWEEPS
from trainer.verdicts import Rows, Scores, difference, scores_of, told, verdict

TITLES = {
    "linear": "linear",
    "nearest": "20-NN",
    "linear_10": "linear, 10% of labels",
    "nearest_10": "20-NN, 10%",
    "linear_1": "linear, 1%",
    "nearest_1": "20-NN, 1%",
}
JUDGED = {"linear": "Linear probe", "nearest": "20 nearest neighbours"}


def verdicts(rows: Rows, arms: Sequence[Arm]) -> dict[str, dict[str, str]]:
    """By arm and by measure, of the linear probe and of the neighbours; controls and baselines have none."""
    scores = {measure: scores_of(rows, arms, measure) for measure in JUDGED}
    judged = [arm.name for arm in arms if arm.strategy and not arm.control]
    return {name: {measure: verdict(name, scores[measure]) for measure in JUDGED} for name in judged}


def report(
    rows: Rows,
    arms: Sequence[Arm],
    settings: Mapping[str, Any],
    source: str,
) -> list[str]:
    """Lines of Markdown, of runs with two seeds or more that all arms have. settings: of the runs. source: of the
    images."""
    scores = {measure: scores_of(rows, arms, measure) for measure in MEASURES}
    seeds = len(next(iter(scores["linear"].by_arm.values())))
    first, network = rows[0], settings["network"]
    lines = [
        f"# Experiment on {source}",
        "",
        f"{seeds} seeds an arm, {first['steps']} steps each of {settings['recipe']['batch_size']} images in two views; "
        f"network {network['architecture']} at {network['image_size']} pixels, "
        f"method {settings['recipe']['method']}, loss {settings['objective']}. "
        f"Tested on {settings['test'] or str(settings['tested']) + ' images set apart'}, which no run was trained on.",
        "",
        "Accuracy in percent of the baselines, means over the seeds:",
        "",
        *_table("temperature", [(name, _means(scores, name)) for name in scores["linear"].baselines]),
        "",
        "Differences in points from the best baseline of each column, paired by seed, with 95% intervals by Student's "
        f"t; of {', '.join(OF_IMAGES)}, which change no loss, from the baseline of their own temperature:",
        "",
        *_table("arm", [(arm.name, _gains(scores, arm.name)) for arm in arms if arm.strategy]),
        "",
    ]
    for name, sentences in verdicts(rows, arms).items():
        lines += [f"- **{name}.** " + " ".join(f"{JUDGED[each]}: {told}." for each, told in sentences.items())]
    peers = [f"`{arm.name}` is that of {PAPERS[arm.name]}" for arm in arms if arm.name in PAPERS]
    lines += [
        *(["", f"Of the literature: {'; '.join(peers)}."] if peers else []),
        "",
        "An interval says how far chance moves the mean over these seeds, of one arm at a time: of twenty arms that "
        "change nothing, one is likely to seem to. Controls: `random` removes as many images by chance; `-all` treats "
        "all negatives as the arm does the difficult, `-random` as many random pairs.",
        "",
        "![Differences from the baseline](experiment.svg)",
    ]
    return lines


def sweep_table(name: str, found: Mapping[float, Rows], baseline: Rows) -> list[str]:
    """Markdown. found: the rows of the runs at each value of a sweep. baseline: those that all are compared with."""
    sweep = SWEEPS[name]
    return [
        f"## By {sweep.title}",
        "",
        "Differences in points from the baseline of the same temperature, paired by seed, with 95% intervals:",
        "",
        f"| {sweep.title} | arm | {' | '.join(TITLES[measure] for measure in JUDGED)} |",
        f"|{'---|' * (2 + len(JUDGED))}",
        *(
            f"| {value:g} | {arm.name} | "
            f"{' | '.join(told(difference(rows, arm.name, baseline, measure)) for measure in JUDGED)} |"
            for value, rows in found.items()
            for arm in sweep.arms
        ),
        "",
        f"![Differences by {sweep.title}]({name}.svg)",
    ]


def _table(first: str, rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    head = [first, *(TITLES[measure] for measure in MEASURES)]
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join([name, *cells])} |" for name, cells in rows),
    ]


def _means(scores: Mapping[str, Scores], name: str) -> list[str]:
    return [f"{sum(each := scores[measure].by_arm[name]) / len(each):.1f}" for measure in MEASURES]


def _gains(scores: Mapping[str, Scores], name: str) -> list[str]:
    return [told(scores[measure].gain(name)) for measure in MEASURES]
