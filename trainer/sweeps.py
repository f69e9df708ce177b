"""What an experiment may vary beside its arms: the share of images removed, or the thresholds of the band. Light to
import."""

from dataclasses import dataclass

from tamis.errors import InputError
from trainer.arms import Arm


@dataclass(frozen=True)
class Sweep:
    """arms: run at every value, each compared with the baseline of their temperature, paired by seed."""

    title: str
    arms: tuple[Arm, ...]


_BAND = (Arm("temperature", "temperature"), Arm("temperature-random", "temperature", "random", of="temperature"))
SWEEPS = {
    "removed": Sweep(
        "share of the images removed",
        (
            Arm("by score", "remove"),
            Arm("by chance", "remove", "random"),
            Arm("by SAS", "combined", keeps="sas"),
            Arm("by 10-NN distance", "combined", keeps="neighbours"),
        ),
    ),
    "pos_high": Sweep("posHigh", _BAND),
    "pos_low": Sweep("posLow", _BAND),
}


def sweep_of(text: str) -> tuple[str, tuple[float, ...]]:
    """The name and the values of "removed=0.1,0.5", ascending. Raises InputError for what is none."""
    name, _, listed = text.partition("=")
    try:
        values = sorted({float(word) for word in listed.split(",") if word.strip()})
    except ValueError:
        values = []
    if name not in SWEEPS or not values or not all(0 < value < 1 for value in values):
        raise InputError(f"{text} is nothing to vary.", f"Use {', '.join(SWEEPS)}, as removed=0.1,0.5.")
    return name, tuple(values)
