"""kill -9 of `tamis curate` in every stage; typed again, it goes on, and does nothing twice that was finished."""

import json
from collections import Counter
from pathlib import Path

import forked
import pytest
from samples import digit_files, write_folder

# Two shards, so that one can be embedded and the other not.
COUNT = 1100
STEPS = 24
# One process that forks a run for each stage. Each run writes down what it
# works on, and is killed by itself, as the kernel would, in the middle of its stage.
AT_ONCE = ("estimating the classes", "writing the manifest", "embedding blends of images")
SHARD_BY_SHARD = ("decoding images for training", "embedding images")
PROGRAM = (
    f"AT_ONCE, SHARD_BY_SHARD = {AT_ONCE}, {SHARD_BY_SHARD}"
    + """
import json, os, signal, sys
from pathlib import Path

import tamis.encoders.inference, trainer.frameworks.learner
import worker.steps.curate, worker.steps.ingest, worker.steps.pixels
from worker.local import curate_source

source, out, log, steps = sys.argv[1:5]

def noted(module, name, what=lambda *_: ""):
    real = getattr(module, name)
    def noting(*arguments, **named):
        with open(log, "a") as file:
            print(f"{name} {what(*arguments)}".strip(), file=file)
        return real(*arguments, **named)
    setattr(module, name, noting)

noted(worker.steps.ingest, "ingest")
noted(trainer.frameworks.learner.Learner, "learn", lambda _, step, *rest: step)
noted(worker.steps.pixels, "decode_shard", lambda content, *rest: len(content))
noted(tamis.encoders.inference.Embedder, "of_pixels", lambda _, pixels, names, *rest: names[0])
noted(worker.steps.embed, "blend_images")
noted(worker.steps.curate, "make_plan")
noted(worker.steps.curate, "assemble")

def run(deadly):
    def step(title):
        if title == deadly and title in AT_ONCE:
            os.kill(os.getpid(), signal.SIGKILL)
        def progress(done, total):
            # Where there are shards: after the last image, before its shard is kept.
            if title == deadly and done * (1 if title in SHARD_BY_SHARD else 2) >= total:
                os.kill(os.getpid(), signal.SIGKILL)
        return progress
    curate_source(Path(source), Path(out), steps=int(steps), classes=10, step=step)

for deadly in sys.argv[5:]:
    child = os.fork()
    if child == 0:
        run(deadly)
        os._exit(0)
    print(json.dumps([deadly, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]), flush=True)
os._exit(0)
"""
)
STAGES = (
    "reading, checking and hashing images",
    "decoding images for training",
    "training SimCLR on the images themselves",
    "embedding images",
    "embedding blends of images",
    "estimating the classes",
    "comparing all pairs",
    "writing the manifest",
)


def runs(folder: Path, out: str, cache: Path, *deadly: str) -> tuple[dict[str, int], Counter[str]]:
    """Exit status of a run killed in each stage, and how often each piece of work was begun in all."""
    log = folder / f"{out}.log"
    program = f"import os; os.environ['TAMIS_CACHE'] = {str(cache)!r}\n{PROGRAM}"
    done = forked.run(folder / "digits", folder / out, log, str(STEPS), *deadly, first=program)
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines())), Counter(log.read_text().splitlines())


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_command_killed_in_each_stage_and_typed_again_comes_to_the_same(tmp_path: Path) -> None:
    write_folder(tmp_path / "digits", digit_files(COUNT))
    ended, quiet = runs(tmp_path, "quiet", tmp_path / "one", "")
    assert ended == {"": 0}
    assert set(quiet.values()) == {1}
    for work in ("decode_shard", "of_pixels"):
        assert sum(each.startswith(work) for each in quiet) == 2
    ended, disturbed = runs(tmp_path, "disturbed", tmp_path / "two", *STAGES, "")
    assert ended == {**dict.fromkeys(STAGES, -9), "": 0}
    assert written(tmp_path / "disturbed") == written(tmp_path / "quiet")
    # Cut off in its middle, a stage goes on from its last checkpoint; what was finished is not done again.
    assert disturbed.pop("ingest") == 2
    assert disturbed.keys() | {"ingest"} == quiet.keys()
    again = {work for work, times in disturbed.items() if times > 1}
    assert {work.split()[0]: times for work, times in disturbed.items() if times > 2} == {}
    learnt = {f"learn {step}" for step in range(11, STEPS // 2 + 1)}
    assert {work.split()[0] for work in again - learnt} <= {"decode_shard", "of_pixels"}
    assert len(again - learnt) == 2
    assert not list((tmp_path / "two").glob("scratch/*/*"))


@pytest.mark.parametrize("changed", [{"strategy": "combined"}, {"score": "band"}, {"pos_low": 0.9}])
def test_another_curation_of_the_same_images_uses_encoder_and_embeddings(
    tmp_path: Path, changed: dict[str, str | float], monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainer.frameworks.learner
    from tamis.encoders.inference import Embedder
    from worker.local import curate_source

    write_folder(tmp_path / "digits", digit_files(60))
    first = curate_source(tmp_path / "digits", tmp_path / "one", steps=4, classes=4)
    assert first["cache_bytes"] < 3 * 2**20

    def never(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(trainer.frameworks.learner.Learner, "learn", never)
    monkeypatch.setattr(Embedder, "_features", never)
    curate_source(tmp_path / "digits", tmp_path / "two", steps=4, classes=4, **changed)  # type: ignore[arg-type]
    # Another image is another data set.
    (tmp_path / "digits" / "0" / "new.png").write_bytes(digit_files(61)[-1][1])
    with pytest.raises(AssertionError, match="made again"):
        curate_source(tmp_path / "digits", tmp_path / "three", steps=4, classes=4)
