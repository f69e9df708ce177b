"""Every command and every Python block of the README, run in the order in which a reader meets them.

What cannot run inside a test has a stand-in: `make` is asked what it would run, Docker Compose is taken for the command
it would start in a container (its files are checked in test_compose.py), trainings are of one epoch, and the example's
database and object store are a PostgreSQL and an S3 server of this test's own.
"""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from harness import await_line, tamis_process, until
from samples import digit_embeddings, digit_files, write_folder
from torchvision.models import resnet18

import tamis
from tamis.commands.app import app
from tamis.commands.cli import main
from tamis.commands.options import SERVER
from tamis.encoders.names import encoder_forms
from tamis.manifest import PAIRS_SCHEMA, SAMPLES_SCHEMA
from tamis.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
COUNT = 24
TRAIN = {"curate", "upload", "train", "experiment"}
TALK_TO_A_SERVER = {"upload", "manifest", "datasets", "curations", "manifests", "encoders", "trainings", "jobs"}
# What stands in a command for what an earlier one printed.
PLACEHOLDERS = {
    "DATASET_ID": r"\bds_\w+",
    "CURATION_ID": r"\bcu_\w+",
    "KEY_ID": r"\bkey_\w+",
    "KEY": r"\btamis_\S+",
}


def commands(block: str) -> Iterator[list[str]]:
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def what_make_runs(target: str) -> str:
    """The last command of a target, with which the files of this checkout's virtual environment are in place."""
    # As typed: not as a part of the make that may have started the tests.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    told = subprocess.run(["make", "-n", target], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return told.stdout.splitlines()[-1]


@dataclass
class Reader:
    """Someone who types what the README says, in a folder with `photos` and `embeddings.npy`.

    known: what stands for the README's placeholders. stand_ins: environment variables whose example is of elsewhere.
    """

    environment: pytest.MonkeyPatch
    stand_ins: dict[str, str]
    url: str = ""
    known: dict[str, str] = field(default_factory=dict)
    running: ExitStack = field(default_factory=ExitStack)

    def type(self, words: list[str]) -> None:
        for placeholder, value in self.known.items():
            words = [re.sub(rf"\b{re.escape(placeholder)}\b", value, word) for word in words]
        match words:
            case ["make", "demo"]:
                assert what_make_runs("demo") == ".venv/bin/tamis demo"
            case [".", ".venv/bin/activate"]:
                assert what_make_runs("demo").startswith(".venv/bin/")
            case ["export", *assignments]:
                self.export(dict(word.split("=", 1) for word in assignments))
            case ["mkdir", "-m", "700", "secrets"] | [
                "openssl",
                "rand",
                "-hex",
                "24",
                ">",
                "secrets/database_password",
            ]:
                assert "./secrets/database_password" in (ROOT / "docker-compose.yml").read_text()
            case ["docker", "compose", "up", "--build", "--detach"]:
                assert (ROOT / "docker-compose.yml").is_file()
            case ["docker", "compose", "run", "--rm", "service", *arguments]:
                self.call(*arguments)
            case ["tamis", "serve", *options]:
                self.serve(options)
            case ["tamis", "worker", *options]:
                self.start("worker", *options, until_line=r"takes jobs from \w+")
            case ["tamis", command, *arguments]:
                known = command not in TALK_TO_A_SERVER or "--server" in arguments
                server = [] if known else ["--server", self.url]
                trains = command in TRAIN and "--encoder" not in arguments
                self.call(command, *arguments, *server, *["--epochs", "1"] * trains)
            case _:
                pytest.fail(f"no test knows the README's command {shlex.join(words)}")

    def serve(self, options: list[str]) -> None:
        self.running.close()
        bound = self.start("serve", *options, "--port", "0", until_line=r"Tamis serves (\S+),")
        url = bound.replace("0.0.0.0", "127.0.0.1")
        until(lambda: _is_ready(url), 10, f"{url} to be ready")
        self.url = self.known["http://SERVER:8080"] = url

    def start(self, *arguments: str, until_line: str) -> str:
        process, log = self.running.enter_context(tamis_process(*arguments, data=Path("tamis-data")))
        return await_line(log, until_line, process)

    def call(self, *arguments: str) -> None:
        with redirect_stdout(io.StringIO()) as out:
            assert main(arguments) == 0, arguments
        for placeholder, pattern in PLACEHOLDERS.items():
            if found := re.search(pattern, out.getvalue()):
                self.known[placeholder] = found.group()

    def python(self, block: str) -> None:
        if "import polars" in block and find_spec("polars") is None:
            return
        exec(compile(block.replace(SERVER, self.url), "README.md", "exec"), {})

    def export(self, variables: dict[str, str]) -> None:
        for name, value in variables.items():
            setting = name.removeprefix("TAMIS_").lower()
            if setting in Settings.model_fields:
                Settings(**{setting: value})
            else:
                assert name in {"TAMIS_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
            self.environment.setenv(name, self.stand_ins.get(name, value))


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.ConnectError:
        return False


def test_every_command_and_python_block_does_what_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str, s3: tuple[str, str]
) -> None:
    endpoint, bucket = s3
    monkeypatch.chdir(tmp_path)
    # Of two labels, of which there are enough to judge by.
    photos = tuple((f"{'odd' if int(name[0]) % 2 else 'even'}/{name[2:]}", data) for name, data in digit_files(COUNT))
    write_folder(tmp_path / "photos", photos)
    np.save(tmp_path / "embeddings.npy", digit_embeddings(COUNT))
    # What torchvision would download, at its place and with its name.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    weights = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    weights.parent.mkdir(parents=True)
    torch.save(resnet18().state_dict(), weights)
    stand_ins = {
        "TAMIS_DATABASE_URL": postgres_url,
        "TAMIS_OBJECT_STORE": f"s3://{bucket}/readme",
        "TAMIS_S3_ENDPOINT": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    reader = Reader(monkeypatch, stand_ins)
    with reader.running:
        for language, block in BLOCK.findall(README):
            if language == "python":
                reader.python(block)
                continue
            assert language == "sh"
            for words in commands(block):
                reader.type(words)
    strategies = {
        "curated": "auto",
        "treated": "combined",
        "own": "remove",
        "unique": "auto",
        "downloaded": "remove",
    }
    others = {"pruned": "remove", "from-client": "combined", "pretrained": "auto"}
    for folder, strategy in {**strategies, **others}.items():
        manifest = tamis.read_manifest(tmp_path / folder)
        assert (manifest.samples.num_rows, manifest.description["strategy"]) == (COUNT, strategy)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"baseline", "curated", "downloaded"}
    assert "**temperature.** Linear probe" in (tmp_path / "proof" / "report.md").read_text()


