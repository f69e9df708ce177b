"""Checkpoints that ended jobs left are removed by the server; what a job may still go on from is not."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from harness import until

from service.app import create_app
from service.backend import Backend, open_backend
from tamis.settings import Settings
from tamis.store.checkpoints import checkpoint_key, sweep_checkpoints
from tamis.store.jobs import APPLICATION, WORKFLOW_VERSION, workflow_id
from tamis.store.schema import Curation, Dataset, Manifest, Training, new_id, now

# Starlette would rather have another HTTP client, which nothing else here needs.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")

LONG_AGO, JUST_NOW = timedelta(hours=2), timedelta(minutes=1)


@pytest.fixture
def backend(settings: Settings) -> Iterator[Backend]:
    opened = open_backend(settings)
    yield opened
    opened.close()


def add(backend: Backend, state: str, since: timedelta | None, model: Any = Curation) -> str:
    """A row in that state, which ended so long ago."""
    with backend.catalog.session() as session:
        dataset = Dataset(id=new_id("ds"), name="digits", state="succeeded")
        row: Any = Curation(id=new_id("cu"), dataset=dataset, parameters={}, state="succeeded", finished_at=now())
        session.add(row)
        if model is Training:
            manifest = Manifest(id=new_id("ma"), curation=row, parameters={}, state="succeeded")
            row = Training(id=new_id("tr"), manifest=manifest, parameters={})
            session.add(row)
        row.state, row.finished_at = state, None if since is None else now() - since
        return str(row.id)


def store(backend: Backend, *workflows: str) -> set[str]:
    keys = {checkpoint_key(workflow, "npz") for workflow in workflows}
    for key in keys:
        backend.objects.put(key, b"half done")
    return keys


def stored(backend: Backend) -> set[str]:
    return set(backend.objects.list("checkpoints/"))


def test_what_ended_for_good_is_removed_and_nothing_else(backend: Backend) -> None:
    left, kept = set(), set()
    for state in ("cancelled", "failed", "succeeded"):
        curation, training = add(backend, state, LONG_AGO), add(backend, state, LONG_AGO, Training)
        names = [workflow_id("plan", curation), workflow_id("encoder", curation), workflow_id("training", training)]
        left |= store(backend, *names, workflow_id("scan", curation, "0"), workflow_id("scan", curation, "17"))
        recent = add(backend, state, JUST_NOW)
        kept |= store(backend, workflow_id("scan", recent, "0"))
    for state in ("queued", "running"):
        # A job begun again still says when it ended before.
        for since in (None, LONG_AGO):
            curation, training = add(backend, state, since), add(backend, state, since, Training)
            kept |= store(backend, workflow_id("plan", curation), workflow_id("training", training))
    kept |= store(backend, workflow_id("scan", new_id("cu"), "0"), "unheard-of", "odd")
    assert sweep_checkpoints(backend.catalog, backend.objects, backend.jobs) == len(left)
    assert stored(backend) == kept
    assert sweep_checkpoints(backend.catalog, backend.objects, backend.jobs) == 0


def test_a_save_that_was_cut_off_is_removed_too(backend: Backend) -> None:
    ended, going = add(backend, "succeeded", LONG_AGO), add(backend, "running", None)
    kept = store(backend, workflow_id("scan", going, "0"))
    folder = backend.objects.local_path("checkpoints")
    assert folder is not None
    # So obstore names what it writes until all is there.
    cut, unfinished = (folder / f"{workflow_id('scan', row, '0')}.npz#1" for row in (ended, going))
    for path in (cut, unfinished):
        path.write_bytes(b"half written")
    assert sweep_checkpoints(backend.catalog, backend.objects, backend.jobs) == 1
    assert (cut.exists(), unfinished.exists()) == (False, True)
    assert stored(backend) == kept


@pytest.mark.parametrize(("kind", "part"), [("curation", ""), ("encoder", ""), ("scan", "1")])
def test_what_a_workflow_may_still_go_on_from_stays(backend: Backend, kind: str, part: str) -> None:
    curation = add(backend, "failed", LONG_AGO)
    keys = store(backend, workflow_id("plan", curation), workflow_id("scan", curation, "0"))
    backend.jobs.client.enqueue(
        {
            "workflow_name": kind,
            "queue_name": "cpu",
            "workflow_id": workflow_id(kind, curation, part),
            "app_version": WORKFLOW_VERSION,
            "application_name": APPLICATION,
        },
        curation,
    )
    assert sweep_checkpoints(backend.catalog, backend.objects, backend.jobs) == 0
    assert stored(backend) == keys
    backend.jobs.cancel(backend.jobs.tries(kind, curation, part))
    assert sweep_checkpoints(backend.catalog, backend.objects, backend.jobs) == len(keys)


def test_the_server_sweeps_by_itself(backend: Backend, settings: Settings) -> None:
    from starlette.testclient import TestClient

    store(backend, workflow_id("scan", add(backend, "cancelled", LONG_AGO), "0"))
    kept = store(backend, workflow_id("scan", add(backend, "running", None), "0"))
    with TestClient(create_app(settings, require_key=False)):
        until(lambda: stored(backend) == kept, 10, "the server's first sweep")
