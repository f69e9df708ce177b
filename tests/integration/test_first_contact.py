"""`tamis bench first-contact`: the whole command, measured from outside."""

import json
from pathlib import Path

import pytest

from benchmarks.image_folders import mixture
from tamis.commands.cli import main


@pytest.mark.slow
def test_the_command_is_measured_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"folder={tmp_path / 'images'}", 'sets=["mixture"]', 'options=["--epochs","1"]']
    arguments = [word for value in given for word in ("--with", value)]
    assert main(["bench", "first-contact", "--count", "24", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["mixture"]
    damaged = sum(one.damage is not None for one in mixture(24))
    assert (found["images"], found["refused"], found["samples"]) == (24, damaged, 24 - damaged)
    assert found["megabytes"] > 0
    # An interpreter with PyTorch takes some.
    assert found["peak_mb"] > 100 < found["peak_of_one_mb"]
    assert 0 < found["longest_silence_seconds"] <= found["seconds"]
    assert found["cpu_seconds"] > 0
    assert (tmp_path / "images" / "mixture-24").is_dir()


def test_an_argument_that_a_benchmark_does_not_take_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "first-contact", "--with", "colour=blue"]) == 2
    assert "takes no colour" in capsys.readouterr().err
