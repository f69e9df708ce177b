"""Requests that need no worker, on both databases: errors, hostile input, keys, repetition and simultaneity, files."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
import sqlalchemy as sa

from service.app import create_app
from service.backend import Backend
from service.keys import create_key
from tamis.settings import Settings
from tamis.store.schema import STATES, Curation, Dataset, Decision, Manifest

# Starlette would rather have another HTTP client, which nothing else here needs.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")

LOCAL = "http://localhost"
SUMMARY = {"thresholds": {"sim_low": 0.1, "sim_high": 0.9}}


def client_of(settings: Settings, require_key: bool = False) -> Any:
    from starlette.testclient import TestClient

    app = create_app(settings, require_key=require_key)
    return TestClient(app, base_url=LOCAL, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def client(settings: Settings) -> Iterator[Any]:
    with client_of(settings) as client:
        yield client


def backend_of(client: Any) -> Backend:
    backend: Backend = client.app.state.backend
    return backend


def stored(client: Any) -> None:
    """A data set `ds` of ten samples, its curation `cu`, and a manifest `mf` with files."""
    backend = backend_of(client)
    tables = {"samples.parquet": b"PAR1 samples PAR1", "pairs.parquet": b"PAR1 pairs PAR1"}
    hashes = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in tables.items()}
    for name, content in {**tables, "manifest.json": json.dumps({"tables": hashes}).encode()}.items():
        backend.objects.put(f"manifests/hash/{name}", content)
    common: dict[str, Any] = {"state": "succeeded", "parameters": {}}
    with backend.catalog.session() as session:
        session.add(Dataset(id="ds", name="ten", state="succeeded", samples=10))
        session.flush()
        session.add(Curation(id="cu", dataset_id="ds", result_key="x", summary=SUMMARY, **common))
        session.flush()
        session.add(Manifest(id="mf", curation_id="cu", key="manifests/hash", **common))


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, (answer.url, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:tamis:problem:")
    assert problem["title"]
    assert problem["detail"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return problem


HUGE = 10**30
DEEP = "WyJb" * 120


UNANSWERABLE = [
    ("GET", "/nonesuch", 404),
    ("GET", "/api/v1/nonesuch", 404),
    ("GET", "/static/nonesuch.js", 404),
    ("GET", "/static/%00", 404),
    ("PATCH", "/api/v1/datasets", 405),
    ("GET", "/api/v1/datasets/nonesuch", 404),
    ("GET", "/api/v1/datasets?cursor=nonsense", 422),
    ("GET", f"/api/v1/datasets?cursor={DEEP}", 422),
    ("GET", "/api/v1/datasets?cursor=" + "A" * 5000, 422),
    ("GET", f"/api/v1/datasets?limit={HUGE}", 422),
    ("GET", "/api/v1/datasets?limit=0", 422),
    ("GET", f"/api/v1/datasets/ds/samples/{HUGE}", 422),
    ("GET", "/api/v1/datasets/ds/samples/-1", 422),
    ("GET", "/api/v1/datasets/ds/samples?cursor=nonsense", 409),
    ("GET", f"/api/v1/curations/cu/pairs?sample={HUGE}", 422),
    ("GET", f"/api/v1/curations/cu/pairs?cluster_a={HUGE}", 422),
    ("GET", "/api/v1/curations/cu/pairs?sort=nonsense", 422),
    ("GET", f"/api/v1/curations/cu/decisions?cursor={DEEP}", 422),
    ("POST", f"/api/v1/decisions/{HUGE}/undo", 422),
    ("POST", "/api/v1/decisions/7/undo", 404),
    ("GET", "/api/v1/manifests/mf/passwd", 404),
    ("DELETE", "/api/v1/datasets/ds", 409),
    ("GET", "/curations/nonesuch", 404),
]


def test_what_cannot_be_answered_is_a_problem(client: Any) -> None:
    stored(client)
    for method, path, status in UNANSWERABLE:
        assert_problem(client.request(method, path), status)


def test_a_name_no_database_can_hold_is_the_callers_mistake(client: Any) -> None:
    for path in ("/api/v1/datasets/%00", "/api/v1/manifests?curation=%00", "/datasets/a%00b"):
        assert client.get(path).status_code < 500, path
    for name in ("", "   ", "a\0b", "\ud800", "x" * 201):
        body = json.dumps({"name": name})
        assert_problem(client.post("/api/v1/datasets", content=body, headers={"content-type": "application/json"}), 422)
    headers = {"content-type": "application/json"}
    for broken in ("{", "[" * 100_000, '{"name": NaN}', ""):
        assert 400 <= client.post("/api/v1/datasets", content=broken, headers=headers).status_code < 500, broken[:9]


def test_an_internal_error_tells_nothing_of_itself(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.routes.jobs.job_views", lambda session: 1 / 0)
    problem = assert_problem(client.get("/api/v1/jobs"), 500)
    assert "ZeroDivision" not in json.dumps(problem)


def test_only_loopback_names_are_answered_without_keys(client: Any) -> None:
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "["):
        assert_problem(client.get("/api/v1/datasets", headers={"host": host}), 400)
    for host in ("localhost:8080", "127.0.0.1", "[::1]:8080"):
        assert client.get("/api/v1/datasets", headers={"host": host}).status_code == 200


def test_pages_of_other_sites_change_nothing(client: Any) -> None:
    def asked(origin: str, **told: str) -> Any:
        return client.post("/api/v1/datasets", json={"name": "x"}, headers={"origin": origin, **told})

    for origin in ("https://evil.example", "null", "http://[", "http://localhost:1"):
        for site in ("cross-site", "same-site", "none", ""):
            problem = assert_problem(asked(origin, **{"sec-fetch-site": site}), 403)
            assert problem["type"] == "urn:tamis:problem:forbidden"
        # An old browser does not say, and a proxy may have changed the host.
        assert "proxy_set_header Host $http_host" in assert_problem(asked(origin), 400)["detail"]
    assert asked(LOCAL).status_code == 201
    assert len(client.get("/api/v1/datasets").json()["items"]) == 1


@pytest.mark.parametrize(
    ("host", "told", "status"),
    [
        ("tamis.example", {}, 201),
        ("127.0.0.1:8080", {}, 400),
        ("127.0.0.1:8080", {"x-forwarded-host": "tamis.example"}, 201),
        ("127.0.0.1:8080", {"x-forwarded-host": "tamis.example, inner"}, 201),
        ("127.0.0.1:8080", {"x-forwarded-host": "evil.example"}, 400),
        ("127.0.0.1:8080", {"x-forwarded-host": ""}, 400),
        ("127.0.0.1:8080", {"sec-fetch-site": "same-origin"}, 201),
        ("127.0.0.1:8080", {"sec-fetch-site": "cross-site"}, 403),
    ],
)
@pytest.mark.parametrize("keys", [True, False])
def test_a_proxy_or_the_browser_tells_the_host_that_was_asked_for(
    settings: Settings, host: str, told: dict[str, str], status: int, keys: bool
) -> None:
    with client_of(settings, require_key=keys) as client:
        headers = {"host": host, "origin": "https://tamis.example", **told}
        if keys:
            _, key = create_key(backend_of(client).catalog, "test")
            headers["authorization"] = f"Bearer {key}"
        elif host == "tamis.example":
            # Without keys any page could point a name of its own at this machine.
            status = 400
        answer = client.post("/api/v1/datasets", json={"name": "x"}, headers=headers)
        assert answer.status_code == status
        nameless = {**headers, "origin": "null", "x-forwarded-host": "", "sec-fetch-site": "cross-site"}
        assert client.post("/api/v1/datasets", json={"name": "x"}, headers=nameless).status_code in (400, 403)


def test_a_key_is_taken_as_token_or_cookie(settings: Settings) -> None:
    with client_of(settings, require_key=True) as client:
        _, key = create_key(backend_of(client).catalog, "test")
        assert_problem(client.get("/api/v1/datasets"), 401)
        assert_problem(client.get("/api/v1/datasets", headers={"authorization": "Bearer tamis_wrong"}), 401)
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/v1/datasets", headers={"authorization": f"Bearer {key}"}).status_code == 200
        signed_in = client.post("/login", content=f"key={key}&next=//evil.example")
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/")
        assert client.get("/api/v1/datasets").status_code == 200
        assert_problem(client.post("/login", content="key=" + "x" * 10_000), 413)


def test_a_server_that_has_ended_holds_no_connection(sqlite_url: str, tmp_path: Path) -> None:
    with client_of(Settings(data=tmp_path / "data", database_url=sqlite_url)) as client:
        tables = backend_of(client).tables
        connection = tables._database
        assert tables.query("SELECT 1 AS one", []) == [{"one": 1}]
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        connection.execute("SELECT 1")
    assert not hasattr(tables, "_database")


def test_the_same_key_sent_at_once_makes_one_object(client: Any) -> None:
    def create(_: int) -> httpx.Response:
        return client.post("/api/v1/datasets", json={"name": "once"}, headers={"idempotency-key": "k"})  # type: ignore[no-any-return]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(client.get("/api/v1/datasets").json()["items"]) == 1
    other = client.post("/api/v1/datasets", json={"name": "other"}, headers={"idempotency-key": "k"})
    assert_problem(other, 409)


def test_a_decision_whose_answer_was_lost_is_sent_again_and_made_once(client: Any) -> None:
    stored(client)

    def decide(verdict: str) -> httpx.Response:
        body, headers = {"sample": 1, "verdict": verdict}, {"idempotency-key": "k"}
        return client.post("/api/v1/curations/cu/decisions", json=body, headers=headers)  # type: ignore[no-any-return]

    assert decide("drop").json() == decide("drop").json()
    assert len(client.get("/api/v1/curations/cu/decisions").json()["items"]) == 1
    assert_problem(decide("keep"), 409)


def test_decisions_made_at_once_are_all_kept_and_undone_once(client: Any) -> None:
    stored(client)

    def decide(place: int) -> int:
        body = {"sample": place % 10, "verdict": "drop"}
        return int(client.post("/api/v1/curations/cu/decisions", json=body).status_code)

    def undo(number: int) -> int:
        return int(client.post(f"/api/v1/decisions/{number}/undo").status_code)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(decide, range(20))) == {201}
        first = client.get("/api/v1/curations/cu/decisions", params={"limit": 7}).json()
        assert len(first["items"]) == 7
        rest = client.get("/api/v1/curations/cu/decisions", params={"cursor": first["next"]}).json()
        numbers = [item["id"] for item in first["items"] + rest["items"]]
        assert len(set(numbers)) == 20
        assert sorted(pool.map(undo, [numbers[0]] * 8)) == [201] + [409] * 7
    with backend_of(client).catalog.session() as session:
        assert sorted(session.scalars(sa.select(Decision.sequence))) == list(range(1, 22))
    mine = client.get("/api/v1/curations/cu/decisions", params={"sample": first["items"][0]["sample"]}).json()["items"]
    assert [(item["id"], item["undone"]) for item in mine] == [(numbers[0], True), (mine[1]["id"], False)]
    assert_problem(client.post("/api/v1/curations/cu/decisions", json={"sample": 10, "verdict": "keep"}), 422)
    assert_problem(client.post("/api/v1/curations/cu/decisions", json={"sample": HUGE, "verdict": "keep"}), 422)


def test_a_data_set_of_which_nothing_was_made_is_deleted_with_its_upload(client: Any) -> None:
    backend = backend_of(client)
    for state in STATES:
        backend.objects.put("uploads/up_1", b"archive")
        with backend.catalog.session() as session:
            session.add(Dataset(id="ds", name="x", state=state, upload_key="uploads/up_1"))
        assert client.delete("/api/v1/datasets/ds").status_code == 204, state
        assert_problem(client.get("/api/v1/datasets/ds"), 404)
        assert not backend.objects.exists("uploads/up_1")


def test_a_refused_upload_leaves_nothing(client: Any) -> None:
    made = client.post("/api/v1/datasets", json={"name": "x"}).json()["id"]
    for content in (b"", b"no archive at all"):
        assert_problem(client.post(f"/api/v1/datasets/{made}/archive", content=content), 422)
    assert client.get(f"/api/v1/datasets/{made}").json()["state"] == "empty"
    assert backend_of(client).objects.list("uploads/") == []
    for uri in (
        "file:///etc",
        "/etc",
        "s3://",
        "s3:///key",
        "s3://b?x",
        "file://[",
        "file:///a%00b",
        "file:///" + "x" * 4000,
    ):
        assert_problem(client.post(f"/api/v1/datasets/{made}/location", json={"uri": uri}), 422)


def test_files_of_a_manifest_answer_ranges_and_conditions(client: Any) -> None:
    stored(client)
    address, content = "/api/v1/manifests/mf/samples.parquet", b"PAR1 samples PAR1"
    whole = client.get(address)
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    assert (whole.content, whole.headers["content-length"], whole.headers["etag"]) == (content, "17", etag)
    part = client.get(address, headers={"range": "bytes=5-11"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"samples", "bytes 5-11/17")
    assert client.get(address, headers={"range": "bytes=0-1,3-4"}).content == content
    outside = client.get(address, headers={"range": "bytes=17-"})
    assert_problem(outside, 416)
    assert outside.headers["content-range"] == "bytes */17"
    assert client.get(address, headers={"range": "bytes=0-3", "if-range": etag}).status_code == 206
    assert client.get(address, headers={"range": "bytes=0-3", "if-range": '"other"'}).content == content
    assert client.get(address, headers={"if-none-match": etag}).status_code == 304
    assert "has no file" in assert_problem(client.get("/api/v1/manifests/mf/features.npy"), 404)["detail"]
    described = client.get("/api/v1/manifests/mf/manifest.json")
    assert described.headers["etag"] == f'"{hashlib.sha256(described.content).hexdigest()}"'


def test_static_files_are_named_by_their_content(client: Any) -> None:
    first = client.get("/static/app.js")
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["content-type"].startswith("text/javascript")
    assert client.get("/static/app.js", headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert client.get("/static/jobs.js").headers["etag"] != first.headers["etag"]


def test_a_server_that_cannot_store_is_not_ready(client: Any) -> None:
    assert client.get("/readyz").json() == {"status": "ok"}
    folder = backend_of(client).objects.local_path("ready")
    assert folder is not None
    folder.unlink()
    folder.mkdir()
    (folder / "in-the-way").touch()
    answer = client.get("/readyz")
    assert (answer.status_code, list(answer.json())) == (503, ["status", "objects"])
    assert client.get("/healthz").status_code == 200
