"""The curves of trainings and the differences of experiments as shapes of SVG pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.schemas import Curve

WIDTH, HEIGHT = 640, 200
ROW_WIDTH = 480
# Of a row, on either side: dots at the ends are whole.
EDGE = 8


@dataclass(frozen=True)
class Lines:
    """A picture WIDTH by HEIGHT of curves, each an SVG path by its name."""

    width: int
    height: int
    paths: dict[str, str]
    steps: int
    low: float
    high: float


def lines(curves: Mapping[str, Curve]) -> Lines:
    """Curves of one measure over the same steps. A curve has one point at least."""
    values = [value for curve in curves.values() for value in curve.values]
    steps, low, high = max(curve.steps[-1] for curve in curves.values()), min(values), max(values)
    spread = (high - low) or 1.0

    def path(curve: Curve) -> str:
        places = (
            f"{WIDTH * step / steps:.1f} {HEIGHT * (1 - (value - low) / spread):.1f}"
            for step, value in zip(curve.steps, curve.values, strict=True)
        )
        return "M" + "L".join(places)

    return Lines(WIDTH, HEIGHT, {name: path(curve) for name, curve in curves.items()}, steps, low, high)


@dataclass(frozen=True)
class Row:
    """An arm beside its baseline: its seeds' differences, their mean and its interval, as numbers and as places in
    a picture ROW_WIDTH wide."""

    arm: str
    control: bool
    baseline: str
    mean: float
    low: float
    high: float
    seeds: int
    dots: list[float]
    left: float
    right: float
    middle: float
    zero: float


def rows(compared: Sequence[Mapping[str, Any]]) -> list[Row]:
    """compared: as the result of an experiment has it, of one measure."""
    ends = [0.0]
    for each in compared:
        ends += [*each["seeds"], each["gain"]["low"], each["gain"]["high"]]
    first, last = min(ends), max(ends)
    spread = (last - first) or 1.0

    def place(value: float) -> float:
        return round(EDGE + (ROW_WIDTH - 2 * EDGE) * (value - first) / spread, 1)

    return [
        Row(
            each["arm"]["name"],
            bool(each["arm"]["control"]),
            each["baseline"],
            **each["gain"],
            seeds=len(each["seeds"]),
            dots=[place(value) for value in each["seeds"]],
            left=place(each["gain"]["low"]),
            right=place(each["gain"]["high"]),
            middle=place(each["gain"]["mean"]),
            zero=place(0.0),
        )
        for each in compared
    ]
