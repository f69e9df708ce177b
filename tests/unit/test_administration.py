"""Keys over REST, who changed what, how often a key may ask, what it may store, and what the server tells of itself."""

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from test_service_requests import assert_problem, backend_of, client_of, stored

from service.dashboard.views import expected_time
from service.keys import create_key
from tamis.client.client import Client
from tamis.logs import Objects, about
from tamis.settings import Settings
from tamis.store.catalog import advance
from tamis.store.leases import take_lease
from tamis.store.quota import claim_room
from tamis.store.schema import Curation, Dataset, now

# Starlette would rather have another HTTP client, which nothing else here needs.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana.json"


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Any]:
    """A client of a server that asks for keys, signed in as an administrator."""
    with client_of(settings, require_key=True) as client:
        stored(client)
        client.headers["authorization"] = f"Bearer {create_key(backend_of(client).catalog, 'root')[1]}"
        yield client


def bearing(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_key_is_made_used_and_revoked(guarded: Any) -> None:
    asked = {"name": "visitor", "scope": "read", "days": 1}
    made = guarded.post("/api/v1/keys", json=asked)
    assert made.status_code == 201
    key = made.json()["key"]
    assert guarded.get("/api/v1/datasets", headers=bearing(key)).status_code == 200
    for path in ("keys", "audit", "settings"):
        told = assert_problem(guarded.get(f"/api/v1/{path}", headers=bearing(key)), 403)
        assert "administer" in told["detail"]
    [_, visitor] = guarded.get("/api/v1/keys").json()["items"]
    assert (visitor["name"], visitor["scope"], visitor["stands"]) == ("visitor", "read", True)
    assert key not in guarded.get("/api/v1/keys").text
    assert guarded.delete(f"/api/v1/keys/{visitor['id']}").status_code == 204
    assert_problem(guarded.get("/api/v1/datasets", headers=bearing(key)), 401)
    assert guarded.get("/api/v1/keys").json()["items"][1]["stands"] is False
    assert_problem(guarded.delete("/api/v1/keys/key_nonesuch"), 404)
    for wrong in ({"name": ""}, {"name": "a\u202eb"}, {"name": "x", "scope": "all"}, {"name": "x", "days": 0}):
        assert_problem(guarded.post("/api/v1/keys", json=wrong), 422)


def test_the_audit_has_who_changed_what_and_how_it_was_answered(guarded: Any) -> None:
    reader = create_key(backend_of(guarded).catalog, "reader", "read")[1]
    guarded.get("/api/v1/datasets")
    made = guarded.post("/api/v1/datasets", json={"name": "mine"}).json()["id"]
    guarded.post("/api/v1/datasets", json={"name": ""})
    guarded.delete(f"/api/v1/datasets/{made}")
    guarded.delete("/api/v1/datasets/ds", headers=bearing(reader))
    lines = guarded.get("/api/v1/audit").json()["items"]
    assert [(line["by"], line["method"], line["path"], line["status"]) for line in lines] == [
        ("root", "DELETE", f"/api/v1/datasets/{made}", 204),
        ("root", "POST", "/api/v1/datasets", 422),
        ("root", "POST", "/api/v1/datasets", 201),
    ]
    first = guarded.get("/api/v1/audit?limit=2").json()
    second = guarded.get("/api/v1/audit", params={"limit": 2, "cursor": first["next"]}).json()
    assert first["items"] + second["items"] == lines
    assert_problem(guarded.get("/api/v1/audit?cursor=eyJhZnRlciI6ICJkc18xIn0="), 422)


def test_a_key_may_ask_so_often_and_no_other_pays_for_it(sqlite_url: str, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, database_url=sqlite_url, requests_per_minute=5)
    with client_of(settings, require_key=True) as client:
        catalog = backend_of(client).catalog
        eager, other = (create_key(catalog, name)[1] for name in ("eager", "other"))
        answers = [client.get("/api/v1/datasets", headers=bearing(eager)) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 120
        assert_problem(answers[-1], 429)
        assert client.get("/api/v1/datasets", headers=bearing(other)).status_code == 200
        # Guesses at keys are counted by where they come from.
        guesses = [client.get("/api/v1/datasets", headers=bearing(f"tamis_{n}")).status_code for n in range(6)]
        assert guesses == [401] * 5 + [429]
    with client_of(settings) as client:
        assert {client.get("/api/v1/datasets").status_code for _ in range(7)} == {200}


def test_a_key_may_store_so_much(guarded: Any) -> None:
    backend = backend_of(guarded)
    key_id, key = create_key(backend.catalog, "small", "write", quota_bytes=1000)
    mine = [
        guarded.post("/api/v1/datasets", json={"name": "mine"}, headers=bearing(key)).json()["id"] for _ in range(2)
    ]
    begin = {"tus-resumable": "1.0.0", **bearing(key)}

    def upload(dataset: str, size: int) -> Any:
        return guarded.post(f"/api/v1/datasets/{dataset}/uploads", headers={**begin, "upload-length": str(size)})

    assert upload(mine[0], 700).status_code == 201
    assert "700 bytes" in assert_problem(upload(mine[1], 700), 507)["detail"]
    assert upload(mine[1], 300).status_code == 201
    # What others made is no matter of this key.
    theirs = guarded.post("/api/v1/datasets", json={"name": "theirs"}).json()["id"]
    with backend.catalog.session() as session:
        claim_room(session, None, 10**9, theirs)
        row = session.get_one(Dataset, theirs)
        row.bytes = 5000
    views = {view["id"]: view for view in guarded.get("/api/v1/keys").json()["items"]}
    assert (views[key_id]["bytes"], views[key_id]["quota_bytes"]) == (1000, 1000)


def test_the_settings_hide_passwords_and_keys(guarded: Any) -> None:
    told = guarded.get("/api/v1/settings").json()
    assert set(told) == {f"TAMIS_{name.upper()}" for name in Settings.model_fields} - {"TAMIS_API_KEY"}
    assert all(each["description"] for each in told.values())
    assert told["TAMIS_LEASE_SECONDS"] == {"value": "15.0", "default": True} | {
        "description": told["TAMIS_LEASE_SECONDS"]["description"]
    }
    backend = backend_of(guarded)
    hidden = {"database_url": "postgresql+psycopg://me:hidden@host/db", "s3_secret": "hidden"}
    # Whatever is named as one later is to be hidden too.
    hidden |= {name: "hidden" for name in Settings.model_fields if re.search("secret|password|token", name)}
    secret = backend.settings.model_copy(update=hidden)
    object.__setattr__(backend, "settings", secret)
    assert "hidden" not in guarded.get("/api/v1/settings").text


def test_a_job_has_a_log_that_goes_with_it(client_with_job: Any) -> None:
    client, catalog = client_with_job, backend_of(client_with_job).catalog
    advance(catalog, Curation, "cu", state="running")
    advance(catalog, Curation, "cu", stage="embed", message="embedding", done=0, total=9)
    for done in range(3):
        advance(catalog, Curation, "cu", done=done, total=9, message=f"at {done} a second")
    for _ in range(2):
        advance(catalog, Curation, "cu", message="waiting for the database (away)")
    advance(catalog, Curation, "cu", state="failed", error="no room")
    log = client.get("/api/v1/jobs/cu/log").json()["items"]
    assert [(line["state"], line["stage"], line["message"]) for line in reversed(log)] == [
        ("running", "", ""),
        ("running", "embed", "embedding"),
        ("running", "embed", "waiting for the database (away)"),
        ("failed", "embed", "no room"),
    ]
    assert client.get("/api/v1/jobs/cu/log?limit=1").json()["items"] == log[:1]
    assert_problem(client.get("/api/v1/jobs/cu_nonesuch/log"), 404)
    assert client.delete("/api/v1/curations/cu").status_code == 204
    with catalog.reading() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM job_lines").scalar() == 0


@pytest.fixture
def client_with_job(settings: Settings) -> Iterator[Any]:
    with client_of(settings) as client:
        with backend_of(client).catalog.session() as session:
            session.add(Dataset(id="ds", name="ten", state="succeeded", samples=10))
            session.flush()
            session.add(Curation(id="cu", dataset_id="ds", state="queued", parameters={}))
        yield client


def test_every_answer_has_an_id_and_lines_of_the_log_have_it_too(guarded: Any) -> None:
    assert re.fullmatch("[0-9a-f]{16}", guarded.get("/healthz").headers["x-request-id"])
    assert guarded.get("/nonesuch", headers={"x-request-id": "proxy-7"}).headers["x-request-id"] == "proxy-7"
    forged = guarded.get("/nonesuch", headers={"x-request-id": "a b"})
    assert re.fullmatch("[0-9a-f]{16}", forged.headers["x-request-id"])
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Objects())
    logger = logging.Logger("tamis.worker")
    logger.addHandler(handler)
    with about(job="cu_1"):
        try:
            raise ValueError("a\nb")
        except ValueError:
            logger.exception("it \u202e failed")
    logger.warning("later")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["job"], first["level"], first["message"]) == ("cu_1", "error", "it \u202e failed")
    assert "ValueError" in first["exception"]
    assert "job" not in second


