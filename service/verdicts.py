"""The decisions that stand on the samples of a curation: of each sample the latest that was not undone."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from tamis.store.catalog import Catalog, standing_decisions
from tamis.store.schema import Decision

Which = Literal["decided", "undecided", "keep", "drop"]
# Curations whose decisions are remembered.
KNOWN = 16
# Samples that are looked up in one query.
AT_ONCE = 500


@dataclass(frozen=True)
class Verdicts:
    """version: the number of the latest decision in here. standing: by sample, the decision's id and verdict."""

    version: int
    standing: dict[int, tuple[int, str]]

    def of(self, sample: int) -> dict[str, Any] | None:
        found = self.standing.get(sample)
        return found and {"id": found[0], "verdict": found[1]}

    def mask(self, which: Which, samples: int) -> npt.NDArray[np.bool_]:
        """(samples,) whether a sample has that decision; of `decided` and `undecided`, whether it has any."""
        mask = np.zeros(samples, bool)
        mask[
            [sample for sample, (_, verdict) in self.standing.items() if verdict == which or which.endswith("decided")]
        ] = True
        return mask


class VerdictStore:
    """Reads what was decided since it was last asked, and no more."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: OrderedDict[str, Verdicts] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, curation_id: str, version: int) -> Verdicts:
        """Those that stood after decision number `version`, or a later one."""
        with self._lock:
            known = self._known.get(curation_id, Verdicts(0, {}))
            if version > known.version:
                known = self._later(curation_id, known)
            self._known[curation_id] = known
            self._known.move_to_end(curation_id)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
            return known

    def _later(self, curation_id: str, known: Verdicts) -> Verdicts:
        with self._catalog.reading() as session:
            after = Decision.curation_id == curation_id, Decision.sequence > known.version
            rows = session.execute(sa.select(Decision.sequence, Decision.sample).where(*after)).all()
            changed = {row.sample for row in rows}
            standing = {sample: value for sample, value in known.standing.items() if sample not in changed}
            version = max((row.sequence for row in rows), default=known.version)
            return Verdicts(version, standing | _standing(session, curation_id, changed))


def _standing(session: Session, curation_id: str, samples: Iterable[int]) -> dict[int, tuple[int, str]]:
    found: dict[int, tuple[int, str]] = {}
    ordered = sorted(samples)
    for start in range(0, len(ordered), AT_ONCE):
        some = ordered[start : start + AT_ONCE]
        query = sa.select(Decision.id, Decision.sample, Decision.verdict, Decision.undoes)
        query = query.where(Decision.curation_id == curation_id, Decision.sample.in_(some)).order_by(Decision.sequence)
        standing = standing_decisions(session.execute(query).all())
        found |= {sample: (decision.id, decision.verdict) for sample, decision in standing.items()}
    return found