def test_a_command_that_is_not_known_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.fail.Exception, match="no test knows"):
        Reader(monkeypatch, {}).type(["pip", "install", "tamis"])


def test_the_demo_ends_with_a_valid_manifest(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tamis.commands.cli", *shlex.split(what_make_runs("demo"))[1:]]
    short = ["--epochs", "1", "--out", "out", "--quiet"]
    done = subprocess.run([*command, *short], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = re.search(r"^manifest: (.+)$", done.stdout, re.M)
    assert folder is not None
    assert folder.group(1) == str(tmp_path / "out" / "manifest")
    manifest = tamis.read_manifest(folder.group(1))
    count = manifest.samples.num_rows
    assert count == len(digit_files())
    assert sum(manifest.description["histogram"]["counts"]) == count * (count - 1) // 2
    assert "linear probe, baseline" in done.stdout
    assert "linear probe, curated" in done.stdout
    assert "proves nothing" in done.stdout
    assert done.stderr == ""
    undocumented = set(manifest.description) - set(re.findall(r"`(\w+)`", README))
    assert undocumented == set()


def test_commands_named_in_the_text_exist() -> None:
    named = {tuple(words.split()[:2]) for words in re.findall(r"`((?:tamis|make) [^`]+)`", README)}
    targets = {("make", name) for name in re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)}
    subcommands = {("tamis", name) for name in app}
    assert named - targets - subcommands == set()
    assert what_make_runs("test").startswith(".venv/bin/pytest ")


def test_files_named_in_the_text_exist() -> None:
    pictures = re.findall(r"\]\(([^):]+)\)", README)
    assert pictures
    for name in (*pictures, *re.findall(r"\b[A-Z]+\.md\b", README)):
        assert (ROOT / name).is_file(), name
    assert all((ROOT / name).stat().st_size < 200_000 for name in pictures)


def test_every_form_of_an_encoder_is_in_the_table() -> None:
    rows = "".join(line for line in README.splitlines() if line.startswith("| `"))
    for form in encoder_forms():
        for each in {form.replace("[@FILE]", ""), form.replace("[@FILE]", "@FILE")}:
            assert f"`{each}`" in rows


def test_the_table_of_settings_is_that_of_the_program() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `TAMIS_")]
    expected = []
    for name, setting in Settings.model_fields.items():
        default = "" if setting.default in (None, "", ()) else f"`{setting.default}`"
        expected.append(f"| `TAMIS_{name.upper()}` | {default} | {setting.description} |")
    assert rows == expected


def test_every_variable_that_anything_reads_is_named() -> None:
    sources = [*(ROOT / "tamis").rglob("*.py"), *(ROOT / "service").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]
    text = "".join(path.read_text() for path in (*sources, ROOT / "Dockerfile", ROOT / "docker-compose.yml"))
    assert set(re.findall(r"TAMIS_[A-Z0-9_]*[A-Z0-9]", text)) - set(re.findall(r"TAMIS_\w+", README)) == set()


def test_every_column_of_the_manifest_is_described() -> None:
    text = " ".join(README.split())
    for column in (*SAMPLES_SCHEMA, *PAIRS_SCHEMA):
        kind = str(column.type).replace("float", "float32")
        assert f"`{column.name}` {kind}" in text, column
