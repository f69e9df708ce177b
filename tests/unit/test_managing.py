"""Renaming and deleting, on both databases and without a worker: what depends on what is told, and goes on request."""

from collections.abc import Iterator
from typing import Any

import pytest
from test_service_requests import assert_problem, backend_of, client_of, stored

from tamis.settings import Settings
from tamis.store.schema import Curation, Dataset, Decision, Embedding, Manifest, StoredEncoder, Training

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")

API = "/api/v1"


@pytest.fixture
def client(settings: Settings) -> Iterator[Any]:
    """Of a server with a data set `ds`, its curation `cu`, two decisions, its manifest `mf` and a training `tr`."""
    with client_of(settings) as client:
        stored(client)
        backend = backend_of(client)
        for key in ("curations/c/one", "encoders/e.pt"):
            backend.objects.put(key, b"12345")
        with backend.catalog.session() as session:
            session.get_one(Curation, "cu").result_key = "curations/c"
            session.add(Training(id="tr", manifest_id="mf", state="succeeded", parameters={}))
            session.add(Decision(id=1, curation_id="cu", sequence=1, sample=1, verdict="drop", note=""))
            session.flush()
            session.add(Decision(id=2, curation_id="cu", sequence=2, sample=1, verdict="drop", note="", undoes=1))
        yield client


def set_state(client: Any, model: Any, row_id: str, state: str) -> None:
    with backend_of(client).catalog.session() as session:
        session.get_one(model, row_id).state = state


def test_what_is_renamed_is_shown_by_its_new_name(client: Any) -> None:
    assert client.get(f"{API}/curations/cu").json()["name"] is None
    for path in ("datasets/ds", "curations/cu", "manifests/mf"):
        assert client.patch(f"{API}/{path}", json={"name": " new "}).json()["name"] == "new"
        assert client.get(f"{API}/{path}").json()["name"] == "new"
        for name in ("", " ", "a\nb", "a" * 201, None):
            assert_problem(client.patch(f"{API}/{path}", json={"name": name}), 422)
        assert_problem(client.patch(f"{API}/{path.partition('/')[0]}/nonesuch", json={"name": "new"}), 404)


def test_what_others_depend_on_is_deleted_on_request_alone_and_with_them(client: Any) -> None:
    told = assert_problem(client.delete(f"{API}/datasets/ds"), 409)["detail"]
    for part in ("1 curation (cu)", "1 manifest (mf)", "1 training (tr)", "2 decisions", "?cascade=true"):
        assert part in told
    assert "1 training (tr)" in assert_problem(client.delete(f"{API}/manifests/mf"), 409)["detail"]
    told = assert_problem(client.delete(f"{API}/curations/cu"), 409)["detail"]
    assert "1 manifest (mf)" in told
    assert "curation (" not in told
    assert client.delete(f"{API}/curations/cu?cascade=true").status_code == 204
    for path in ("curations/cu", "manifests/mf", "trainings/tr"):
        assert_problem(client.get(f"{API}/{path}"), 404)
    stays = backend_of(client).objects
    assert not stays.list("curations/")
    assert not stays.list("manifests/")
    assert client.delete(f"{API}/datasets/ds").status_code == 204
    assert_problem(client.get(f"{API}/datasets/ds"), 404)


def test_what_has_no_result_holds_nothing_up(client: Any) -> None:
    set_state(client, Training, "tr", "failed")
    assert client.delete(f"{API}/manifests/mf").status_code == 204
    assert_problem(client.get(f"{API}/trainings/tr"), 404)


def test_no_cascade_deletes_what_runs(client: Any) -> None:
    for state in ("queued", "running"):
        set_state(client, Training, "tr", state)
        for path in ("datasets/ds", "curations/cu", "manifests/mf"):
            told = assert_problem(client.delete(f"{API}/{path}?cascade=true"), 409)["detail"]
            assert "waits or runs: 1 training (tr)" in told
    assert client.get(f"{API}/trainings/tr").json()["state"] == "running"


def test_what_waits_is_cancelled_and_what_ended_deleted(client: Any) -> None:
    for model, path in ((Manifest, "manifests/mw"), (Curation, "curations/cw")):
        row_id = path.rpartition("/")[2]
        parent = {"curation_id": "cu"} if model is Manifest else {"dataset_id": "ds"}
        with backend_of(client).catalog.session() as session:
            session.add(model(id=row_id, state="queued", parameters={}, **parent))
        answer = client.delete(f"{API}/{path}")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
        assert client.delete(f"{API}/{path}").status_code == 204
        assert_problem(client.delete(f"{API}/{path}"), 404)


def test_an_encoder_that_a_curation_used_stays(client: Any) -> None:
    with backend_of(client).catalog.session() as session:
        about = {"name": "e.pt", "architecture": "x", "image_size": 8, "dimension": 4}
        session.add_all(StoredEncoder(id=f"en_{name}", fingerprint=name, **about) for name in ("e", "asked", "free"))
        about = {"encoder": "checkpoint:e", "encoder_fingerprint": "e", "encoder_key": "encoders/e.pt", "key": "k"}
        session.add(Embedding(id="em", dataset_id="ds", dimension=4, count=10, **about))
        session.flush()
        session.get_one(Curation, "cu").embedding_id = "em"
        asked = {"encoder": "checkpoint:asked"}
        session.add(Curation(id="cu_waits", dataset_id="ds", state="queued", parameters=asked))
    assert "1 curation (cu)" in assert_problem(client.delete(f"{API}/encoders/en_e"), 409)["detail"]
    assert "1 curation (cu_waits)" in assert_problem(client.delete(f"{API}/encoders/en_asked"), 409)["detail"]
    assert client.delete(f"{API}/encoders/en_free").status_code == 204
    assert_problem(client.delete(f"{API}/encoders/en_free"), 404)
    assert backend_of(client).objects.exists("encoders/e.pt")
    with backend_of(client).catalog.session() as session:
        assert session.get(Dataset, "ds") is not None
