"""Experiments over REST: asked for, watched, cancelled and gone on with, and what they say."""

from typing import Any

import httpx
import pytest
from harness import Server, until
from samples import digit_files, write_tar

SHORT = {"steps": 3, "batch_size": 16, "image_size": 16, "architecture": "small"}


@pytest.fixture(scope="module")
def curation(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    archive = write_tar(tmp_path_factory.mktemp("digits") / "digits.tar", digit_files(120))
    dataset = server.client.upload(archive, "digits")["id"]
    server.client.wait(f"/datasets/{dataset}", timeout=60)
    made = server.client.curate(dataset, steps=3, image_size=16, architecture="small", classes=5)
    done = server.client.wait(f"/curations/{made['id']}", timeout=120)
    return str(done["id"])


def api(server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"{server.url}/api/v1", timeout=30)


def rows(server: Server, experiment: str) -> list[dict[str, Any]]:
    with api(server) as client:
        found: list[dict[str, Any]] = client.get(f"/trainings/{experiment}/runs").json()["items"]
    return found


def test_an_experiment_says_whether_an_arm_pays(server: Server, curation: str) -> None:
    asked = server.client.experiment(curation, arms=["remove"], seeds=2, **SHORT)
    assert (asked["manifest"], asked["curation"]) == (None, curation)
    done = server.client.wait(f"/trainings/{asked['id']}", timeout=180)
    arms = ["baseline 0.1", "baseline 0.2", "baseline 0.4", "remove", "random"]
    assert done["result"]["arms"] == arms
    found = rows(server, asked["id"])
    assert {(row["arm"], row["seed"]) for row in found} == {(arm, seed) for arm in arms for seed in (0, 1)}
    by_run = {(row["arm"], row["seed"]): row for row in found}
    assert by_run["remove", 0]["samples"] < by_run["baseline 0.2", 0]["samples"] < 120
    sentence = done["result"]["verdicts"]["remove"]["linear"]
    assert f"**remove.** Linear probe: {sentence}." in done["result"]["report"]
    (removed, by_chance) = done["result"]["compared"]["linear"]
    assert (removed["arm"]["name"], by_chance["arm"]["of"]) == ("remove", "remove")
    differences = [100 * (by_run["remove", seed]["linear"] - by_run["baseline 0.2", seed]["linear"]) for seed in (0, 1)]
    assert removed["seeds"] == pytest.approx(differences)
    with api(server) as client:
        curves = client.get(f"/trainings/{asked['id']}/curves").json()["curves"]
        assert {name.rpartition("/")[0] for name in curves} == {f"{arm}/{seed}" for arm in arms for seed in (0, 1)}
        listed = client.get("/trainings", params={"curation": curation}).json()["items"]
        assert [each["id"] for each in listed] == [asked["id"]]
        told = client.delete(f"/curations/{curation}")
        assert told.status_code == 409
        assert asked["id"] in told.json()["detail"]


def test_a_cancelled_experiment_goes_on_where_it_was(server: Server, curation: str) -> None:
    asked = server.client.experiment(curation, arms=["baseline"], seeds=3, **{**SHORT, "steps": 15})["id"]
    until(lambda: rows(server, asked), 120, "the first run")
    with api(server) as client:
        assert client.post(f"/jobs/{asked}/cancel").status_code == 202
        before = rows(server, asked)
        assert 0 < len(before) < 9
        assert client.post(f"/jobs/{asked}/retry").status_code == 202
    server.client.wait(f"/trainings/{asked}", timeout=180)
    after = rows(server, asked)
    assert len(after) == 9
    assert [
        row for row in after if (row["arm"], row["seed"]) in {(own["arm"], own["seed"]) for own in before}
    ] == before


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "name a manifest to train on"),
        ({"manifest": "mf_x", "curation": "cu_x"}, 422, "name a manifest to train on"),
        ({"manifest": "mf_x", "arms": ["remove"]}, 422, "arms: of no use to a training on a manifest"),
        ({"curation": "cu_x", "baseline": True}, 422, "baseline: of no use to an experiment"),
        ({"curation": "cu_x", "arms": ["none such"]}, 422, "arms"),
        ({"curation": "cu_x", "seeds": 1}, 422, "seeds"),
        ({"curation": "cu_x"}, 404, "There is no curation cu_x"),
        ({"dataset": "ds_x"}, 404, "There is no dataset ds_x"),
    ],
)
def test_what_cannot_be_is_refused_at_once(server: Server, body: dict[str, Any], status: int, says: str) -> None:
    with api(server) as client:
        answer = client.post("/trainings", json=body)
    assert answer.status_code == status
    assert says in answer.text
