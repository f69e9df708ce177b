"""The container files say what the program takes: commands, variables, addresses, folders. No engine is needed."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
import yaml
from harness import parsed

from tamis.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
AWS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def composed(**variables: str) -> dict[str, Any]:
    """docker-compose.yml with `${NAME:-default}` filled in."""
    text = (ROOT / "docker-compose.yml").read_text()
    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1], found[2]), text)
    assert "$" not in filled
    document: dict[str, Any] = yaml.safe_load(filled)
    return document


def ours(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: row for name, row in document["services"].items() if row["image"].startswith("tamis:")}


def instruction(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.M)


@pytest.mark.parametrize("name", ["service", "worker-cpu", "worker-gpu"])
def test_a_service_is_started_with_a_command_and_settings_that_exist(name: str) -> None:
    row = ours(composed())[name]
    options = parsed(shlex.split(row["command"]))
    if name == "service":
        assert (options["host"], options["port"], options["no_worker"]) == ("0.0.0.0", 8080, True)
    environment = dict(row["environment"])
    for variable in AWS:
        environment.pop(variable)
    settings = Settings(**{variable.removeprefix("TAMIS_").lower(): value for variable, value in environment.items()})
    assert all(variable.startswith("TAMIS_") for variable in environment)
    assert settings.objects == "s3://tamis"


def test_every_queue_has_a_worker() -> None:
    from tamis.store.jobs import QUEUES

    rows = ours(composed())
    assert "worker-cpu" in rows
    taken = parsed(shlex.split(rows["worker-cpu"]["command"]))["queues"].split(",")
    assert set(taken) == set(QUEUES)


@pytest.mark.parametrize("variables", [{}, {"TAMIS_DB_PASSWORD": "other", "TAMIS_S3_SECRET": "another"}])
def test_addresses_and_secrets_agree(variables: dict[str, str]) -> None:
    document = composed(**variables)
    services = document["services"]
    database, identities = services["database"]["environment"], json.loads(document["configs"]["s3"]["content"])
    for row in ours(document).values():
        url = sa.make_url(row["environment"]["TAMIS_DATABASE_URL"])
        assert services[url.host or ""] is services["database"]
        assert (url.username, url.password, url.database) == tuple(
            database[name] for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB")
        )
        endpoint = urlsplit(row["environment"]["TAMIS_S3_ENDPOINT"])
        assert services[endpoint.hostname or ""]["command"].split()[0] == "server"
        (key,) = identities["identities"][0]["credentials"]
        assert (key["accessKey"], key["secretKey"]) == tuple(row["environment"][name] for name in sorted(AWS))
        bucket = row["environment"]["TAMIS_OBJECT_STORE"].removeprefix("s3://")
        assert f"s3.bucket.create -name {bucket}" in services["bucket"]["entrypoint"][-1]


def test_whatever_is_referred_to_is_declared() -> None:
    document = composed()
    for row in document["services"].values():
        assert set(row.get("depends_on", ())) <= set(document["services"])
        assert {volume.split(":")[0] for volume in row.get("volumes", ())} <= set(document["volumes"])
        assert {config["source"] for config in row.get("configs", ())} <= set(document["configs"])
    for row in ours(document).values():
        extra = row["image"].removeprefix("tamis:")
        assert extra in PROJECT["project"]["optional-dependencies"]
        built = [other["build"]["args"]["EXTRA"] for other in ours(document).values() if "build" in other]
        assert extra in built


def test_the_dashboard_is_published_on_loopback_only() -> None:
    assert composed()["services"]["service"]["ports"] == ["127.0.0.1:8080:8080"]


def test_the_image_holds_every_package_and_starts_a_command_that_exists() -> None:
    copied = {word for line in instruction("COPY") for word in line.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    needed = {*PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml", "README.md"}
    assert needed - copied == set()
    assert json.loads(instruction("ENTRYPOINT")[0]) == ["tamis"]
    options = parsed(json.loads(instruction("CMD")[0]))
    assert f"{options['port']}" in instruction("EXPOSE")
    assert f"127.0.0.1:{options['port']}/healthz" in instruction("HEALTHCHECK")[0]
    variables = {word.split("=")[0] for line in instruction("ENV") for word in line.split()}
    settings = {name.removeprefix("TAMIS_").lower() for name in variables if name.startswith("TAMIS_")}
    assert settings <= set(Settings.model_fields)
    assert variables - {"PYTHONUNBUFFERED"} == {f"TAMIS_{name.upper()}" for name in settings}


def test_the_image_leaves_no_local_data_or_history_in_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "demo-out", "tamis-data"} <= set(ignored)
