"""`tamis train` as torchrun starts it: the first process writes and tells."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from samples import digit_embeddings, digit_files, write_folder

from tamis.commands.cli import main

COUNT = 120
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_two_processes_train_a_manifest_and_the_first_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "photos", digit_files(COUNT))
    np.save(tmp_path / "rows.npy", digit_embeddings(COUNT))
    manifest, out = tmp_path / "manifest", tmp_path / "out"
    curate = ["curate", tmp_path / "photos", "-o", manifest, "--encoder", f"embeddings:{tmp_path / 'rows.npy'}"]
    assert main([*map(str, curate), "--strategy", "temperature", "--classes", "10", "--quiet"]) == 0
    capsys.readouterr()
    train = ["train", manifest, "-o", out, "--steps", "20", "--batch-size", "16", "--device", "cpu", "--json"]
    words = [*TORCHRUN, "-m", "tamis.commands.cli", *map(str, train)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stderr.count("Training on") == 1
    described, told = ended.stdout.splitlines()
    assert described.startswith("temperature: 120 images, 20 steps")
    assert json.loads(told) == json.loads((out / "result.json").read_text())
    assert json.loads(told)["probe"]["accuracy"] > 0.2
    assert sorted(path.name for path in out.iterdir()) == ["encoder.pt", "result.json"]


def test_an_experiment_is_not_shared(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["experiment", "photos", "-o", "out"]) == 2
    assert "torchrun shares one training" in capsys.readouterr().err
