"""Requests that mean harm, as docs/security.md lists them: each is refused early, and none is answered by 500."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from test_service_requests import assert_problem, backend_of, client_of, stored

from service.keys import SCOPES, create_key
from service.requests import MAX_BODY
from tamis.settings import Settings
from tamis.store.schema import now

# Starlette would rather have another HTTP client, which nothing else here needs.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")

JSON = {"content-type": "application/json"}


def cursor(content: str) -> str:
    return base64.urlsafe_b64encode(content.encode()).decode()


@pytest.fixture
def client(settings: Settings) -> Iterator[Any]:
    with client_of(settings) as client:
        stored(client)
        yield client


@pytest.mark.parametrize("path", ["datasets", "curations", "datasets/ds/archive", "nonesuch"])
def test_without_a_key_nothing_of_a_body_is_read(sqlite_url: str, tmp_path: Path, path: str) -> None:
    read = []
    with client_of(Settings(data=tmp_path, database_url=sqlite_url), require_key=True) as client:
        app = client.app

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            async def reading() -> Any:
                read.append(path)
                return await receive()

            await app(scope, reading, send)

        client._transport.app = watched
        assert_problem(client.post(f"/api/v1/{path}", content=b"{" * 10_000_000, headers=JSON), 401)
    assert read == []


def test_a_body_of_json_is_bounded(client: Any) -> None:
    largest = json.dumps({"name": "x"})
    fits = largest + " " * (MAX_BODY - len(largest))
    assert client.post("/api/v1/datasets", content=fits, headers=JSON).status_code == 201
    assert_problem(client.post("/api/v1/datasets", content=fits + " ", headers=JSON), 413)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_body_of_another_type_is_refused(client: Any, kind: str) -> None:
    assert_problem(client.post("/api/v1/datasets", content='{"name": "x"}', headers={"content-type": kind}), 415)


@pytest.mark.parametrize(
    "content",
    ['{"after": "\\ud800"}', '{"after": true}', '{"after": "\\u0000"}', '{"after": [1]}', '{"after": 1e99}', "[" * 300],
)
def test_a_cursor_is_one_of_ours(client: Any, content: str) -> None:
    for path in ("datasets", "curations", "manifests", "trainings", "encoders", "uploads"):
        assert_problem(client.get(f"/api/v1/{path}", params={"cursor": cursor(content)}), 422)


def test_an_offset_is_a_number(client: Any) -> None:
    for content in ('{"offset": true}', '{"offset": 1.0}', '{"offset": "1"}', '{"offset": -1}'):
        answer = client.get("/api/v1/curations/cu/pairs", params={"cursor": cursor(content)})
        assert_problem(answer, 422)


def test_an_address_is_of_printable_letters(client: Any) -> None:
    tus = {"tus-resumable": "1.0.0"}
    for name in ("%00", "a%00b", "%1b[2J", "%0a", "%ed%a0%80"):
        for prefix in ("uploads", "datasets", "curations", "manifests", "trainings", "jobs"):
            assert client.get(f"/api/v1/{prefix}/{name}").status_code in (404, 405)
        assert client.head(f"/api/v1/uploads/{name}", headers=tus).status_code == 404
        assert client.delete(f"/api/v1/uploads/{name}", headers=tus).status_code == 404


def test_a_name_is_bounded_and_printable(client: Any) -> None:
    for name in ("\x1b[2J", "a\nb", "\u202egnp.exe", "x" * 5000):
        assert_problem(client.post("/api/v1/datasets", json={"name": name}), 422)
    assert client.post("/api/v1/datasets", json={"name": "  Ümläute 数  "}).json()["name"] == "Ümläute 数"
    assert_problem(client.post("/api/v1/curations", json={"dataset": "ds", "encoder": "file:" + "x" * 5000}), 422)


def test_what_is_unknown_is_refused_and_named(client: Any) -> None:
    answer = client.get("/api/v1/datasets", params={"limitt": "3"})
    assert "'limitt'" in assert_problem(answer, 422)["detail"]
    assert "cursor, limit" in answer.json()["detail"]
    assert_problem(client.post("/api/v1/datasets", json={"name": "x", "nmae": "y"}), 422)
    assert client.get("/api/v1/datasets", params={"limit": "3"}).status_code == 200


def test_a_message_shows_nothing_of_the_validator(client: Any) -> None:
    asked = {"dataset": "ds", "classes": "many", "pos_high": 7, "image_size": "big", "epochs": "long"}
    problem = assert_problem(client.post("/api/v1/curations", json=asked), 422)
    assert {each["field"] for each in problem["fields"]} == {"classes", "pos_high", "image_size", "epochs"}
    for inside in ("literal[", "constrained", "Value error", "function-"):
        assert inside not in json.dumps(problem)


def test_a_key_may_what_its_scope_says_and_no_longer_than_it_lasts(sqlite_url: str, tmp_path: Path) -> None:
    with client_of(Settings(data=tmp_path, database_url=sqlite_url), require_key=True) as client:
        catalog = backend_of(client).catalog
        made: dict[str, list[int]] = {}
        for scope in SCOPES:
            _, key = create_key(catalog, scope, scope)
            sent = {"authorization": f"Bearer {key}"}
            answers = [
                client.get("/api/v1/datasets", headers=sent),
                client.post("/api/v1/datasets", json={"name": scope}, headers=sent),
                client.delete("/api/v1/uploads/up_1", headers={**sent, "tus-resumable": "1.0.0"}),
                client.delete("/api/v1/datasets/ds_1", headers=sent),
            ]
            made[scope] = [answer.status_code for answer in answers]
        assert made == {
            "read": [200, 403, 403, 403],
            "write": [200, 201, 404, 403],
            "admin": [200, 201, 404, 404],
        }
        _, ended = create_key(catalog, "ended", "admin", now() - timedelta(seconds=1))
        assert_problem(client.get("/api/v1/datasets", headers={"authorization": f"Bearer {ended}"}), 401)
        _, lasting = create_key(catalog, "lasting", "admin", now() + timedelta(hours=1))
        assert client.get("/api/v1/datasets", headers={"authorization": f"Bearer {lasting}"}).status_code == 200


def test_the_description_tells_of_problems_keys_and_bodies(client: Any) -> None:
    document = client.get("/api/openapi.json").json()
    assert "HTTPValidationError" not in json.dumps(document)
    assert set(document["components"]["securitySchemes"]) == {"key", "cookie"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            refused = operation["responses"]["4XX"]["content"]
            assert list(refused) == ["application/problem+json"], (method, path)
            assert ("security" in operation) == path.startswith("/api/v1/"), path
    for path in ("datasets/{dataset_id}/archive", "datasets/{dataset_id}/embeddings", "encoders"):
        assert "application/octet-stream" in document["paths"][f"/api/v1/{path}"]["post"]["requestBody"]["content"]
