"""The command line: exit statuses, JSON for programs, messages that say what to do, silence in a pipe, keys."""

import io
import json
import subprocess
import sys
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from harness import Server, await_line, tamis_process, until
from samples import digit_embeddings, digit_files, write_folder, write_tar
from torchvision.models import resnet18

import tamis
from benchmarks.detect import run as detect_benchmark
from benchmarks.embed import run as embed_benchmark
from tamis.commands.cli import build_parser, main
from tamis.encoders.encoder import fingerprint, with_views
from tamis.encoders.files import load_encoder

COUNT = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and `embeddings.npy`, and with all that a user may give by mistake."""
    made = tmp_path_factory.mktemp("cli")
    write_folder(made / "photos", digit_files(COUNT))
    write_folder(made / "three", digit_files(3))
    (made / "empty").mkdir()
    (made / "text.txt").write_text("no archive")
    whole = write_tar(made / "photos.tar", digit_files(COUNT)).read_bytes()
    (made / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (made / "cut.zip").write_bytes(zip_bytes()[:-60])
    embeddings = digit_embeddings(COUNT)
    np.save(made / "embeddings.npy", embeddings)
    np.save(made / "three.npy", embeddings[:3])
    embeddings[17, 3] = np.nan
    np.save(made / "nan.npy", embeddings)
    return made


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def zip_bytes() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in digit_files(6):
            archive.writestr(name, content)
    return sink.getvalue()


def process(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "tamis.commands.cli", *arguments], capture_output=True, text=True)


def last_json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 2),
        (["nonesuch"], 2),
        (["curate", "photos"], 2),
        (["curate", "nonesuch", "-o", "out"], 2),
        (["datasets", "--server", "http://127.0.0.1:1"], 1),
    ],
)
def test_a_process_ends_with_0_done_1_failed_2_usage(arguments: list[str], status: int) -> None:
    assert process(*arguments).returncode == status


OWN = ["--encoder", "embeddings:embeddings.npy"]
BAD_INPUT = {
    "no such folder": (["curate", "nonesuch", "-o", "out"], ["nonesuch", "Give a folder"]),
    "empty folder": (["curate", "empty", "-o", "out"], ["empty", "Put images in it"]),
    "no archive": (["curate", "text.txt", "-o", "out"], ["text.txt", "zip, tar"]),
    "truncated zip": (["curate", "cut.zip", "-o", "out"], ["cut.zip"]),
    "truncated tar": (["curate", "cut.tar", "-o", "out"], ["cut.tar"]),
    "three images": (["curate", "three", "-o", "out"], ["3", "At least 4"]),
    "three embeddings": (["curate", "three", "-o", "out", "--encoder", "embeddings:three.npy"], ["3", "At least 4"]),
    "unknown encoder": (["curate", "photos", "-o", "out", "--encoder", "vgg"], ["vgg", "simclr"]),
    "no checkpoint": (
        ["curate", "photos", "-o", "out", "--encoder", "checkpoint:text.txt"],
        ["text.txt", "encoder.pt"],
    ),
    "no such embeddings": (["curate", "photos", "-o", "out", "--encoder", "embeddings:x.npy"], ["x.npy", "Give an"]),
    "other embeddings": (["curate", "photos", "-o", "out", "--encoder", "embeddings:three.npy"], ["3 rows", "60"]),
    "NaN embeddings": (["curate", "photos", "-o", "out", "--encoder", "embeddings:nan.npy"], ["17", "Leave"]),
    "pos-high 0": (["curate", "photos", "-o", "out", *OWN, "--pos-high", "0"], ["pos_high", "auto"]),
    "pos-high 1.5": (["curate", "photos", "-o", "out", *OWN, "--pos-high", "1.5"], ["pos_high", "1.5"]),
    "pos-low 1": (["curate", "photos", "-o", "out", *OWN, "--pos-low", "1"], ["pos_low", "1.0"]),
    "one class": (["curate", "photos", "-o", "out", *OWN, "--classes", "1"], ["classes is 1", "2 to 60"]),
    "fraction 1": (["curate", "photos", "-o", "out", *OWN, "--fraction", "1"], ["fraction", "below 1"]),
    "no epochs": (["curate", "photos", "-o", "out", "--epochs", "0"], ["epochs is 0", "1 or more"]),
    "no manifest": (["train", "photos", "-o", "out"], ["photos", "manifest.json", "tamis curate"]),
    "no encoder": (["probe", "text.txt", "photos"], ["text.txt", "encoder.pt"]),
    "demo of nothing": (["demo", "--dataset", "nonesuch", "--out", "demo"], ["nonesuch", "digits"]),
    "unknown queue": (["worker", "--queues", "tpu"], ["tpu", "cpu, gpu, train"]),
    "key without a name": (["keys", "create"], ["name", "--help"]),
}


@pytest.mark.parametrize("kind", BAD_INPUT)
def test_bad_input_is_told_in_one_line_that_says_what_to_do(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, named = BAD_INPUT[kind]
    assert main([*arguments, "--json"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("tamis: ")
    assert len(err.splitlines()) == 1
    assert all(words in err for words in named), err
    assert f"tamis: {last_json(out)['error']['message']}\n" == err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--strategy", "nonesuch"],
        ["--pos-high", "many"],
        ["--classes", "few"],
        ["--seed", "-1"],
        ["--seed", str(2**31)],
    ],
)
def test_a_value_out_of_range_is_named_with_its_option(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["curate", "photos", "-o", "out", *arguments])
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: " in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", "photos", "-o", "text.txt/out", *OWN, "--json"]) == 1
    out, err = capsys.readouterr()
    assert last_json(out)["error"]["type"] == "file-error"
    assert "text.txt/out: Not a directory." in err
    assert main(["keys", "list", "--data", "text.txt"]) == 1


def test_curating_with_embeddings_twice_gives_the_same_bytes_and_nothing_but_the_result(tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        done = process("curate", "photos", "-o", tmp_path / name, *OWN, "--classes", "10", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        found = last_json(done.stdout)
        assert found["counts"]["samples"] == COUNT
        assert found["path"] == str(tmp_path / name)
        assert len(done.stdout.splitlines()) == 2
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    manifest = tamis.read_manifest(tmp_path / "first")
    assert manifest.samples["sample_id"].to_pylist() == [name for name, _ in digit_files(COUNT)]
    assert sum(manifest.description["histogram"]["counts"]) == COUNT * (COUNT - 1) // 2
    assert manifest.description["classes"] == 10


@pytest.mark.parametrize("form", ["torchvision:resnet18@{}", "checkpoint:{}"])
def test_curating_with_weights_from_a_file(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(resnet18().state_dict(), weights)
    write_folder(tmp_path / "photos", digit_files(8))
    asked = ["--encoder", form.format(weights), "--views", "2", "--classes", "2", "--json"]
    assert main(["curate", str(tmp_path / "photos"), "-o", str(tmp_path / "out"), *asked]) == 0
    assert last_json(capsys.readouterr().out)["counts"]["samples"] == 8
    description = tamis.read_manifest(tmp_path / "out").description
    expected = fingerprint(with_views(load_encoder(weights), 2))
    named = form.partition("@")[0].partition(":{")[0]
    assert description["encoder"] == {"encoder": named, "encoder_fingerprint": expected, "dimension": 512}
    assert (description["request"]["encoder"], description["request"]["views"]) == (named, 2)


def test_curate_train_and_probe_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command ends with one JSON object on its last line, which says where the next one begins."""

    def run(*arguments: str | Path) -> dict[str, Any]:
        assert main([*map(str, arguments), "--json"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return last_json(captured.out)

    (tmp_path / "photos").mkdir()
    write_folder(tmp_path / "photos", digit_files(COUNT))
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    curated = run("curate", tmp_path / "photos", "-o", tmp_path / "curated", "--epochs", "1", "--strategy", "combined")
    assert [row["name"] for row in curated["quarantine"]] == ["broken.png"]
    assert tamis.read_manifest(curated["path"]).description["encoder"]["encoder"] == "simclr"
    trained = run("train", curated["path"], "-o", tmp_path / "out", "--epochs", "1", "--batch-size", "32")
    assert (trained["arm"], trained["samples"]) == ("combined", curated["counts"]["kept"])
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == trained
    control = run("train", curated["path"], "-o", tmp_path / "control", "--epochs", "1", "--baseline")
    assert (control["arm"], control["samples"]) == ("baseline", COUNT)
    probed = run("probe", trained["encoder"], tmp_path / "photos")
    assert probed["encoder_fingerprint"] == trained["encoder_fingerprint"]
    assert probed["probe"] == trained["probe"]


def test_upload_curate_and_download_from_a_server(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        assert main([*arguments, "--server", server.url, "--json"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return last_json(captured.out)

    dataset = run("upload", "photos", "--name", "from the command line")
    assert dataset["samples"] == COUNT
    assert dataset["id"] in {row["id"] for row in run("datasets")["datasets"]}
    server.client.send_embeddings(dataset["id"], "embeddings.npy")
    asked = server.client.curate(dataset["id"], encoder="embeddings", classes=10)["id"]
    server.client.wait(f"/curations/{asked}", timeout=60)
    assert asked in {row["id"] for row in run("curations")["curations"]}
    made = run("manifest", asked, "-o", str(tmp_path / "manifest"), "--strategy", "margin")
    assert tamis.read_manifest(made["path"]).description["counts"] == made["counts"]
    assert main(["manifest", "cu_nonesuch", "-o", str(tmp_path / "none"), "--server", server.url]) == 1
    assert "cu_nonesuch" in capsys.readouterr().err


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
    with pytest.raises(SystemExit):
        main(["serve", "--port", "65536"])


def test_every_command_takes_json_and_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    names = build_parser().format_help()
    for name in ("demo", "serve", "worker", "curate", "upload", "datasets", "curations", "manifest", "train", "probe"):
        assert name in names
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert "--json" in capsys.readouterr().out


def test_the_benchmark_of_detection_scores_mixed_images_and_flagged_pairs() -> None:
    figures = dict(islice(detect_benchmark(count=120, seeds=2, sets=("digits",), steps=10), 9))
    for condition in ("10% mixed, weight half", "20% mixed, weight random"):
        scores = figures[f"digits, {condition}"]
        assert {"Tamis: blends", "Tamis: band share", "random", "InfoNCE loss of late epochs"} < set(scores)
        assert all(0 <= score["mean"] <= 1 for score in scores.values())
    assert figures["digits, pairs"]["random"]["mean"] > 0.7
    assert build_parser().parse_args(["bench", "detect"]).name == "detect"


def test_the_embedding_benchmark_compares_the_same_features() -> None:
    figures = dict(embed_benchmark(count=8, rounds=1, image_size=32))
    for name in ("resnet18", "torchvision:resnet18"):
        assert set(figures[name]["ours_as_share_of"]) == {"network alone", "network alone, f32", "DataLoader, f32"}
        assert figures[name]["least_cosine_to_f32"] > 0.999
    assert build_parser().parse_args(["bench", "embed"]).name == "embed"


def test_the_benchmark_of_ingest_measures_limit_peers_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ingest", "--count", "120", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name in ("28 x 28 PNG in a tar", "32 x 32 JPEG in a tar", "28 x 28 in IDX", "500 x 375 JPEG in a tar"):
        assert 0 < figures[name]["share_of_limit"] < 1
        assert figures[name]["times_peer"] > 0
        assert figures[name]["times_peer_with_thumbnails"] > 0
    assert [figures[f"memory, {count} images"]["images"] for count in (30, 120)] == [30, 120]


def test_a_benchmark_ends_with_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "recut", "--count", "10000", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    # A new cut costs nothing like a new scan.
    assert figures["band scores"]["seconds"] < figures["curation"]["seconds"] / 10
