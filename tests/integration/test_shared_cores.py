"""Commands share the cores with other work: their threads sleep while they wait for each other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.shared import run


def spins(command: list[str], folder: Path, **chosen: str) -> set[str]:
    """How often each OpenMP library that the command loaded looks again before a waiting thread sleeps."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", **chosen}
    done = subprocess.run(
        [sys.executable, "-m", "tamis.commands.cli", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    return set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr))


# Each loads PyTorch before it finds that there is nothing to do.
@pytest.mark.parametrize(
    "command",
    [
        ["curate", "photos", "-o", "out"],
        pytest.param(["train", "nothing", "-o", "out"], marks=pytest.mark.slow),
        pytest.param(["probe", "photos/no-image.png", "photos"], marks=pytest.mark.slow),
        ["worker", "--queues", "nothing", "--data", "data"],
    ],
    ids=lambda command: command[0],
)
def test_threads_of_a_command_sleep_while_they_wait(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "no-image.png").write_text("text")
    assert spins(command, tmp_path) == {"0"}


def test_what_the_user_has_set_stands(tmp_path: Path) -> None:
    assert spins(["train", "nothing", "-o", "out"], tmp_path, GOMP_SPINCOUNT="77") == {"77"}


@pytest.mark.slow
def test_the_benchmark_tells_what_a_step_costs_against_its_share() -> None:
    found = dict(run(count=2, rounds=1, load=1, image_size=16))
    for name in ("asleep", "spinning"):
        assert found[name]["seconds_a_step"] > 0
        assert found[name]["times_its_share"] > 0
