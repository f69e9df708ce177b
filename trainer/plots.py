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
from trainer.verdicts import Rows, compared, difference, scores_of

ARM, CONTROL = "#1f5fa8", "#8a8a8a"
LINES = (ARM, CONTROL, "#c68206", "#12704a")


def plot(rows: Rows, arms: Sequence[Arm], folder: Path) -> None:
    """Writes experiment.png and experiment.svg; equal runs give equal bytes with one release of matplotlib."""
    count = sum(bool(arm.strategy) for arm in arms)
    figure = Figure(figsize=(9, 1.4 + 0.32 * max(1, count)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (measure, title) in enumerate(JUDGED.items(), 1):
        shown = compared(scores_of(rows, arms, measure), arms)[::-1]
        axes = figure.add_subplot(1, len(JUDGED), place)
        for height, each in enumerate(shown):
            colour, gain = CONTROL if each.arm.control else ARM, each.gain
            axes.plot(each.seeds, [height] * len(each.seeds), "o", color=colour, alpha=0.45, markersize=4)
            axes.plot([gain.low, gain.high], [height, height], color=colour, linewidth=1.5)
            axes.plot([gain.mean], [height], "|", color=colour, markersize=12, markeredgewidth=2)
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.set_yticks(range(count), [each.arm.name for each in shown] if place == 1 else [""] * count)
        axes.set_title(title, fontsize=10)
        bars = dict.fromkeys(each.baseline for each in shown)
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
