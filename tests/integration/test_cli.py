"""The command line: exit statuses, JSON for programs, messages that say what to do, help, completion, keys."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from textwrap import dedent
from typing import Any

import forked
import numpy as np
import pytest
import torch
from harness import parsed, until
from samples import digit_embeddings, digit_files, write_folder, write_tar
from torchvision.models import resnet18

import tamis
from benchmarks import scale
from benchmarks.detect import run as detect_benchmark
from benchmarks.embed import run as embed_benchmark
from benchmarks.load import run as load_benchmark
from benchmarks.scale import run as scale_benchmark
from benchmarks.train import run as train_benchmark
from service.bodies import NewCuration
from tamis.commands.cli import main
from tamis.curation.asked import check_curation
from tamis.encoders.encoder import fingerprint, with_views
from tamis.encoders.files import load_encoder
from tamis.settings import load_settings

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
    command = [sys.executable, "-m", "tamis.commands.cli", *arguments]
    assert subprocess.run(command, capture_output=True).returncode == status


OWN = ["--encoder", "embeddings:embeddings.npy"]
CURATE = ["curate", "photos", "-o", "out"]
# Told before anything is read or loaded.
AT_ONCE = {
    "no such folder": (["curate", "nonesuch", "-o", "out"], ["nonesuch", "Give a folder"]),
    "no such embeddings": ([*CURATE, "--encoder", "embeddings:x.npy"], ["x.npy", "Give the file"]),
    "unknown encoder": ([*CURATE, "--encoder", "vgg"], ["vgg", "simclr"]),
    "encoder without a name": ([*CURATE, "--encoder", "torchvision:"], ["torchvision:", "torchvision:NAME"]),
    "views of embeddings": ([*CURATE, *OWN, "--views", "2"], ["no views"]),
    "eleven views": ([*CURATE, "--views", "11"], ["11", "1 to 10"]),
    "unknown architecture": ([*CURATE, "--architecture", "resnet81"], ["resnet81", "resnet18, resnet50", "timm:NAME"]),
    "tiny images": ([*CURATE, "--image-size", "8"], ["8", "16 to 1024"]),
    "image size of no number": ([*CURATE, "--image-size", "big"], ["--image-size", "'big'", "auto"]),
    "no epochs": ([*CURATE, "--epochs", "0"], ["epochs is 0", "1 or more"]),
    "no steps": ([*CURATE, "--steps", "0"], ["steps is 0", "1 or more"]),
    "epochs and steps": ([*CURATE, "--steps", "5", "--epochs", "5"], ["epochs", "steps", "one of them"]),
    "no classes": ([*CURATE, "--classes", "0"], ["classes is 0", "auto"]),
    "one class": ([*CURATE, "--classes", "1"], ["classes is 1", "auto"]),
    "classes of no number": ([*CURATE, "--classes", "few"], ["--classes", "'few'", "auto"]),
    "pos-high 0": ([*CURATE, "--pos-high", "0"], ["pos_high", "auto"]),
    "pos-high 1.5": ([*CURATE, "--pos-high", "1.5"], ["pos_high", "1.5"]),
    "pos-high above pos-low": ([*CURATE, "--pos-high", "0.99"], ["pos_high is 0.99", "pos_low 0.95"]),
    "pos-low 1.5": ([*CURATE, "--pos-low", "1.5"], ["pos_low", "1.5"]),
    "pos-low nan": ([*CURATE, "--pos-low", "nan"], ["pos_low", "nan"]),
    "no neighbours": ([*CURATE, "--neighbours", "0"], ["neighbours is 0"]),
    "fraction 1": ([*CURATE, "--fraction", "1"], ["fraction", "below 1"]),
    "fraction 2": ([*CURATE, "--fraction", "2"], ["fraction is 2", "below 1"]),
    "unknown strategy": ([*CURATE, "--strategy", "nonesuch"], ["--strategy", "remove"]),
    "seed -1": ([*CURATE, "--seed", "-1"], ["--seed", "-1"]),
    "seed too large": ([*CURATE, "--seed", str(2**31)], ["--seed", str(2**31)]),
    "unknown device": ([*CURATE, "--device", "tpu"], ["--device", "auto, cpu or cuda"]),
    "output in a file": (["curate", "photos", "-o", "text.txt/out"], ["text.txt", "-o"]),
    "no output": (["curate", "photos"], ["--out", "tamis curate --help"]),
    "unknown command": (["curat", "photos"], ['"curate"?', "tamis --help"]),
    "unknown sub-command": (["keys", "creat", "laptop"], ['"create"?', "tamis keys --help"]),
    "unknown sub-command of a list": (["datasets", "shwo", "ds_1"], ['"show"?', "tamis datasets --help"]),
    "unknown option": ([*CURATE, "--epoch", "3"], ["--epochs", "tamis curate --help"]),
    "one argument too many": ([*CURATE, "more"], ['"more"', "tamis curate --help"]),
    "no command": (["keys"], ["command", "Choose"]),
    "training in a file": (["train", "photos", "-o", "text.txt/out"], ["text.txt", "-o"]),
    "batch of three": (["train", "photos", "-o", "out", "--batch-size", "3"], ["3", "4 or more"]),
    "clip without texts": (["train", "photos", "-o", "out", "--method", "clip"], ["clip learns from texts", "--texts"]),
    "texts of another method": (["train", "photos", "-o", "out", "--texts", "text.txt"], ["simclr", "images alone"]),
    "no epochs of training": (["train", "photos", "-o", "out", "--epochs", "0"], ["epochs is 0"]),
    "probe of nothing": (["probe", "text.txt", "nonesuch"], ["nonesuch", "Give a folder"]),
    "demo of nothing": (["demo", "--dataset", "nonesuch", "--out", "demo"], ["nonesuch", "digits"]),
    "upload of nothing": (["upload", "nonesuch", "--name", "x"], ["nonesuch", "Give a folder"]),
    "curation without --curate": (["upload", "photos", "--name", "x", "--pos-low", "0.9"], ["--pos-low", "--curate"]),
    "manifest without -o": (["upload", "photos", "--name", "x", "--curate", "--strategy", "margin"], ["-o DIR"]),
    "curation there of one class": (["curations", "create", "ds_1", "--classes", "1"], ["classes is 1"]),
    "manifest there of nothing": (["manifest", "cu_1", "-o", "out", "--fraction", "1"], ["fraction"]),
    "key without a name": (["keys", "create"], ["NAME", "tamis keys create --help"]),
    "port too large": (["serve", "--port", "65536"], ["--port", "65535"]),
    "unknown benchmark": (["bench", "scam"], ['"scam"', "scan"]),
}
# Told once that is read or loaded which shows it.
LATER = {
    "empty folder": (["curate", "empty", "-o", "out"], ["empty", "Put images in it"]),
    "no archive": (["curate", "text.txt", "-o", "out"], ["text.txt", "zip, tar"]),
    "truncated zip": (["curate", "cut.zip", "-o", "out"], ["cut.zip"]),
    "truncated tar": (["curate", "cut.tar", "-o", "out"], ["cut.tar"]),
    "three images": (["curate", "three", "-o", "out"], ["3", "At least 4"]),
    "three embeddings": (["curate", "three", "-o", "out", "--encoder", "embeddings:three.npy"], ["3", "At least 4"]),
    "no checkpoint": ([*CURATE, "--encoder", "checkpoint:text.txt"], ["text.txt", "encoder.pt"]),
    "other embeddings": ([*CURATE, "--encoder", "embeddings:three.npy"], ["3 rows", "60"]),
    "NaN embeddings": ([*CURATE, "--encoder", "embeddings:nan.npy"], ["17", "Leave"]),
    "more classes than images": ([*CURATE, *OWN, "--classes", "61"], ["classes is 61", "2 to 60"]),
    "no manifest": (["train", "photos", "-o", "out"], ["photos", "manifest.json", "tamis curate"]),
    "no encoder": (["probe", "text.txt", "photos"], ["text.txt", "encoder.pt"]),
    "unknown queue": (["worker", "--queues", "tpu"], ["tpu", "cpu, gpu, train"]),
}


@pytest.mark.parametrize("kind", AT_ONCE)
def test_what_no_work_can_be_done_with_is_told_in_one_line_before_any_work(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object) -> None:
        pytest.fail("work has begun")

    monkeypatch.setattr("worker.local.open_source", begun)
    monkeypatch.setattr("tamis.commands.terminal._Lines.__init__", begun)
    arguments, named = AT_ONCE[kind]
    assert main([*arguments, "--json"]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    _assert_told(out, err, named)


@pytest.mark.parametrize("kind", LATER)
def test_bad_input_is_told_in_one_line_that_says_what_to_do(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, named = LATER[kind]
    assert main([*arguments, "--json"]) == 2
    out, err = capsys.readouterr()
    _assert_told(out, err.splitlines(keepends=True)[-1], named)
    assert not Path("out/manifest.json").exists()


def _assert_told(out: str, told: str, named: list[str]) -> None:
    assert told.startswith("tamis: ")
    assert all(words in told for words in named), told
    assert f"tamis: {last_json(out)['error']['message']}\n" == told


def test_a_number_out_of_range_is_refused_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    code = "import sys; from tamis.commands.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    command = ["curate", "nonesuch", "-o", "out", "--pos-high", "0.99"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=tmp_path)
    assert "pos_high is 0.99" in done.stderr
    assert set(done.stdout.split()) & {"torch", "numpy", "pyarrow", "pydantic", "httpx"} == set()


@pytest.mark.parametrize("place", ["--device", "TAMIS_DEVICE"])
@pytest.mark.parametrize(
    "command", [[*CURATE, *OWN], ["train", "photos", "-o", "out"], ["probe", "text.txt", "photos"]]
)
def test_a_gpu_that_is_not_there_is_refused_wherever_it_is_asked_for(
    command: list[str], place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    if place == "--device":
        command = [*command, "--device", "cuda"]
    else:
        monkeypatch.setenv(place, "cuda")
    assert main([*command, "--quiet"]) == 2
    assert "The device cuda is not available" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_server_does_not_start_without_the_gpu_it_is_told_to_use(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setenv("TAMIS_DEVICE", "cuda")
    assert main([command, "--data", str(tmp_path / "data")]) == 1
    assert "TAMIS_DEVICE: The device cuda is not available. Use cpu" in capsys.readouterr().err


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"
    done = forked.run(*CURATE, *OWN, "--cache", tmp_path / "small", first=limited)
    assert done.returncode == 1
    assert f"There is no room for what is to be written to {tmp_path / 'small'}: File too large" in done.stderr
    assert "with --cache, such as /" in done.stderr


def test_a_setting_of_no_device_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIS_DEVICE", "nonsense")
    assert main([*CURATE, *OWN]) == 2
    assert "TAMIS_DEVICE" in capsys.readouterr().err
    with pytest.raises(tamis.SettingsError, match="TAMIS_DEVICE"):
        load_settings()


@pytest.mark.parametrize(
    ("asked", "possible"),
    [
        *(({"classes": value}, value == "auto" or value >= 2) for value in ("auto", -1, 0, 1, 2, 10)),
        *(({"pos_high": value}, value == "auto" or 0 < value < 0.95) for value in ("auto", -0.1, 0.0, 0.5, 0.95, 1.0)),
        *(({"pos_low": value}, 0 < value < 1) for value in (-0.1, 0.0, 0.5, 1.0, 1.5)),
        *(({"neighbours": value}, value >= 1) for value in (-1, 0, 1, 64)),
        *(({"score": value}, value != "other") for value in ("blend", "band", "other")),
    ],
)
def test_command_line_and_api_judge_a_curation_alike(asked: dict[str, Any], possible: bool) -> None:
    for judge in (check_curation, lambda **asked: NewCuration(dataset="ds_1", **asked)):
        try:
            judge(**asked)
        except ValueError:
            assert not possible
        else:
            assert possible


def test_a_place_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list", "--data", "text.txt", "--json"]) == 1
    out, err = capsys.readouterr()
    assert last_json(out)["error"]["type"] == "file-error"
    assert "text.txt" in err


def test_curating_with_embeddings_twice_gives_the_same_bytes_and_nothing_but_the_result(tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        done = forked.run("curate", "photos", "-o", tmp_path / name, *OWN, "--classes", "10", "--json", "--quiet")
        assert (done.returncode, done.stderr) == (0, "")
        found = last_json(done.stdout)
        assert found["counts"]["samples"] == COUNT
        assert found["path"] == str(tmp_path / name)
        said = [line.split(":")[0] for line in done.stdout.splitlines()]
        kept = f"kept for the next time in {found['cache']}"
        warned = ["read with care"] * bool(found["warning"])
        shifted = ["read with care"] * bool(found["labels"]["shifts"])
        labels = ["labels", *shifted, *["labels in doubt"] * bool(found["labels"]["suspects"])]
        assert said == [found["path"], "pairs in the band", *warned, *labels, kept, '{"path"']
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
    write_folder(tmp_path / "photos", digit_files(4))
    asked = ["--encoder", form.format(weights), "--views", "2", "--classes", "2", "--json"]
    assert main(["curate", str(tmp_path / "photos"), "-o", str(tmp_path / "out"), *asked]) == 0
    assert last_json(capsys.readouterr().out)["counts"]["samples"] == 4
    description = tamis.read_manifest(tmp_path / "out").description
    expected = fingerprint(with_views(load_encoder(weights), 2))
    named = form.partition("@")[0].partition(":{")[0]
    about = {"encoder": named, "encoder_fingerprint": expected, "dimension": 512}
    assert description["encoder"] == {**about, "architecture": "torchvision:resnet18", "image_size": 224}
    assert (description["request"]["encoder"], description["request"]["views"]) == (named, 2)


def test_curate_train_and_probe_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command ends with one JSON object on its last line, which says where the next one begins."""

    def run(*arguments: str | Path) -> dict[str, Any]:
        assert main([*map(str, arguments), "--json", "--quiet"]) == 0
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


