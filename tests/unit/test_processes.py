"""Processes that share a training learn what one learns of the whole batch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from joint import CASES, in_float64, trained

from tamis.errors import InputError
from trainer.processes import ALONE, Processes, joined_processes

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes came to, by case."""
    folder = tmp_path_factory.mktemp("joint")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*torchrun, str(TESTS / "joint.py"), str(folder)], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_learns_of_the_whole_batch(case: str, found: list[dict[str, Any]]) -> None:
    with in_float64():
        loss, weights = trained(case)
    for told, learnt in (each[case] for each in found):
        assert told == pytest.approx(loss, abs=1e-6)
        for name, value in learnt.items():
            # MoCo's statistics of a whole batch are those of its groups, one after another; each process sees its own.
            if not (case.startswith("moco") and "running" in name):
                torch.testing.assert_close(value, weights[name], rtol=1e-6, atol=1e-7)


def test_a_training_taken_up_ends_in_the_same_bits_in_every_process(found: list[dict[str, Any]]) -> None:
    for each in found:
        for name, value in each["simclr, curated"][1].items():
            assert torch.equal(each["resumed"][1][name], value)
            assert torch.equal(found[0]["resumed"][1][name], value)


def test_shares_are_equally_large_and_cover_the_batch() -> None:
    shares = [range(12)[Processes(rank, 3).share(12)] for rank in range(3)]
    assert [list(share) for share in shares] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert range(5)[ALONE.share(5)] == range(5)
    with pytest.raises(
        InputError, match=r"13 images a step cannot be shared evenly by 3 processes\. Use a batch size of 12"
    ):
        Processes(0, 3).share(13)


def test_several_processes_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="2 processes cannot all use cuda:0"), joined_processes("cuda:0"):
        pass
    with pytest.raises(InputError, match="no device cuda:1: 1 are there"), joined_processes("cuda"):
        pass
