"""The plots of an experiment: each seed's difference from the baseline as a dot, with means and intervals; and these as
one thing varies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trainer.arms import Arm
from trainer.report import JUDGED
from trainer.sweeps import SWEEPS
from trainer.verdicts import Rows, difference, scores_of

ARM, CONTROL = "#1f5fa8", "#8a8a8a"
LINES = (ARM, CONTROL, "#c68206", "#12704a")


def plot(rows: Rows, arms: Sequence[Arm], folder: Path) -> None:
    """Writes experiment.png and experiment.svg; equal runs give equal bytes with one release of matplotlib."""
    shown = [arm for arm in arms if arm.strategy][::-1]
    figure = Figure(figsize=(9, 1.4 + 0.32 * max(1, len(shown))), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (measure, title) in enumerate(JUDGED.items(), 1):
        scores = scores_of(rows, arms, measure)
        axes = figure.add_subplot(1, len(JUDGED), place)
        for height, arm in enumerate(shown):
            colour = CONTROL if arm.control else ARM
            base, gain = scores.by_arm[scores.baseline_of(arm.name)], scores.gain(arm.name)
            dots = [own - other for own, other in zip(scores.by_arm[arm.name], base, strict=True)]
            axes.plot(dots, [height] * len(dots), "o", color=colour, alpha=0.45, markersize=4)
            axes.plot([gain.low, gain.high], [height, height], color=colour, linewidth=1.5)
            axes.plot([gain.mean], [height], "|", color=colour, markersize=12, markeredgewidth=2)
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(shown)), [arm.name for arm in shown] if place == 1 else [""] * len(shown))
        axes.set_title(title, fontsize=10)
        bars = dict.fromkeys(scores.baseline_of(arm.name) for arm in shown)
        axes.set_xlabel(f"points over {' or '.join(bars)}", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, folder / "experiment")


def plot_sweep(name: str, found: Mapping[float, Rows], baseline: Rows, folder: Path) -> None:
    """Writes NAME.png and NAME.svg: mean differences by value, an arm a line, with 95% intervals."""
    sweep = SWEEPS[name]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (measure, title) in enumerate(JUDGED.items(), 1):
        axes = figure.add_subplot(1, len(JUDGED), place)
        for arm, colour in zip(sweep.arms, LINES, strict=False):
            each = [difference(rows, arm.name, baseline, measure) for rows in found.values()]
            means = [gain.mean for gain in each]
            spread = [[gain.mean - gain.low for gain in each], [gain.high - gain.mean for gain in each]]
            axes.errorbar(list(found), means, spread, label=arm.name, color=colour, marker="o", markersize=4, capsize=2)
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(sweep.title, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("points over the baseline", fontsize=9)
    figure.axes[0].legend(frameon=False, fontsize=8)
    _save(figure, folder / name)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
    with rc_context({"svg.hashsalt": "tamis"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