def test_a_name_that_the_screen_cannot_show_does_no_harm(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", digit_files(8))
    (tmp_path / "photos" / "broken-😀.png").write_bytes(b"no image")
    np.save(tmp_path / "embeddings.npy", digit_embeddings(8))
    for encoding in ("ascii", "cp1252"):
        asked = ["curate", str(tmp_path / "photos"), "-o", str(tmp_path / encoding), "--classes", "2"]
        own = ["--encoder", f"embeddings:{tmp_path / 'embeddings.npy'}"]
        shown = io.BytesIO()
        with io.TextIOWrapper(shown, encoding) as screen, redirect_stdout(screen):
            assert main([*asked, *own]) == 0
            assert "left out broken-\\U0001f600.png" in shown.getvalue().decode(encoding)


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed, (tmp_path / "told").open("wb") as told:
        done = forked.fork(["keys", "list", "--data", str(tmp_path)], closed, told, os.environ)
        assert done.wait() == 1
    assert (tmp_path / "told").read_text() == ""


@pytest.fixture
def short_folder() -> Iterator[str]:
    """For TMPDIR: processes that check images are reached by a socket in it, whose path may have 107 letters."""
    with tempfile.TemporaryDirectory(prefix="tamis-") as name:
        yield name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_stopped_says_how_to_go_on_and_leaves_no_copy(
    number: signal.Signals, tmp_path: Path, short_folder: str
) -> None:
    """Ctrl-C, `timeout` or a batch system, and a terminal that is closed."""
    write_folder(tmp_path / "photos", digit_files(8))
    places = {"TMPDIR": short_folder, "TAMIS_CACHE": str(tmp_path / "cache")}
    command = ["curate", "photos", "-o", "out", "--steps", "100000", "--json"]
    out, err = tmp_path / "out.txt", tmp_path / "err.txt"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        running = forked.fork(command, stdout, stderr, {**os.environ, **places}, tmp_path)
    try:
        begun = "cache/objects/checkpoints/*"
        until(lambda: running.poll() is not None or list(tmp_path.glob(begun)), 60, "the training to have begun")
        assert running.returncode is None, err.read_text()
        running.send_signal(number)
        assert running.wait(60) == 1
    finally:
        running.kill()
    assert err.read_text().splitlines()[-1] == (
        f"tamis: Interrupted. What was finished is kept in {tmp_path / 'cache'}: typed again, it goes on from there."
    )
    assert last_json(out.read_text())["error"]["type"] == "interrupted"
    assert [path for path in Path(short_folder).rglob("*") if path.is_file()] == []


def test_the_first_line_comes_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    """Within two seconds of typing, however long PyTorch takes to load."""
    code = """
        import sys, builtins
        from tamis.commands import terminal
        say = terminal._Lines._say
        terminal._Lines._say = lambda self, line: (say(self, line), print(*sys.modules), sys.exit(3))
        from tamis.commands.cli import main
        main(sys.argv[1:])
    """
    done = subprocess.run([sys.executable, "-c", dedent(code), *CURATE], capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith("Curating photos: ")) == (3, True), done.stderr
    assert set(done.stdout.split()) & {"torch", "numpy", "pyarrow", "sklearn"} == set()


@pytest.mark.slow
def test_the_benchmark_of_load_measures_each_kind_of_it() -> None:
    found = dict(load_benchmark(count=2000, requests=24, pages=3, upload=2**16, seconds=2))
    assert {"1 clients", "readers alone", "readers beside 3 open pages", "soak"} <= found.keys()
    assert found["readers beside uploads"]["uploaded_bytes_a_second"] > 0
    assert found["soak"]["requests"] >= 24
    assert len(found["soak"]["held_bytes"]) >= 2


def test_the_benchmark_of_detection_scores_mixed_images_and_flagged_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.detect.CONDITIONS", [(0.1, "half"), (0.2, "random")])
    figures = dict(islice(detect_benchmark(count=120, seeds=2, sets=("digits",), steps=10, batch_size=40), 7))
    for condition in ("10% mixed, weight half", "20% mixed, weight random"):
        scores = figures[f"digits, {condition}"]
        assert {"Tamis: blends", "Tamis: band share", "random", "InfoNCE loss of late epochs"} < set(scores)
        assert all(0 <= score["mean"] <= 1 for score in scores.values())
    assert figures["digits, pairs"]["random"]["mean"] > 0.7
    assert parsed(["bench", "detect"])["name"] == "detect"


def test_the_embedding_benchmark_compares_the_same_features() -> None:
    figures = dict(embed_benchmark(count=8, rounds=1, image_size=32))
    for name in ("resnet18", "torchvision:resnet18"):
        assert set(figures[name]["ours_as_share_of"]) == {"network alone", "network alone, f32", "DataLoader, f32"}
        assert figures[name]["least_cosine_to_f32"] > 0.999
    assert parsed(["bench", "embed"])["name"] == "embed"


def test_the_training_benchmark_times_a_step_and_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.train.STEPS", 1)
    figures = dict(train_benchmark(device="cpu", batch_size=8))
    for size in (24, 32):
        assert figures[f"small, {size} pixels"]["ms"] > 0
        assert figures[f"small, {size} pixels"]["share_of_limit"] > 0
        assert figures[f"small, {size} pixels"]["as_meant"].keys() >= {"share_of_limit", "with_flags_to_without"}


def test_the_benchmark_of_ingest_measures_limit_peers_and_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.ingest.REPEATS", 1)
    assert main(["bench", "ingest", "--count", "120", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name in ("28 x 28 PNG in a tar", "32 x 32 JPEG in a tar", "28 x 28 in IDX", "500 x 375 JPEG in a tar"):
        assert 0 < figures[name]["share_of_limit"] < 1
        assert figures[name]["times_peer"] > 0
        assert figures[name]["times_peer_with_thumbnails"] > 0
    assert [figures[f"memory, {count} images"]["images"] for count in (30, 120)] == [30, 120]


def test_the_benchmark_of_scale_tells_stages_memory_and_what_was_found() -> None:
    figures = dict(scale_benchmark(sizes=(1000, 2000), candidates=1000, dimension=32, classes=20))
    small, large = (figures[f"curate, {count} samples of 20 classes"] for count in (1000, 2000))
    assert large["stages"].keys() == small["stages"].keys() == scale.STAGES.keys()
    assert large["classes"] > 1
    assert large["recall"] == large["known_listed"] == 1.0
    assert 0 < large["anonymous_bytes"] < 2**30
    assert figures["growth"]["projected"].keys() == {f"1{zeros * '0'} samples" for zeros in (7, 8, 9)}
    assert figures["neighbours, 1000 samples, k=64"]["recall"] == 1.0


def test_a_benchmark_ends_with_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "recut", "--count", "3000", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    # A new cut costs nothing like a new scan.
    assert figures["band scores"]["seconds"] < figures["curation"]["seconds"] / 10