def test_what_grafana_draws_is_what_the_server_measures(guarded: Any) -> None:
    take_lease(backend_of(guarded).catalog, "w", "h", 60, host="", pid=1, queues="gpu", gpu_used=1, gpu_total=2)
    guarded.get("/api/v1/datasets/nonesuch")
    exposed = guarded.get("/metrics").text
    measured = set(re.findall(r"^(tamis_\w+)(?:{| )", exposed, re.MULTILINE))
    drawn = set(re.findall(r"tamis_\w+", GRAFANA.read_text()))
    assert len(drawn) > 5
    assert drawn <= measured, drawn - measured
    counted = 'tamis_request_seconds_count{method="GET",route="/api/v1/datasets/{dataset_id}",status="404"} 1.0'
    assert counted in exposed


def test_depth_and_impossible_numbers_are_refused_at_once(guarded: Any) -> None:
    headers = {"content-type": "application/json"}
    for deep in ("[" * 60_000, '{"name":' * 8000, '{"name": ' + "[" * 30_000 + "]" * 30_000 + "}"):
        assert 400 <= guarded.post("/api/v1/datasets", content=deep, headers=headers).status_code < 500
    told = assert_problem(guarded.post("/api/v1/curations", json={"dataset": "ds", "classes": 11}), 422)
    assert "10" in told["detail"]


def test_a_data_set_says_what_a_curation_took_here(client_with_job: Any) -> None:
    with backend_of(client_with_job).catalog.session() as session:
        row = session.get_one(Curation, "cu")
        assert expected_time(None, 1000) is None
        assert expected_time(row, 1000) is None
        row.started_at = now()
        row.finished_at = row.started_at + timedelta(seconds=5)
        assert expected_time(row, 1000) == {"seconds": 500.0, "took": 5.0, "samples": 10}


def test_the_client_comes_back_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("tamis.client.client.time.sleep", waited.append)
    answers = iter([httpx.Response(429, headers={"retry-after": "7"}), httpx.Response(503)])

    def answer(request: httpx.Request) -> httpx.Response:
        return next(answers, httpx.Response(200, json={"items": [], "next": None}))

    client = Client()
    client._http = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://server")
    assert client.datasets() == []
    assert waited[0] == 7
    assert 0.2 <= waited[1] <= 0.6


def test_that_the_server_lives_is_answered_while_the_database_is_away(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception("away"))

    monkeypatch.setattr("service.auth.caller_with", away)
    del guarded.headers["authorization"]
    assert guarded.get("/healthz").status_code == 200
    assert_problem(guarded.get("/api/v1/datasets"), 401)
