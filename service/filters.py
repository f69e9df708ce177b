"""What requests say of a curation's samples and pairs: which of them, which page, and what to decide on them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from service.bodies import MAX_INTEGER, Request, Text
from service.verdicts import Which

Similarity = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Portion = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _numbers(value: Any) -> Any:
    """Of a query, what commas part in its one value."""
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    return one.split(",") if isinstance(one, str) else value


PairSort = Literal["-difficulty", "-similarity", "similarity"]


class SampleFilter(Request):
    """Samples of a curation. What is left out is no condition."""

    cluster: int | None = Field(None, ge=0, le=MAX_INTEGER)
    label: Text | None = Field(None, max_length=1000)
    decision: Which | None = None
    difficulty_low: Finite | None = Field(None, description="At least so difficult.")
    difficulty_high: Finite | None = Field(None, description="Less difficult than this.")


class PairFilter(Request):
    """Listed pairs of a curation. What is left out is no condition."""

    sim_low: Similarity | None = Field(None, description="At least so similar.")
    sim_high: Similarity | None = Field(None, description="Less similar than this.")
    pos_low: Portion | None = Field(None, description="In place of sim_low: the share of all pairs above it.")
    pos_high: Portion | None = Field(None, description="In place of sim_high: the share of all pairs above it.")
    cluster_a: int | None = Field(None, ge=0, le=MAX_INTEGER, description="With a sample in this cluster.")
    cluster_b: int | None = Field(None, ge=0, le=MAX_INTEGER, description="And one in this.")
    sample: int | None = Field(None, ge=0, le=MAX_INTEGER, description="With this sample.")
    apart: bool | None = Field(None, description="Of two clusters, or of one.")
    decision: Which | None = Field(
        None, description="With a sample that was so decided; undecided: with none that was."
    )
    hardest: int | None = Field(None, ge=0, le=MAX_INTEGER, description="Of all listed pairs so many, the hardest.")
    box: Annotated[tuple[Finite, Finite, Finite, Finite] | None, BeforeValidator(_numbers)] = Field(
        None, description="With a sample that the map draws there: x from, y from, x to, y to; in a query with commas."
    )

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        for end in ("low", "high"):
            if getattr(self, f"sim_{end}") is not None and getattr(self, f"pos_{end}") is not None:
                raise ValueError(f"sim_{end} and pos_{end} both say where the cut ends: give one of them")
        return self


class PagePlace(Request):
    """Which part of a list: from `cursor` on, or from row `offset`, which may be anywhere."""

    cursor: str | None = Field(None, max_length=500, description="`next` of the page before.")
    offset: int | None = Field(None, ge=0, le=MAX_INTEGER)
    limit: int = Field(100, ge=1, le=500)

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.cursor is not None and self.offset is not None:
            raise ValueError("cursor and offset both say where the page begins: give one of them")
        return self


class PairsAsked(PairFilter, PagePlace):
    sort: PairSort = "-difficulty"


class SamplesAsked(SampleFilter, PagePlace):
    sort: Literal["-difficulty", "difficulty", "index"] = "-difficulty"


class BulkDecision(Request):
    """One verdict on all samples that a filter means."""

    verdict: Literal["keep", "drop"]
    samples: SampleFilter | None = None
    pairs: PairFilter | None = None
    of_pairs: Literal["more_difficult", "both"] = Field(
        "more_difficult", description="Of each pair, the more difficult sample, or both."
    )
    note: Text = Field("", max_length=2000)
    dry_run: bool = Field(False, description="Counts, and changes nothing.")

    @model_validator(mode="after")
    def _one_filter(self) -> "BulkDecision":
        if (self.samples is None) == (self.pairs is None):
            raise ValueError("samples and pairs both say which samples: give one of them")
        return self


class BulkDone(BaseModel):
    """matched: samples that the filter means. changed: those of them on which another verdict, or none, stood."""

    matched: int
    changed: int
    batch: str | None = Field(description="What POST /decisions/batches/{batch}/undo takes; null of a dry run.")
