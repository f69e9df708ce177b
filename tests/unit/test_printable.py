"""Foreign text in tables, messages and logs cannot move the cursor or add a line."""

import logging

import pytest

from tamis.commands.tables import print_facts, print_table
from tamis.errors import InputError
from tamis.logs import Harmless
from tamis.printable import printable

EVIL = "a\x1b]0;owned\x07\r\nb\x9b2J\u202e\ud800"


@pytest.mark.parametrize("text", ["plain", "Ümläute 数 é", "\\x1b is text"])
def test_what_is_printable_stays(text: str) -> None:
    assert printable(text) == text


def test_tables_facts_and_logs_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["NAME"], [[EVIL]])
    print_facts({"name": EVIL})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    record = logging.LogRecord("x", logging.INFO, "", 0, "read %s", (EVIL,), None)
    assert Harmless("%(name)s %(message)s").format(record).isprintable()


def test_an_error_of_a_command_is_harmless(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tamis.commands import app, cli

    def fail(_: object) -> None:
        raise InputError(f"{EVIL} does not exist.")

    monkeypatch.setattr(app, "run", fail)
    assert cli.main(["datasets"]) == 2
    told = capsys.readouterr().err
    assert all(line.isprintable() for line in told.split("\n"))
