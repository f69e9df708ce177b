"""Leases run out by a stopwatch of who waits, whatever the clocks say; of several claimants one wins."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tamis.settings import Settings
from tamis.store.catalog import Catalog, open_catalog
from tamis.store.leases import (
    Watch,
    add_missing,
    all_leases,
    claim_lease,
    drop_lease,
    give_up_lease,
    renew_lease,
    take_lease,
)
from tamis.store.schema import now

SECONDS = 10.0


class Stopwatch:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    opened = open_catalog(settings)
    take_lease(opened, "w", "h", SECONDS, host="", pid=1, queues="cpu")
    yield opened
    opened.close()


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


def looks(catalog: Catalog, watch: Watch, stopwatch: Stopwatch, *moments: float) -> list[list[str]]:
    """Who had run out at each of the moments."""
    found = []
    for stopwatch.seconds in moments:
        found.append([lease.executor_id for lease in watch.run_out(all_leases(catalog))])
    return found


def test_a_silent_lease_runs_out_and_a_renewed_one_does_not(catalog: Catalog, stopwatch: Stopwatch) -> None:
    watch = Watch(SECONDS, stopwatch)
    assert looks(catalog, watch, stopwatch, 0, 5, 9.9) == [[], [], []]
    assert renew_lease(catalog, "w", "h", SECONDS)
    assert looks(catalog, watch, stopwatch, 10, 15, 19.9, 20) == [[], [], [], ["w"]]


@pytest.mark.parametrize("step", [timedelta(days=-1), timedelta(days=1)])
def test_a_clock_that_was_set_neither_ends_a_lease_nor_keeps_it(
    catalog: Catalog, stopwatch: Stopwatch, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    watch = Watch(SECONDS, stopwatch)
    assert looks(catalog, watch, stopwatch, 0) == [[]]
    monkeypatch.setattr("tamis.store.leases.now", lambda: now() + step)
    assert looks(catalog, watch, stopwatch, 5) == [[]]
    assert renew_lease(catalog, "w", "h", SECONDS)
    assert looks(catalog, watch, stopwatch, 9, 14, 18.9, 19) == [[], [], [], ["w"]]


def test_who_was_frozen_takes_nobody_for_dead(catalog: Catalog, stopwatch: Stopwatch) -> None:
    watch = Watch(SECONDS, stopwatch)
    assert looks(catalog, watch, stopwatch, 0, 5, 100, 105, 109.9, 110) == [[], [], [], [], [], ["w"]]


def test_a_longer_lease_than_ones_own_is_waited_for(catalog: Catalog, stopwatch: Stopwatch) -> None:
    take_lease(catalog, "patient", "h", 2 * SECONDS, host="", pid=1, queues="cpu")
    watch = Watch(SECONDS, stopwatch)
    assert looks(catalog, watch, stopwatch, 0, 9, 18, 19.9, 20) == [[], [], ["w"], ["w"], ["patient", "w"]]


def test_what_is_given_up_or_has_no_lease_is_taken_over_at_once(catalog: Catalog, stopwatch: Stopwatch) -> None:
    watch = Watch(SECONDS, stopwatch)
    give_up_lease(catalog, "w", "another holder")
    assert looks(catalog, watch, stopwatch, 0) == [[]]
    give_up_lease(catalog, "w", "h")
    add_missing(catalog, ["w", "x"])
    assert looks(catalog, watch, stopwatch, 0) == [["w", "x"]]


def test_of_several_claimants_one_wins_and_none_where_it_was_renewed(catalog: Catalog) -> None:
    [lease] = all_leases(catalog)
    assert renew_lease(catalog, "w", "h", SECONDS)
    assert not claim_lease(catalog, lease, "early", SECONDS)
    [lease] = all_leases(catalog)
    assert [claim_lease(catalog, lease, holder, SECONDS) for holder in ("one", "other")] == [True, False]
    assert not renew_lease(catalog, "w", "h", SECONDS)
    drop_lease(catalog, "w", "one")
    assert all_leases(catalog) == []
