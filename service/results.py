"""What a curation that succeeded has found, opened: its columns, its samples' names, its thresholds, its decisions."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from service.columns import Columns, ColumnStore
from service.verdicts import Verdicts, VerdictStore
from tamis.errors import ConflictError, NotFoundError
from tamis.store.catalog import Catalog
from tamis.store.schema import Curation, Dataset, Decision

_LATEST = sa.select(sa.func.max(Decision.sequence)).where(Decision.curation_id == Curation.id).scalar_subquery()
_OPENED = (
    sa.select(
        Curation.state,
        Curation.dataset_id,
        Curation.result_key,
        Dataset.index_key,
        Curation.layout_key,
        _LATEST.label("decided"),
    )
    .join(Dataset)
    .where(Curation.id == sa.bindparam("id"))
)


@dataclass(frozen=True)
class Result:
    """curation, dataset: ids. key, index_key, layout_key: of the objects. decided: number of the latest decision.

    What is not asked for is not read.
    """

    curation: str
    dataset: str
    key: str
    index_key: str
    layout_key: str | None
    decided: int
    _columns: ColumnStore
    _verdicts: VerdictStore

    @cached_property
    def columns(self) -> Columns:
        return self._columns.curation(self.key)

    @cached_property
    def index(self) -> pa.Table:
        return self._columns.index(self.index_key)

    @cached_property
    def positions(self) -> Any:
        """(N, 2) float32, where a map draws the samples: as a job has laid them out, until then in their plane."""
        return self.columns.plane if self.layout_key is None else self._columns.layout(self.layout_key)

    @property
    def samples(self) -> int:
        return len(self.columns.cluster)

    @property
    def thresholds(self) -> dict[str, float]:
        return self.columns.thresholds

    @cached_property
    def verdicts(self) -> Verdicts:
        """As they were when the result was opened, or later."""
        return self._verdicts.of(self.curation, self.decided)

    def similarity_at(self, share: float) -> float:
        """The edge above which about `share` of all pairs lie."""
        told = self.columns.what_if
        above = 1 - told.pairs / max(1, int(told.pairs[-1]))
        return float(told.edges[np.abs(above - share).argmin()])


class Results:
    def __init__(self, catalog: Catalog, columns: ColumnStore) -> None:
        self._catalog, self._columns, self._verdicts = catalog, columns, VerdictStore(catalog)

    def sweep(self) -> int:
        """Removes the columns of curations and data sets that are no more; returns of how many."""
        made_from = (Curation.result_key, Dataset.index_key)
        return self._columns.sweep(
            {row[0] for key in made_from for row in self._catalog.rows(sa.select(key)) if row[0]}
        )

    def open(self, curation_id: str) -> Result:
        """Raises NotFoundError, and ConflictError before the curation has a result."""
        row = next(iter(self._catalog.rows(_OPENED, id=curation_id)), None)
        if row is None:
            raise NotFoundError(f"There is no curation {curation_id}.", "GET /api/v1/curations lists them.")
        if row.result_key is None or row.index_key is None:
            raise ConflictError(f"Curation {curation_id} is {row.state} and has no result.", "Wait until it succeeded.")
        return Result(
            curation_id,
            row.dataset_id,
            row.result_key,
            row.index_key,
            row.layout_key,
            row.decided or 0,
            self._columns,
            self._verdicts,
        )
