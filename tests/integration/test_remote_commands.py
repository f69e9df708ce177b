"""The commands that talk to a server, or run one: each ends with one JSON object, and a refusal says why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from harness import Server, await_line, tamis_process, until
from samples import digit_embeddings, digit_files, write_folder
from torchvision.models import resnet18

import tamis
from tamis.commands.cli import main

COUNT = 60
OWN = ["--encoder", "embeddings:embeddings.npy"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `photos` and `embeddings.npy`."""
    write_folder(tmp_path / "photos", digit_files(COUNT))
    np.save(tmp_path / "embeddings.npy", digit_embeddings(COUNT))
    monkeypatch.chdir(tmp_path)


def last_json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


@pytest.fixture
def run(server: Server, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs a command against the server; returns what it ends with."""

    def ended(*arguments: str) -> dict[str, Any]:
        assert main([*arguments, "--server", server.url, "--json"]) == 0
        return last_json(capsys.readouterr().out)

    return ended


def test_upload_curate_and_download_from_a_server(
    run: Callable[..., dict[str, Any]], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*OWN, "--classes", "10", "--seed", "3", "--strategy", "margin", "-o", "at once"]
    made = run("upload", "photos", "--name", "from the command line", "--curate", *asked, "--quiet")
    assert made["parameters"] | {"encoder": "embeddings", "classes": 10, "seed": 3} == made["parameters"]
    assert tamis.read_manifest(tmp_path / "at once").description["strategy"] == "margin"
    assert made["dataset"] in {row["id"] for row in run("datasets")["datasets"]}
    assert run("datasets", "show", made["dataset"])["samples"] == COUNT
    assert made["id"] in {row["id"] for row in run("curations")["curations"]}
    assert run("curations", "show", made["id"])["result"] == made["result"]
    pairs = run("curations", "pairs", made["id"], "--limit", "3")["pairs"]
    assert [pair["difficulty"] for pair in pairs] == sorted((pair["difficulty"] for pair in pairs), reverse=True)
    assert len(pairs) == 3
    combined = run("manifest", made["id"], "-o", str(tmp_path / "combined"), "--strategy", "combined", "--quiet")
    assert tamis.read_manifest(combined["path"]).description["counts"] == combined["counts"]
    of_mine = [row for row in run("manifests")["manifests"] if row["curation"] == made["id"]]
    (latest,) = [row for row in of_mine if row["parameters"]["strategy"] == "combined"]
    run("manifest", latest["id"], "-o", str(tmp_path / "again"), "--quiet")
    assert main(["manifest", latest["id"], "-o", str(tmp_path / "again"), "--server", server.url]) == 1
    sent = ["upload", str(tmp_path), "--name", "x", "--curate", "-o", str(tmp_path / "again"), "--server", server.url]
    assert main(sent) == 2
    sent[1] = str(tmp_path / "combined")
    assert main(sent) == 1
    assert capsys.readouterr().err.count("again holds a manifest. Choose another folder with -o, or replace it") == 2
    run("manifest", latest["id"], "-o", str(tmp_path / "again"), "--force", "--quiet")
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (tmp_path / "combined" / "manifest.json").read_bytes()
    assert {made["dataset"], made["id"], latest["id"]} <= {row["id"] for row in run("jobs")["jobs"]}
    assert main(["manifest", "cu_nonesuch", "-o", str(tmp_path / "none"), "--server", server.url]) == 1
    assert "cu_nonesuch" in capsys.readouterr().err


def test_an_encoder_of_this_machine_is_sent_and_a_job_of_the_server_is_cancelled(
    run: Callable[..., dict[str, Any]], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(resnet18().state_dict(), tmp_path / "weights.pth")
    dataset = run("upload", "photos", "--name", "to delete", "--quiet")["id"]
    left_out = tmp_path / "broken"
    write_folder(left_out, digit_files(8))
    (left_out / "broken.png").write_bytes(b"no image")
    broken = run("upload", str(left_out), "--name", "broken", "--quiet")["id"]
    assert [row["name"] for row in run("datasets", "show", broken)["quarantine"]] == ["broken.png"]
    sent = run("encoders", "send", str(tmp_path / "weights.pth"))
    assert sent["encoder"] in {row["encoder"] for row in run("encoders")["encoders"]}
    asked = ["--encoder", f"checkpoint:{tmp_path / 'weights.pth'}", "--classes", "2", "--quiet"]
    made = run("curations", "create", broken, *asked)
    assert made["parameters"]["encoder"] == sent["encoder"]
    manifest = run("manifest", made["id"], "-o", str(tmp_path / "manifest"), "--quiet")
    assert manifest["counts"]["samples"] == 8
    (row,) = [row for row in run("manifests")["manifests"] if row["curation"] == made["id"]]
    trained = run("trainings", "create", row["id"], "--steps", "2", "--baseline", "--quiet")
    assert run("trainings", "show", trained["id"])["result"] == trained["result"]
    assert trained["id"] in {row["id"] for row in run("trainings")["trainings"]}
    long = server.client.curate(broken, steps=100_000)["id"]
    assert run("curations", "cancel", long)["state"] == "cancelled"
    endless = server.client.train(row["id"], steps=100_000)["id"]
    assert run("trainings", "cancel", endless)["state"] == "cancelled"
    assert run("datasets", "delete", dataset) == {"id": dataset, "deleted": True}
    assert dataset not in {row["id"] for row in run("datasets")["datasets"]}
    assert main(["datasets", "delete", broken, "--server", server.url]) == 1
    assert "cascade" in capsys.readouterr().err


def test_a_server_that_others_can_reach_asks_for_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"

    def keys(*arguments: str) -> dict[str, Any]:
        assert main(["keys", *arguments, "--data", str(data), "--json"]) == 0
        return last_json(capsys.readouterr().out)

    made = keys("create", "laptop")
    (listed,) = keys("list")["keys"]
    assert (listed["id"], listed["name"], listed["revoked"]) == (made["id"], "laptop", False)
    assert made["key"].startswith(listed["prefix"])
    arguments = ("serve", "--host", "0.0.0.0", "--port", "0", "--no-worker", "--data", str(data))
    with tamis_process(*arguments, data=data) as (running, log):
        url = await_line(log, r"Tamis serves (\S+),", running).replace("0.0.0.0", "127.0.0.1")
        call = ["datasets", "--server", url, "--json"]
        assert main(call) == 1
        out, err = capsys.readouterr()
        assert last_json(out)["error"]["type"] == "unauthenticated"
        assert "tamis keys create" in err
        assert main([*call, "--api-key", made["key"]]) == 0
        assert last_json(capsys.readouterr().out) == {"datasets": []}
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TAMIS_API_KEY", made["key"])
            assert main(call) == 0
        page = httpx.get(url)
        assert (page.status_code, page.headers["location"]) == (303, "/login?next=/")
        keys("revoke", made["id"])
        assert keys("list")["keys"][0]["revoked"]
        until(lambda: main([*call, "--api-key", made["key"]]) == 1, 5, "the key to be refused")
    assert main(["keys", "revoke", "key_nonesuch", "--data", str(data)]) == 1
    assert "tamis keys list" in capsys.readouterr().err


def test_an_address_in_use_is_refused(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = server.url.rsplit(":", 1)[1]
    assert main(["serve", "--port", port, "--data", str(tmp_path / "data")]) == 1
    assert "Choose another --port" in capsys.readouterr().err
