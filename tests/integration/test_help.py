"""`--help` says what each command does and what each option means; the shell completes both."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from tamis.commands.app import app
from tamis.commands.cli import main


def commands(at: App, *chain: str) -> Iterator[tuple[str, ...]]:
    """Every command that does something, as the words that call it."""
    if at.default_command is not None:
        yield chain
    for name in at:
        if not name.startswith("-"):
            yield from commands(at[name], *chain, name)


COMMANDS = {" ".join(chain): chain for chain in commands(app)}


def test_no_command_that_others_rely_on_is_missing() -> None:
    local = (
        "demo",
        "serve",
        "worker",
        "curate",
        "train",
        "probe",
        "experiment",
        "bench",
        "keys create",
        "keys list",
        "keys revoke",
    )
    remote = ("upload", "manifest", "datasets", "curations", "manifests", "encoders", "trainings", "jobs")
    assert {*local, *remote} <= set(COMMANDS)


@pytest.mark.parametrize("chain", [(), ("curations",), ("keys",)])
def test_a_list_of_commands_says_what_each_does(chain: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tamis.commands.cli", *chain, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}).stdout
    at = app
    for name in chain:
        at = at[name]
    for name in at:
        if not name.startswith("-"):
            assert re.search(rf"^│ {re.escape(name)} .*\w\. *│$", shown, re.M), shown


@pytest.mark.parametrize("chain", COMMANDS.values(), ids=COMMANDS)
def test_a_command_says_what_it_does_and_what_each_option_means(
    chain: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert main([*chain, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[2].endswith(".")
    assert "--json" in shown
    *_, command = app.parse_commands(chain)[1]
    for argument in command.assemble_argument_collection():
        if argument.show:
            (line,) = [line for line in shown.splitlines() if re.match(rf"│ \*? *{re.escape(argument.name)} ", line)]
            assert argument.parameter.help in line
            default = argument.field_info.default
            if default not in (inspect.Parameter.empty, None, False, ()):
                assert f"[default: {default}]" in line
            assert argument.required == ("[required]" in line)


def test_options_stand_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", "--help"]) == 0
    headings = re.findall(r"^╭─ (\w+) ─", capsys.readouterr().out, re.M)
    assert headings == ["What", "Encoder", "Difficulty", "Manifest", "Running"]


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "tamis.commands.cli", "--install-completion", "--shell", "bash"],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    (script,) = re.findall(r"^(/\S+) ", made.stdout)
    for typed, completed in (("curat", "curations curate"), ("keys re", "revoke"), ("curate --strat", "--strategy")):
        words = ["tamis", *typed.split()]
        code = f"""
            source {script}
            COMP_WORDS=({" ".join(words)}) COMP_CWORD={len(words) - 1}
            $(complete -p tamis | sed 's/.*-F \\([^ ]*\\).*/\\1/') tamis {words[-1]} {words[-2]}
            echo "${{COMPREPLY[@]}}"
        """
        found = subprocess.run(["bash", "-c", code], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
        assert found.stdout.strip() == completed, found.stderr
