"""The words for numbers, on the pages and in reports."""


def number(value: float) -> str:
    return f"{value:,}"


def share(value: float) -> str:
    """A share as a percentage of three figures."""
    return f"{100 * value:.3g} %"


def figure(value: float | None, digits: int = 3) -> str:
    return "not known" if value is None else f"{value:.{digits}f}"
