"""The wheel is whole, the command loads what it needs, the core stands alone, and imports point the way DESIGN says."""

import os
import platform
import re
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from harness import await_line
from samples import digit_files, write_folder

import tamis

ROOT = Path(__file__).parents[2]
PACKAGES = ("tamis", "service", "worker", "trainer", "migrations")
SERVICE_STACK = (
    *("fastapi", "starlette", "uvicorn", "jinja2", "prometheus_client", "httpx", "pydantic", "pydantic_settings"),
    *("sqlalchemy", "alembic", "psycopg", "dbos", "duckdb", "obstore", "cyclopts", "rich"),
)
EXTRAS = ("timm", "safetensors", "huggingface_hub", "simplejpeg")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, which takes the dependencies alone from this one."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path named in a .pth file comes after the environment's own packages, and .pth files in it (such as that of an
    # editable install) are not read.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return python


def run(python: str | Path, *arguments: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_its_packages_and_nothing_else(wheel: Path) -> None:
    present = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"migrations/versions/0001_the_first_tables.py", "service/dashboard/templates/base.html"} <= present
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == present


def test_the_licences_of_all_that_is_in_the_wheel_are_told(wheel: Path) -> None:
    vendored = "service/dashboard/static/vendor"
    scripts = {path.stem for path in (ROOT / vendored).glob("*.js")}
    assert scripts == {path.stem for path in (ROOT / vendored).glob("*.LICENSE")}
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        told = archive.read(about).decode()
        licences = {name.partition("/licenses/")[2] for name in archive.namelist()}
    files = {"LICENSE", *(f"{vendored}/{script}.LICENSE" for script in scripts)}
    assert "License-Expression: Apache-2.0 AND BSD-3-Clause\n" in told
    assert files <= licences
    assert all(f"License-File: {name}\n" in told for name in files)


def test_two_builds_are_of_the_same_bytes(tmp_path: Path) -> None:
    """Of copies that differ in place and times, as two clones do."""
    built = []
    for number in range(2):
        tree = tmp_path / f"clone-{number}"
        for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
            left_out = shutil.ignore_patterns("__pycache__")
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=left_out, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(ROOT / name, tree / name)
        for path in tree.rglob("*"):
            os.utime(path, (10**9 * (number + 1),) * 2)
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--directory", tmp_path / f"dist-{number}"],
            cwd=tree,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
            check=True,
            capture_output=True,
        )
        built.append({path.name: path.read_bytes() for path in (tmp_path / f"dist-{number}").iterdir()})
    assert {name.rpartition(".")[2] for name in built[0]} == {"whl", "gz"}
    assert built[0] == built[1]


def test_modules_come_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = f"import {', '.join(PACKAGES)}; print(*({', '.join(PACKAGES)}), sep='\\n')"
    found = run(installed, "-c", code, cwd=tmp_path).splitlines()
    assert len(found) == len(PACKAGES)
    assert all(str(installed.parents[1]) in line for line in found)
    first, *runs_on = run(installed.with_name("tamis"), "--version", cwd=tmp_path).splitlines()
    assert first == f"tamis {tamis.__version__}"
    assert {f"Python {platform.python_version()}", f"torch {metadata.version('torch')}"} <= set(runs_on)


def test_the_installed_service_migrates_works_and_serves_every_file_its_pages_name(
    installed: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [installed.with_name("tamis"), "serve", "--port", "0"], cwd=tmp_path, stdout=file, stderr=file
        )
    try:
        url = await_line(log, r"Tamis serves (\S+),", process)
        with tamis.Client(url) as client:
            uploaded = client.upload(write_folder(tmp_path / "photos", digit_files(6)), "from the wheel")
            dataset = client.wait(f"/datasets/{uploaded['id']}", timeout=60)
        assert dataset["samples"] == 6
        pages = [f"{url}{path}" for path in ("/", "/jobs", f"/datasets/{dataset['id']}")]
        reached = {address for page in pages for address in reachable(page)}
        assert {f"{url}/static/app.js", f"{url}/static/vendor/lit.js", f"{url}/static/tokens.css"} <= reached
        for address in reached:
            assert httpx.get(address).status_code == 200, address
    finally:
        process.terminate()
        process.wait(20)
    assert (tmp_path / "tamis-data" / "tamis.sqlite").is_file()


def reachable(page: str) -> set[str]:
    """The addresses of static files that a page names, and those that these name in turn."""
    seen: set[str] = set()
    pending = {urljoin(page, path) for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', httpx.get(page).text)}
    assert pending
    while pending:
        address = pending.pop()
        seen.add(address)
        named = re.findall(r'(?:from|import) "(\.[^"]+)"|url\("?([^")]+)"?\)', httpx.get(address).text)
        pending |= {urljoin(address, script or file) for script, file in named if not file.startswith("data:")} - seen
    return seen


@pytest.mark.parametrize("words", [["--help"], ["curate", "photos", "-o", "out"]], ids=["help", "a command"])
def test_the_command_line_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    # There is no such source, so that the command ends where its work would begin.
    code = "import sys; from tamis.commands.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    loaded = set(run(sys.executable, "-c", code, *words, cwd=tmp_path).split())
    # They draw the help.
    light = {"rich", "cyclopts"}
    assert loaded & {"torch", "numpy", "pyarrow", "sklearn", "numba", *SERVICE_STACK, *EXTRAS} <= light


def test_a_server_starts_without_what_only_jobs_and_reports_need(tmp_path: Path) -> None:
    code = "import sys, service.app, service.main; print(*sys.modules)"
    loaded = set(run(sys.executable, "-c", code, cwd=tmp_path).split())
    assert "fastapi" in loaded
    assert not loaded & {"torch", "torchvision", "numba", "sklearn", "faiss", "matplotlib", "openTSNE"}


BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {(*SERVICE_STACK, *EXTRAS)!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
"""
WHOLE_JOB = """
from pathlib import Path
import numpy as np
import tamis, trainer.run
from worker.local import curate_source

curation = tamis.curate(np.random.default_rng(0).normal(size=(60, 8)))
assert curation.histogram.counts.sum() == 60 * 59 // 2
curate_source(Path("photos"), Path("manifest"), epochs=1)
print(trainer.run.train_manifest(Path("manifest"), Path("out"), trainer.recipe.Recipe(epochs=1)).describe())
print(trainer.run.probe_checkpoint(Path("out/encoder.pt"), Path("photos")).describe())
"""


def test_core_and_trainer_work_without_the_service_and_the_job_engine(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", digit_files(60))
    assert "60 images" in run(sys.executable, "-c", BLOCKED + WHOLE_JOB, cwd=tmp_path)


def test_the_block_blocks(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"fastapi.* is blocked"):
        run(sys.executable, "-c", f"{BLOCKED}\nimport service.app", cwd=tmp_path)
