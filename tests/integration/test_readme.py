"""The README and every page of docs/: each command and each block of Python, typed by a reader; and what they name."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reader import COUNT, ROOT, Reader, blocks, furnish, pretend_weights, what_make_runs
from samples import digit_files

import tamis
from tamis.commands.app import app
from tamis.commands.cli import main
from tamis.encoders.names import encoder_forms
from tamis.manifest import PAIRS_SCHEMA, SAMPLES_SCHEMA
from tamis.settings import Settings

README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
# Containers, which `make rehearse` types.
ELSEWHERE = {"deployment.md"}
# The strategies of the manifests that a page makes, by folder.
MADE = {
    "curate.md": {"curated": "auto", "treated": "combined", "own": "remove", "unique": "auto"},
    "encoders.md": {"pretrained": "auto"},
    "from-python.md": {"pruned": "remove", "from-client": "combined"},
    "gpu.md": {"on-a-device": "auto"},
    "photos.md": {"curated": "auto"},
    "server.md": {"downloaded": "remove"},
}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of a page has from earlier ones: images, embeddings, `curated` with its encoder, `downloaded`."""
    folder = tmp_path_factory.mktemp("earlier")
    furnish(folder)
    made = ["curate", str(folder / "photos"), "--quiet", "--cache", str(folder / "cache")]
    assert main([*made, "-o", str(folder / "curated"), "--epochs", "1"]) == 0
    encoder = ["--encoder", f"checkpoint:{folder / 'curated' / 'encoder.pt'}"]
    assert main([*made, "-o", str(folder / "downloaded"), "--strategy", "remove", *encoder]) == 0
    return folder


def test_a_reader_of_the_readme_gets_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    furnish(tmp_path)
    Reader(monkeypatch).read(README)
    assert tamis.read_manifest("curated").samples.num_rows == COUNT
    assert {path.name for path in Path("runs").iterdir()} == {"baseline", "curated"}


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if name not in ELSEWHERE and [*blocks(text)]])
def test_a_reader_of_a_page_gets_what_it_says(
    page: str, earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "embeddings.npy", "curated", "downloaded"):
        if name not in MADE.get(page, {}):
            (shutil.copytree if (earlier / name).is_dir() else shutil.copy)(earlier / name, name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    pretend_weights(tmp_path / "torch")
    stand_ins = _stores(request) if "TAMIS_S3_ENDPOINT" in PAGES[page] else {}
    Reader(monkeypatch, stand_ins).read(PAGES[page])
    for folder, strategy in MADE.get(page, {}).items():
        manifest = tamis.read_manifest(folder)
        assert (manifest.samples.num_rows, manifest.description["strategy"]) == (COUNT, strategy)
    if page == "experiments.md":
        assert "**temperature.** Linear probe" in Path("proof", "report.md").read_text()


def _stores(request: pytest.FixtureRequest) -> dict[str, str]:
    """A database and an object store in place of those of examples."""
    endpoint, bucket = request.getfixturevalue("s3")
    return {
        "TAMIS_DATABASE_URL": request.getfixturevalue("postgres_url"),
        "TAMIS_OBJECT_STORE": f"s3://{bucket}/readme",
        "TAMIS_S3_ENDPOINT": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def test_a_command_that_is_not_known_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.fail.Exception, match="no test knows"):
        Reader(monkeypatch).type(["pip", "install", "tamis"])


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
    undocumented = set(manifest.description) - set(re.findall(r"`(\w+)`", PAGES["manifest.md"]))
    assert undocumented == set()


def test_commands_named_in_the_text_exist() -> None:
    text = README + "".join(PAGES.values())
    named = {tuple(words.split()[:2]) for words in re.findall(r"`((?:tamis|make) [^`]+)`", text)}
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
    rows = "".join(line for line in PAGES["encoders.md"].splitlines() if line.startswith("| `"))
    for form in encoder_forms():
        for each in {form.replace("[@FILE]", ""), form.replace("[@FILE]", "@FILE")}:
            assert f"`{each}`" in rows


def test_the_table_of_settings_is_that_of_the_program() -> None:
    rows = [line for line in PAGES["settings.md"].splitlines() if line.startswith("| `TAMIS_")]
    expected = []
    for name, setting in Settings.model_fields.items():
        default = "" if setting.default in (None, "", ()) else f"`{setting.default}`"
        expected.append(f"| `TAMIS_{name.upper()}` | {default} | {setting.description} |")
    assert rows == expected


def test_every_variable_that_anything_reads_is_named() -> None:
    sources = [*(ROOT / "tamis").rglob("*.py"), *(ROOT / "service").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]
    text = "".join(path.read_text() for path in (*sources, ROOT / "Dockerfile", ROOT / "docker-compose.yml"))
    named = set(re.findall(r"TAMIS_\w+", "".join(PAGES.values())))
    assert set(re.findall(r"TAMIS_[A-Z0-9_]*[A-Z0-9]", text)) - named == set()


def test_every_column_of_the_manifest_is_described() -> None:
    text = " ".join(PAGES["manifest.md"].split())
    for column in (*SAMPLES_SCHEMA, *PAIRS_SCHEMA):
        kind = str(column.type).replace("float", "float32")
        assert f"`{column.name}` {kind}" in text, column
