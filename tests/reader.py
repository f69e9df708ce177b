"""Someone who reads a page and types all of it, in the order in which a reader meets it.

What cannot run inside a test has a stand-in: `make` is asked what it would run, Docker Compose is taken for the command
it would start in a container (its files are checked in test_compose.py), trainings are of one epoch or few steps, and a
page's database and object store are a PostgreSQL and an S3 server of the tests' own.
"""

import io
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import httpx
import numpy as np
import pytest
import torch
from harness import await_line, tamis_process, until
from samples import digit_embeddings, digit_files, write_folder
from torchvision.models import resnet18

from tamis.commands.cli import main
from tamis.commands.options import SERVER
from tamis.settings import Settings

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.M | re.S)
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
NUMBER = re.compile(r"\d[\d.,]*")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of each."""
    for _, language, content in BLOCK.findall(text):
        yield language, dedent(content)


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


def furnish(folder: Path) -> None:
    """Gives a folder `photos` of two labels, of which there are enough to judge by, and `embeddings.npy`."""
    photos = tuple((f"{'odd' if int(name[0]) % 2 else 'even'}/{name[2:]}", data) for name, data in digit_files(COUNT))
    write_folder(folder / "photos", photos)
    np.save(folder / "embeddings.npy", digit_embeddings(COUNT))


def pretend_weights(home: Path) -> None:
    """Puts what torchvision would download at its place, with its name, below TORCH_HOME."""
    weights = home / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    weights.parent.mkdir(parents=True)
    torch.save(resnet18().state_dict(), weights)


@dataclass
class Reader:
    """Someone in a folder with `photos` and `embeddings.npy`.

    known: what stands for a page's placeholders. stand_ins: environment variables whose example is of elsewhere.
    """

    environment: pytest.MonkeyPatch
    stand_ins: dict[str, str] = field(default_factory=dict)
    url: str = ""
    known: dict[str, str] = field(default_factory=dict)
    running: ExitStack = field(default_factory=ExitStack)

    def read(self, text: str) -> None:
        """Types every block of shell commands and of Python; blocks in other languages are looked at alone."""
        with self.running:
            for language, block in blocks(text):
                match language:
                    case "python":
                        self.python(block)
                    case "sh":
                        for words in commands(block):
                            self.type(words)
                    case "console":
                        self.console(block)

    def console(self, block: str) -> None:
        """Commands after `$ `. What follows one is of the form of what it printed first, whatever the numbers."""
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            typed, _, shown = part.partition("\n")
            (words,) = commands(typed)
            printed = self.type(words)
            first = shown.splitlines()[0]
            assert _form(first).removesuffix("...") in _form(printed.splitlines()[0] if printed else "") + "...", typed

    def type(self, words: list[str]) -> str:
        """Returns what a command of Tamis that ended printed."""
        for placeholder, value in self.known.items():
            words = [re.sub(rf"\b{re.escape(placeholder)}\b", value, word) for word in words]
        match words:
            case ["make", "demo"]:
                assert what_make_runs("demo") == ".venv/bin/tamis demo"
            case [".", ".venv/bin/activate"]:
                assert what_make_runs("demo").startswith(".venv/bin/")
            case ["export", *assignments]:
                self.export(dict(word.split("=", 1) for word in assignments))
            case ["tamis", "serve", *options]:
                self.serve(options)
            case ["tamis", "worker", *options]:
                self.start("worker", *options, until_line=r"takes jobs from \w+")
            case ["tamis", command, *arguments]:
                known = command not in TALK_TO_A_SERVER or "--server" in arguments
                server = [] if known else ["--server", self.served()]
                return self.call(command, *_shortened(command, arguments), *server)
            case _:
                pytest.fail(f"no test knows the command {shlex.join(words)}")
        return ""

    def served(self) -> str:
        """The address of the server that the reader began, or of one that is begun for what a page takes for there."""
        if not self.url:
            self.serve([])
        return self.url

    def serve(self, options: list[str]) -> None:
        self.running.close()
        bound = self.start("serve", *options, "--port", "0", until_line=r"Tamis serves (\S+),")
        url = bound.replace("0.0.0.0", "127.0.0.1")
        until(lambda: _is_ready(url), 10, f"{url} to be ready")
        self.url = self.known["http://SERVER:8080"] = url

    def start(self, *arguments: str, until_line: str) -> str:
        process, log = self.running.enter_context(tamis_process(*arguments, data=Path("tamis-data")))
        return await_line(log, until_line, process)

    def call(self, *arguments: str) -> str:
        with redirect_stdout(io.StringIO()) as out:
            assert main(arguments) == 0, arguments
        for placeholder, pattern in PLACEHOLDERS.items():
            if found := re.search(pattern, out.getvalue()):
                self.known[placeholder] = found.group()
        return out.getvalue()

    def python(self, block: str) -> None:
        if "import polars" in block and find_spec("polars") is None:
            return
        if SERVER in block:
            block = block.replace(SERVER, self.served())
        exec(compile(block, "page", "exec"), {})

    def export(self, variables: dict[str, str]) -> None:
        for name, value in variables.items():
            setting = name.removeprefix("TAMIS_").lower()
            if setting in Settings.model_fields:
                Settings(**{setting: value})
            else:
                assert name in {"TAMIS_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
            self.environment.setenv(name, self.stand_ins.get(name, value))


def _shortened(command: str, arguments: list[str]) -> list[str]:
    if "--steps" in arguments:
        at = arguments.index("--steps") + 1
        return [*arguments[:at], "3", *arguments[at + 1 :]]
    trains = command in TRAIN and "--encoder" not in arguments
    return [*arguments, *["--epochs", "1"] * trains]


def _form(line: str) -> str:
    return NUMBER.sub("0", line)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.ConnectError:
        return False
