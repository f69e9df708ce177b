"""The container files say what the program takes: commands, variables, addresses, folders, secrets.

They confine what they start. No engine is needed; `make rehearse` starts the containers.
"""

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

from tamis.settings import SECRETS, Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = ("cpu", "gpu")


def composed(file: str) -> dict[str, Any]:
    """A file of Docker Compose with the defaults of `${NAME:-default}` filled in."""
    filled = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / file).read_text())
    assert "$" not in filled.replace("$$", "")
    document: dict[str, Any] = yaml.safe_load(filled)
    return document


DEFAULT, BUCKET = composed("docker-compose.yml"), composed("docker-compose.s3.yml")
BOTH = pytest.mark.parametrize("document", [DEFAULT, BUCKET], ids=["default", "bucket"])


def ours(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of the services that run the program, which only the first file gives an image."""
    tamis = {name for name, row in DEFAULT["services"].items() if row["image"].startswith("tamis:")}
    return {name: row for name, row in document["services"].items() if name in tamis}


def instruction(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.M)


def stage(name: str) -> str:
    """A stage of the Dockerfile, with what it is built on."""
    base, body = re.findall(rf"^FROM (\S+) AS {name}\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.M | re.S)[0]
    return (stage(base) if f" AS {base}\n" in DOCKERFILE else "") + body


@pytest.mark.parametrize("name", ["service", "worker-cpu", "worker-gpu"])
def test_a_service_is_started_with_a_command_and_settings_that_exist(name: str) -> None:
    row = ours(DEFAULT)[name]
    options = parsed(shlex.split(row["command"]))
    if name == "service":
        assert (options["host"], options["port"], options["no_worker"]) == ("0.0.0.0", 8080, True)
    environment = row["environment"] | ours(BUCKET)[name]["environment"]
    assert environment.pop("AWS_ACCESS_KEY_ID") == "tamis"
    assert environment.pop("FORWARDED_ALLOW_IPS", None) == ("*" if name == "service" else None)
    settings = Settings(**{variable.removeprefix("TAMIS_").lower(): value for variable, value in environment.items()})
    assert all(variable.startswith("TAMIS_") for variable in environment)
    assert settings.objects == "s3://tamis"


def test_every_queue_has_a_worker() -> None:
    from tamis.store.jobs import QUEUES

    rows = ours(DEFAULT)
    assert "worker-cpu" in rows
    taken = parsed(shlex.split(rows["worker-cpu"]["command"]))["queues"].split(",")
    assert set(taken) == set(QUEUES)


def test_the_address_of_the_database_is_that_of_the_database() -> None:
    services = DEFAULT["services"]
    database = services["database"]["environment"]
    for row in ours(DEFAULT).values():
        url = sa.make_url(row["environment"]["TAMIS_DATABASE_URL"])
        assert services[url.host or ""] is services["database"]
        assert (url.username, url.database) == (database["POSTGRES_USER"], database["POSTGRES_DB"])


def test_the_bucket_is_made_and_opened_by_the_keys_that_the_program_has() -> None:
    services = BUCKET["services"]
    server = services["objects"]["entrypoint"][-1]
    (identity,) = json.loads(re.search(r"printf '(.*?)'", server, re.S)[1])["identities"]
    for row in ours(BUCKET).values():
        assert urlsplit(row["environment"]["TAMIS_S3_ENDPOINT"]).hostname == "objects"
        assert identity["credentials"] == [{"accessKey": row["environment"]["AWS_ACCESS_KEY_ID"], "secretKey": "%s"}]
        assert set(row["secrets"]) == set(services["objects"]["secrets"])
        bucket = row["environment"]["TAMIS_OBJECT_STORE"].removeprefix("s3://")
        assert f"s3.bucket.create -name {bucket}" in services["bucket"]["entrypoint"][-1]


@BOTH
def test_secrets_are_files_that_the_program_reads(document: dict[str, Any], tmp_path: Path) -> None:
    for name, secret in document["secrets"].items():
        assert secret["file"].startswith("./secrets/")
        (tmp_path / name).write_text(f"that of {name}\n")
        field = name.removeprefix("tamis_")
        assert getattr(Settings(_secrets_dir=tmp_path), field) == f"that of {name}"
        assert all(name in row["secrets"] for row in ours(document).values())
    for ignored in (".gitignore", ".dockerignore"):
        assert {"/secrets/", "secrets"} & set((ROOT / ignored).read_text().split())


@BOTH
def test_no_password_stands_in_a_file_or_a_variable(document: dict[str, Any]) -> None:
    for row in document["services"].values():
        for variable, value in row.get("environment", {}).items():
            assert not urlsplit(str(value)).password
            if re.search("PASSWORD|SECRET", variable):
                assert variable.endswith("_FILE")
                assert Path(value).parent == SECRETS
                assert Path(value).name in row["secrets"]


@BOTH
def test_whatever_is_referred_to_is_declared(document: dict[str, Any]) -> None:
    for name, row in document["services"].items():
        declared = {kind: DEFAULT[kind].keys() | document[kind].keys() for kind in ("services", "volumes", "secrets")}
        assert set(row.get("depends_on", ())) <= declared["services"]
        assert {volume.split(":")[0] for volume in row.get("volumes", ())} <= declared["volumes"]
        assert set(row.get("secrets", ())) <= declared["secrets"]
        assert "image" in row or name in ours(DEFAULT)
    built = [row["build"]["target"] for row in ours(DEFAULT).values() if "build" in row]
    for row in ours(DEFAULT).values():
        extra = row["image"].removeprefix("tamis:")
        assert extra in PROJECT["project"]["optional-dependencies"]
        assert extra in built


@BOTH
def test_every_image_is_one_release(document: dict[str, Any]) -> None:
    named = {row["image"] for row in document["services"].values() if "image" in row}
    stages = set(re.findall(r" AS (\S+)$", DOCKERFILE, re.M))
    bases = {line.split()[0] for line in instruction("FROM")} - stages
    for image in (named | bases) - {f"tamis:{target}" for target in TARGETS}:
        assert re.search(r":\d+\.\d+", image), image


@pytest.mark.parametrize("name", DEFAULT["services"])
def test_a_container_is_confined_and_watched(name: str) -> None:
    row = DEFAULT["services"][name]
    assert (row["read_only"], row["init"], row["cap_drop"]) == (True, True, ["ALL"])
    assert row["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in row["tmpfs"]
    assert row["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}
    assert "stop_grace_period" in row
    if name in ours(DEFAULT):
        assert instruction("HEALTHCHECK")
        test = row.get("healthcheck", {"test": None})["test"]
        assert (test is None) == (name == "service")
        assert test is None or parsed(test[2:])["worker"]
    else:
        assert row["user"] not in ("root", "0")
        assert row["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_run_by_a_user_who_may_write_in_its_volume_alone(target: str) -> None:
    built = stage(target)
    assert re.findall(r"^USER +(\S+)", built, re.M) == ["tamis"]
    assert built.rstrip().endswith("USER tamis")
    (volume,) = re.findall(r"^VOLUME +(\S+)", built, re.M)
    assert f"install -d -o tamis -g tamis {volume}" in built
    variables = dict(word.split("=", 1) for line in re.findall(r"^ENV +(.*)$", built, re.M) for word in line.split())
    for variable in ("TAMIS_DATA", "TMPDIR", "XDG_CACHE_HOME"):
        assert Path(variables[variable]).is_relative_to(volume)
    settings = {name.removeprefix("TAMIS_").lower() for name in variables if name.startswith("TAMIS_")}
    assert settings <= set(Settings.model_fields)
    for row in ours(DEFAULT).values():
        assert [mounted.split(":")[1] for mounted in row["volumes"]] == [volume]


def test_the_dashboard_is_published_on_loopback_only() -> None:
    published = {name: row["ports"] for name, row in DEFAULT["services"].items() if "ports" in row}
    assert published == {"service": ["127.0.0.1:8080:8080"]}


def test_the_image_holds_every_package_and_starts_a_command_that_exists() -> None:
    copied = {word for word in re.findall(r"^COPY (?!--from)(.*) \S+$", stage("wheel"), re.M) for word in word.split()}
    assert all((ROOT / name).exists() for name in copied)
    needed = {*PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml", "README.md"}
    assert needed - copied == set()
    assert json.loads(instruction("ENTRYPOINT")[0]) == ["tamis"]
    options = parsed(json.loads(instruction("CMD")[0]))
    assert f"{options['port']}" in instruction("EXPOSE")
    assert f"127.0.0.1:{options['port']}/healthz" in instruction("HEALTHCHECK")[0]


def test_the_image_leaves_no_local_data_or_history_in_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "demo-out", "tamis-data", "secrets"} <= set(ignored)


def test_what_stands_for_an_image_is_of_the_release_that_is_named() -> None:
    made = (ROOT / "tests/rehearse/Dockerfile").read_text()
    major = re.search(r"postgres:(\d+)", DEFAULT["services"]["database"]["image"])
    assert major is not None
    assert f"postgresql-{major[1]}" in made
