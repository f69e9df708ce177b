"""The fuzzer of `make fuzz`, for a few seconds."""

import os
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[1] / "fuzz" / "fuzzing.py"


def test_a_few_seconds_of_fuzzing_find_nothing() -> None:
    environment = {**os.environ, "FUZZ_SECONDS": "5"}
    # What the other tests share takes longer to load than the fuzzer.
    command = [sys.executable, "-m", "pytest", "-s", "--noconftest", FUZZ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cases in 5 seconds" in done.stdout
