"""How a scan is split into parts and how their progress adds up, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from tamis.errors import CancelledError
from tamis.settings import Settings
from tamis.store.catalog import advance_part, cancel, open_catalog
from tamis.store.leases import live_workers, take_lease
from tamis.store.schema import Curation, Dataset
from worker.durable.curate import PART_SECONDS, number_of_parts


@pytest.mark.parametrize(
    ("seconds", "workers", "parts"),
    [
        (0.01, 8, 1),
        (1.9 * PART_SECONDS, 8, 1),
        (2.1 * PART_SECONDS, 8, 2),
        (1000 * PART_SECONDS, 8, 8),
        (1000 * PART_SECONDS, 1, 1),
        (1000 * PART_SECONDS, 0, 1),
    ],
)
def test_every_worker_gets_a_part_that_is_worth_it(seconds: float, workers: int, parts: int) -> None:
    assert number_of_parts(seconds, workers) == parts


def test_workers_are_counted_by_the_queues_they_take(settings: Settings) -> None:
    catalog = open_catalog(settings)
    for name, queues, seconds in (("a", "cpu", 60.0), ("b", "cpu,gpu,train", 60.0), ("c", "cpu", -1.0)):
        take_lease(catalog, name, "holder", seconds, host="here", pid=1, queues=queues)
    assert [live_workers(catalog, queue) for queue in ("cpu", "gpu", None)] == [2, 1, 2]
    catalog.close()


def test_a_curations_progress_is_that_of_all_its_parts(settings: Settings) -> None:
    catalog = open_catalog(settings)
    with catalog.session() as session:
        dataset = Dataset(id="ds", name="digits", state="succeeded")
        session.add(Curation(id="cu", dataset=dataset, parameters={}, state="running"))

    def shown() -> tuple[int, int]:
        with catalog.session() as session:
            done, total = session.execute(sa.select(Curation.done, Curation.total)).one()
            return done, total

    advance_part(catalog, "cu", 0, 3, 2, 10)
    assert shown() == (2, 30)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: advance_part(catalog, "cu", n % 3, 3, n // 3, 10 if n % 3 else 9), range(30)))
        list(pool.map(lambda part: advance_part(catalog, "cu", part, 3, 7, 10 if part else 9), range(3)))
    assert shown() == (21, 29)
    # A part that was cut off goes on from its checkpoint.
    advance_part(catalog, "cu", 1, 3, 4, 10)
    assert shown() == (18, 29)
    cancel(catalog, Curation, "cu")
    with pytest.raises(CancelledError):
        advance_part(catalog, "cu", 1, 3, 5, 10)
    assert shown() == (18, 29)
    catalog.close()
