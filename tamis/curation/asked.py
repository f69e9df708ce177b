"""What may be asked of a curation: its choices and ranges, judged before anything is loaded. Light to import."""

from typing import Literal, TypeAlias, get_args

from tamis.errors import InputError

Score: TypeAlias = Literal["blend", "band"]
Strategy: TypeAlias = Literal["remove", "margin", "temperature", "combined", "auto"]
Duplicates: TypeAlias = Literal["keep", "exact", "near"]
# What is done about the difficult unless another is asked for; the dashboard's form begins with it too.
STRATEGY: Strategy = "auto"
SCORES, STRATEGIES, DUPLICATES = get_args(Score), get_args(Strategy), get_args(Duplicates)
# Those that leave samples out.
REMOVING = ("remove", "combined")


def check_curation(
    classes: int | Literal["auto"] = "auto",
    pos_high: float | Literal["auto"] = "auto",
    pos_low: float = 0.95,
    neighbours: int = 64,
    score: str = "blend",
) -> None:
    """Raises InputError for what no data set can be curated with; `tamis.curate` explains the parameters."""
    if classes != "auto" and classes < 2:
        raise InputError(f"classes is {classes}.", "Use auto, or 2 to the number of samples.")
    if pos_high != "auto" and not 0 < pos_high < pos_low < 1:
        raise InputError(
            f"pos_high is {pos_high} and pos_low {pos_low}.", "Use 0 < pos_high < pos_low < 1, or auto for pos_high."
        )
    if not 0 < pos_low < 1:
        raise InputError(f"pos_low is {pos_low}.", "Use a share of all pairs, between 0 and 1.")
    if neighbours < 1:
        raise InputError(f"neighbours is {neighbours}.", "Use 1 or more.")
    if score not in SCORES:
        raise InputError(f"There is no score {score!r}.", f"Use {' or '.join(SCORES)}.")


def check_selection(
    strategy: str = STRATEGY, fraction: float | Literal["auto"] = "auto", duplicates: str = "keep"
) -> None:
    """Raises InputError for what no manifest can be made with; `Curation.select` explains the parameters."""
    if strategy not in STRATEGIES:
        raise InputError(f"There is no strategy {strategy!r}.", f"Use one of {', '.join(STRATEGIES)}.")
    if fraction != "auto" and not 0 <= fraction < 1:
        raise InputError(f"fraction is {fraction}.", "Use a share from 0 to below 1, or auto.")
    if fraction not in ("auto", 0) and strategy not in REMOVING:
        raise InputError(
            f"The strategy {strategy} removes nothing, so fraction {fraction} says nothing.",
            f"Choose the strategy {' or '.join(REMOVING)}, or no fraction.",
        )
    if duplicates not in DUPLICATES:
        raise InputError(f"duplicates is {duplicates!r}.", f"Use one of {', '.join(DUPLICATES)}.")
