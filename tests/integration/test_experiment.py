"""`tamis experiment` as it is typed: from images to runs, a report and plots; killed, it goes on where it was."""

import json
import os
import time
from pathlib import Path
from typing import Any

import forked
import pyarrow.parquet as pq
import pytest
from samples import digit_files, write_folder

from tamis.commands.cli import main
from tamis.manifest import read_manifest

COUNT = 120
SHORT = ["--steps", "3", "--batch-size", "16", "--image-size", "16", "--classes", "5"]
ARMS = {
    *("baseline 0.1", "baseline 0.2", "baseline 0.4", "remove", "random"),
    *("auto", "auto-all", "auto-random", "temperature", "temperature-all", "temperature-random"),
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("digits"), digit_files(COUNT))


def typed(source: Path, out: Path, *more: str) -> list[str]:
    return ["experiment", str(source), "-o", str(out), *SHORT, "--quiet", *more]


def runs(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "runs.parquet").to_pylist()
    return rows


def test_an_experiment_runs_its_controls_reports_and_takes_more_seeds(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(typed(digits, out, "--arms", "remove,temperature,auto", "--seeds", "2", "--json")) == 0
    shown = capsys.readouterr().out.splitlines()
    told = json.loads(shown[-1])
    rows = runs(out)
    assert {(row["arm"], row["seed"]) for row in rows} == {(arm, seed) for arm in ARMS for seed in (0, 1)}
    assert len(rows) == told["runs"] == 2 * len(ARMS)
    assert {row["steps"] for row in rows} == {3}
    # A fifth is never trained on, and what auto chose was trained once.
    by_arm = {(row["arm"], row["seed"]): row for row in rows}
    assert by_arm["remove", 0]["samples"] < by_arm["temperature", 0]["samples"] < 0.9 * COUNT
    assert by_arm["auto", 1]["encoder"] == by_arm["temperature", 1]["encoder"]
    assert by_arm["temperature", 1]["encoder"] != by_arm["temperature-all", 1]["encoder"]
    assert set(told["verdicts"]) == {"remove", "temperature", "auto"}
    report = (out / "report.md").read_text()
    for arm in ARMS:
        assert f"\n| {arm} |" in report
    for name, sentences in told["verdicts"].items():
        assert f"**{name}.** Linear probe: {sentences['linear']}." in report
        assert f"{name}: linear probe {sentences['linear']}" in "\n".join(shown)
    assert (out / "experiment.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (out / "experiment.svg").read_bytes()
    before = (out / "experiment.svg").read_bytes()
    assert main(typed(digits, out, "--arms", "remove", "--seeds", "3")) == 0
    assert len(runs(out)) == 2 * len(ARMS) + 5
    assert runs(out)[: len(rows)] == rows
    assert "3 seeds an arm" in (out / "report.md").read_text()
    assert (out / "experiment.svg").read_bytes() != before
    assert not (out / "checkpoint.pt").exists()


def test_a_killed_experiment_counts_no_run_twice_and_ends_in_the_same_numbers(digits: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    short = ["--arms", "margin", "--seeds", "2"]
    assert main(typed(digits, whole, *short)) == 0
    with (tmp_path / "told").open("wb") as told:
        process = forked.fork(typed(digits, cut, *short), told, told, os.environ)
    try:
        while process.poll() is None and not (cut / "runs.parquet").is_file():
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert 0 < len(runs(cut)) < len(runs(whole)), "it had ended before it was killed"
    assert main(typed(digits, cut, *short)) == 0
    assert [drop(row) for row in runs(cut)] == [drop(row) for row in runs(whole)]


def drop(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_a_test_source_is_tested_on_and_labels_that_do_not_fit_are_told(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = write_folder(tmp_path / "test", digit_files(200)[150:])
    others = write_folder(tmp_path / "others", tuple((f"class {name}", data) for name, data in digit_files(60)))
    arms = ["--arms", "baseline", "--seeds", "2"]
    assert main(typed(digits, tmp_path / "out", *arms, "--test", str(test))) == 0
    assert {row["samples"] for row in runs(tmp_path / "out")} == {COUNT}
    (tmp_path / "plain.toml").write_text("flip = 0.0\n")
    plain = [*arms, "--test", str(test), "--augmentations", str(tmp_path / "plain.toml")]
    assert main(typed(digits, tmp_path / "out", *plain)) == 1
    assert main(typed(digits, tmp_path / "plain", *plain)) == 0
    used = json.loads(pq.read_schema(tmp_path / "plain" / "runs.parquet").metadata[b"tamis"])["recipe"]["augmentation"]
    assert (used["flip"], used["scale"]) == (0.0, [0.2, 1.0])
    capsys.readouterr()
    assert main(typed(digits, tmp_path / "out", *arms)) == 1
    assert "holds the runs of another experiment" in capsys.readouterr().err
    assert main(typed(digits, tmp_path / "other", *arms, "--test", str(others))) == 2
    assert "of those that the images to train on have" in capsys.readouterr().err
    assert not (tmp_path / "other" / "runs.parquet").exists()


def test_images_are_mixed_removed_and_compared_with_none_mixed(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(typed(digits, out, "--arms", "baseline", "--seeds", "2", "--mixed", "0.2")) == 0
    rows = runs(out / "mixed" / "0.2")
    removed = {row["arm"]: row["samples"] for row in rows}
    assert len(rows) == 8
    assert {*removed} == {"kept", *(f"removed by {means}" for means in ("score", "chance", "knowledge"))}
    assert len({removed[f"removed by {means}"] for means in ("score", "chance", "knowledge")}) == 1
    assert removed["removed by score"] == round(0.8 * removed["kept"])
    assert [row["arm"] for row in runs(out / "mixed" / "0")] == ["kept", "kept"]
    report = (out / "report.md").read_text()
    assert report.count("\n| 20% | ") == 4
    assert main(typed(digits, out, "--arms", "baseline", "--seeds", "2", "--mixed", "0.2")) == 0
    assert (out / "report.md").read_text() == report


def test_arms_of_the_literature_are_run_beside_the_baselines(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(typed(digits, out, "--arms", "debiased,hard,eliminated,sas,forgetting", "--seeds", "2")) == 0
    rows = [row for row in runs(out) if row["seed"] == 0]
    assert [row["arm"] for row in rows][3:] == ["debiased", "hard", "eliminated", "sas", "forgetting"]
    assert len({row["encoder"] for row in rows}) == 8
    assert rows[-1]["samples"] == rows[-2]["samples"] < rows[-3]["samples"]
    report = (out / "report.md").read_text()
    assert "`hard` is that of Robinson et al. 2021" in report
    assert "- **sas.** Linear probe:" in report


def test_what_varies_is_run_at_each_value_and_compared_with_the_baseline(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    swept = ["--sweep", "removed=0.1,0.5", "--sweep", "pos_high=0.3", "--sweep", "pos_low=0.6"]
    assert main(typed(digits, out, "--arms", "baseline", "--seeds", "2", *swept)) == 0
    trained = runs(out)[0]["samples"]
    for share in (0.1, 0.5):
        rows = [row for row in runs(out / "sweeps" / f"removed {share}") if row["seed"] == 1]
        assert [row["arm"] for row in rows] == ["by score", "by chance", "by SAS", "by 10-NN distance"]
        assert len({row["encoder"] for row in rows}) == 4
        assert {row["samples"] for row in rows} == {rows[0]["samples"]}
        assert rows[0]["samples"] == pytest.approx((1 - share) * trained, abs=8)
    cut = {
        name: read_manifest(out / "sweeps" / name / "manifests" / "temperature").description["thresholds"]
        for name in ("pos_high 0.3", "pos_low 0.6")
    }
    assert cut["pos_high 0.3"]["pos_high"] == pytest.approx(0.3, abs=0.01)
    assert cut["pos_low 0.6"]["pos_low"] == pytest.approx(0.6, abs=0.01)
    report = (out / "report.md").read_text()
    assert report.count("\n| 0.1 | by ") == report.count("\n| 0.5 | by ") == 4
    assert "\n| 0.3 | temperature-random | " in report
    for name in ("removed", "pos_high", "pos_low"):
        assert b"<svg" in (out / f"{name}.svg").read_bytes()
        assert f"]({name}.svg)" in report


def test_arms_and_controls_are_run_by_moco(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(typed(digits, out, "--arms", "auto,hard", "--seeds", "2", "--method", "moco")) == 0
    assert len({row["encoder"] for row in runs(out) if row["seed"] == 0}) == 7
    assert "method moco, loss infonce" in (out / "report.md").read_text()


def test_without_labels_nothing_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = write_folder(tmp_path / "plain", tuple((name.replace("/", "-"), data) for name, data in digit_files(40)))
    assert main(typed(plain, tmp_path / "out", "--arms", "auto")) == 2
    assert "can only be judged with labels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arms", "removal"], "There is no arm 'removal'. Use some of baseline, remove"),
        (["--arms", ","], "No arm is named"),
        (["--arms", "hard", "--loss", "spectral"], "The arm hard is a rule on infonce"),
        (["--arms", "forgetting", "--method", "moco"], "The arm forgetting counts what SimCLR forgets"),
        (["--method", "moco", "--loss", "spectral"], "moco does not learn by the loss spectral"),
        (["--method", "simsiam", "--arms", "auto"], "SimSiam compares an image with itself alone, so the arm auto"),
        (["--recipe", "cifar"], "There is no recipe cifar"),
        (["--augmentations", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--seeds", "1"], "An interval takes 2 or more"),
        (["--test", "nowhere"], "There is no nowhere"),
        (["--encoder", "vgg"], "vgg"),
        (["--encoder", "checkpoint:nowhere.pt"], "There is no file nowhere.pt"),
        (["--sweep", "removed=1.5"], "removed=1.5 is nothing to vary. Use removed, pos_high, pos_low"),
        (["--sweep", "share=0.5"], "share=0.5 is nothing to vary"),
        (["--sweep", "pos_low=0.5", "--method", "simsiam", "--arms", "remove"], "another band would change nothing"),
        (["--mixed", "0.9"], "0.9 is no list of shares"),
        (["--mixed", "0.1", "--encoder", f"embeddings:{__file__}"], "none of mixed images"),
        (["--epochs", "2"], "one of them"),
    ],
    ids=[
        "arm",
        "no arm",
        "loss",
        "forgetting",
        "method",
        "no pairs",
        "recipe",
        "augmentations",
        "one seed",
        "test",
        "encoder",
        "checkpoint",
        "value",
        "sweep",
        "sweep without pairs",
        "share",
        "embeddings",
        "two lengths",
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    digits: Path, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed(digits, tmp_path / "out", *options)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
