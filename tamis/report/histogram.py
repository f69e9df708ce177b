"""The similarity histogram as shapes of an SVG picture."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 120
COLUMNS = 160
TICKS = 5


@dataclass(frozen=True)
class Chart:
    """A picture WIDTH by HEIGHT. `inside` and `outside` are SVG paths: the columns in the band, and the others."""

    width: int
    height: int
    inside: str
    outside: str
    band_x: float
    band_width: float
    ticks: list[float]


def draw(edges: Sequence[float], counts: Sequence[int], sim_low: float, sim_high: float) -> Chart:
    """The part of the histogram that holds pairs, in at most COLUMNS columns. A column is in the band if its middle is.

    edges: (B + 1,), ascending. counts: (B,).
    """
    filled = [place for place, count in enumerate(counts) if count]
    first, last = (filled[0], filled[-1] + 1) if filled else (0, len(counts))
    step = -(-(last - first) // COLUMNS)
    starts = range(first, last, step)
    heights = [sum(counts[start : min(start + step, last)]) for start in starts]
    left, right = edges[first], edges[min(first + step * len(starts), len(counts))]
    tallest = max(heights, default=0) or 1

    def x(similarity: float) -> float:
        return round(WIDTH * min(max((similarity - left) / (right - left), 0.0), 1.0), 2)

    paths: dict[bool, list[str]] = {True: [], False: []}
    for start, height in zip(starts, heights, strict=True):
        begin, end = edges[start], edges[min(start + step, len(counts))]
        top = round(HEIGHT * (1 - height / tallest), 2)
        inside = sim_low <= (begin + end) / 2 < sim_high
        if height:
            paths[inside].append(f"M{x(begin)} {HEIGHT}V{top}H{x(end)}V{HEIGHT}Z")
    return Chart(
        WIDTH,
        HEIGHT,
        inside="".join(paths[True]),
        outside="".join(paths[False]),
        band_x=x(sim_low),
        band_width=round(x(sim_high) - x(sim_low), 2),
        ticks=[left + (right - left) * place / (TICKS - 1) for place in range(TICKS)],
    )
