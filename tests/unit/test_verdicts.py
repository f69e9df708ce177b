"""Experiments: which arms and controls are run, on what, what their numbers say, and in which words."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats

import tamis
from tamis import ConflictError, InputError
from tamis.batches.flags import Curated
from tamis.curation.asked import REMOVING
from tamis.manifest import Manifest
from trainer.arms import CONTROLS, PEERS, Arm, check_seeds, planned
from trainer.experiment import set_apart
from trainer.flags import Chance
from trainer.probe import Accuracy, Probe, held_out
from trainer.recipe import Recipe
from trainer.results import FileRuns, measured
from trainer.statistics import paired_difference
from trainer.trials import trial_of
from trainer.verdicts import Scores, scores_of, verdict

COUNT = 200
PROBE = Probe(
    0.9,
    0.8,
    0.7,
    0.6,
    100,
    0.85,
    0.95,
    50,
    10,
    {"0.01": Accuracy(0.3, 0.2, 0.25, 0.2, 1), "0.1": Accuracy(0.5, 0, 0.45, 0, 10)},
)


@pytest.fixture(scope="module")
def manifests() -> dict[str, Manifest]:
    random = np.random.default_rng(0)
    rows = np.repeat(random.standard_normal((4, 16)), COUNT // 4, 0) + random.standard_normal((COUNT, 16))
    curation = tamis.curate(rows.astype(np.float32), classes=4)
    return {name: curation.select(name, fraction=0.1 if name in REMOVING else "auto") for name in CONTROLS}


def test_every_arm_brings_the_baselines_and_its_controls() -> None:
    assert [arm.name for arm in planned(["temperature", "remove"])] == [
        *("baseline 0.1", "baseline 0.2", "baseline 0.4"),
        *("temperature", "temperature-all", "temperature-random"),
        *("remove", "random"),
    ]
    assert planned(["random"]) == planned(["remove"])
    assert planned(["margin-all", "margin"]) == planned(["margin"])
    assert [arm.name for arm in planned(["baseline"])] == ["baseline 0.1", "baseline 0.2", "baseline 0.4"]
    assert {arm.temperature for arm in planned(list(CONTROLS)) if arm.strategy} == {Recipe.temperature}
    for asked, message in ((["removal"], "no arm 'removal'"), ([], "No arm is named")):
        with pytest.raises(InputError, match=message):
            planned(asked)
    assert [(arm.name, arm.strategy, arm.control) for arm in planned(["hard"])[3:]] == [("hard", "auto", "")]
    with pytest.raises(InputError, match="rule on infonce"):
        planned(["eliminated"], Recipe(loss="spectral"))
    assert [arm.name for arm in planned(["remove"], Recipe(loss="spectral"))] == ["baseline", "remove", "random"]
    simsiam = Recipe(method="simsiam")
    assert [arm.name for arm in planned(["sas", "remove"], simsiam)] == ["baseline", "sas", "remove", "random"]
    for asked in ("temperature-all", "auto", "combined"):
        with pytest.raises(InputError, match="compares an image with itself alone"):
            planned([asked], simsiam)
    hot = planned(["margin"], Recipe(temperature=0.5))
    assert [arm.name for arm in hot[:3]] == ["baseline 0.25", "baseline 0.5", "baseline 1"]
    assert {arm.temperature for arm in hot[3:]} == {0.5}
    with pytest.raises(InputError, match="An interval takes 2 or more"):
        check_seeds(1)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_that_of_a_paired_t_test(count: int) -> None:
    ours, theirs = np.random.default_rng(count).normal(size=(2, count))
    found = paired_difference(ours.tolist(), theirs.tolist())
    test = stats.ttest_rel(ours, theirs)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.mean == pytest.approx((ours - theirs).mean())
    assert (found.is_gain or found.is_loss) == (test.pvalue < 0.05)


def scores(arm: str, own: Sequence[float], **others: Sequence[float]) -> Scores:
    """Baselines about 80 and 79; `own` and each control, by the end of its name, beside them."""
    known = {"baseline 0.1": [80.0, 80.2, 79.9], "baseline 0.2": [79.0, 79.1, 79.2]}
    controls = {name: others[name.rpartition("-")[2]] for name in CONTROLS[arm] if name.rpartition("-")[2] in others}
    return Scores({**known, arm: own, **controls}, list(known))


GAIN, SAME, LOSS = [82.0, 82.1, 82.0], [80.1, 80.0, 80.1], [78.0, 78.3, 78.1]
ROUGH = [79.0, 84.0, 81.0]


@pytest.mark.parametrize(
    ("arm", "own", "others", "expected"),
    [
        (
            "temperature",
            GAIN,
            {"all": SAME, "random": SAME},
            "gains 2.0 (1.8 to 2.2) over the best baseline, and more than the same factor on all negatives",
        ),
        (
            "temperature",
            GAIN,
            {"all": GAIN, "random": SAME},
            "but so does the same factor on all negatives: not due to difficult pairs",
        ),
        (
            "margin",
            GAIN,
            {"all": ROUGH, "random": SAME},
            "does not differ from the same margin on all negatives (+0.7 (-5.4 to +6.8)): not shown to be due to",
        ),
        (
            "auto",
            SAME,
            {"all": SAME, "random": SAME},
            "no difference found from the best baseline",
        ),
        ("combined", LOSS, {"all": SAME, "random": SAME}, "loses 1.9 (1.7 to 2.1) against the best baseline"),
        ("remove", GAIN, {"random": GAIN}, "but so does random removal of the same share: not due to which images go"),
        ("remove", GAIN, {"random": LOSS}, "and more than random removal of the same share (+3.9"),
    ],
    ids=["gain of its own", "gain of all", "not told apart", "nothing", "loss", "removal by chance too", "removal"],
)
def test_a_verdict_says_what_the_numbers_do(arm: str, own: Any, others: Any, expected: str) -> None:
    assert expected in verdict(arm, scores(arm, own, **others))


def test_peers_are_compared_with_the_best_baseline_alone() -> None:
    known = {"baseline 0.1": [80.0, 80.2, 79.9], "baseline 0.2": [79.0, 79.1, 79.2]}
    assert verdict("hard", Scores({**known, "hard": GAIN}, list(known))) == (
        "gains 2.0 (1.8 to 2.2) over the best baseline"
    )
    assert "loses 1.9" in verdict("hard", Scores({**known, "hard": LOSS}, list(known)))


def test_what_changes_no_loss_is_compared_with_the_baseline_of_its_temperature() -> None:
    removed = scores("remove", SAME, random=LOSS)
    assert removed.best_baseline == "baseline 0.1"
    assert (removed.baseline_of("remove"), removed.baseline_of("random")) == ("baseline 0.2", "baseline 0.2")
    assert verdict("remove", removed).startswith("gains 1.0 (0.7 to 1.3) over the baseline of its temperature")
    one = Scores({"baseline": SAME, "sas": LOSS}, ["baseline"])
    assert "against the baseline of its temperature" in verdict("sas", one)


def test_differences_that_are_all_alike_tell_nothing() -> None:
    """Two seeds may differ by as many images of a few by chance: their interval is a point."""
    alike = paired_difference([82.0, 83.0], [81.0, 82.0])
    assert (alike.mean, alike.low, alike.high) == (1.0, 1.0, 1.0)
    assert not alike.is_gain
    assert not paired_difference([81.0, 82.0], [82.0, 83.0]).is_loss


def test_nothing_is_said_without_the_controls() -> None:
    with pytest.raises(KeyError):
        verdict("temperature", scores("temperature", GAIN, all=SAME))


def row(arm: str, seed: int, linear: float = 0.8) -> dict[str, Any]:
    other = {"samples": 10, "steps": 5, "loss": 1.0, "seconds": 2.0, "trial": "x", "encoder": "y"}
    return {"arm": arm, "seed": seed, **measured(PROBE), "linear": linear, **other}


def test_only_seeds_that_all_arms_have_run_with_are_compared() -> None:
    arms = (Arm("baseline 0.2"), Arm("remove", "remove"))
    rows = [row("baseline 0.2", 0), row("baseline 0.2", 1), row("remove", 1, 0.7), row("other", 0)]
    found = scores_of(rows, arms, "linear")
    assert found.by_arm == {"baseline 0.2": [80.0], "remove": [70.0]}
    assert found.best_baseline == "baseline 0.2"


def test_runs_are_kept_one_by_one_and_those_of_another_experiment_are_not_mixed_in(tmp_path: Path) -> None:
    runs = FileRuns(tmp_path, {"steps": 5})
    assert runs.rows() == []
    runs.add(row("remove", 0))
    FileRuns(tmp_path, {"steps": 5}).add(row("remove", 1))
    assert [each["seed"] for each in runs.rows()] == [0, 1]
    assert pq.read_table(tmp_path / "runs.parquet")["linear_10"].to_pylist() == [0.5, 0.5]
    assert [path.name for path in tmp_path.iterdir()] == ["runs.parquet"]
    with pytest.raises(ConflictError, match="another experiment"):
        FileRuns(tmp_path, {"steps": 6}).rows()


def trial(manifests: dict[str, Manifest], name: str, tested: npt.NDArray[np.bool_], seed: int = 0) -> Any:
    (arm,) = [arm for arm in planned(list(CONTROLS)) if arm.name == name]
    return trial_of(arm, manifests.get(arm.strategy, manifests["remove"]), tested, Recipe(seed=seed))


def test_arms_and_controls_train_on_as_many_images_and_pairs(manifests: dict[str, Manifest]) -> None:
    tested = np.arange(COUNT) % 5 == 0
    keep = manifests["remove"].samples["keep"].to_numpy(zero_copy_only=False)
    removed, random = (trial(manifests, name, tested) for name in ("remove", "random"))
    assert np.array_equal(removed.keep, keep & ~tested)
    assert removed.keep.sum() == random.keep.sum() < (~tested).sum()
    assert not (random.keep & tested).any()
    assert not np.array_equal(removed.keep, random.keep)
    assert not np.array_equal(random.keep, trial(manifests, "random", tested, seed=1).keep)
    assert removed.flags is random.flags is None
    for name, (margin, temperature) in {
        "margin": (0.2, 1.0),
        "temperature": (0.0, 0.5),
        "combined": (0.2, 0.5),
    }.items():
        own, of_all, by_chance = (trial(manifests, f"{name}{end}", tested) for end in ("", "-all", "-random"))
        assert isinstance(own.flags, Curated)
        cut = manifests[name].description["thresholds"]
        assert of_all.flags == Chance(1.0, margin, temperature)
        assert by_chance.flags == Chance(pytest.approx(cut["pos_low"] - cut["pos_high"]), margin, temperature)
        assert own.keep.sum() == of_all.keep.sum() == by_chance.keep.sum()
        assert (own.keep.sum() < (~tested).sum()) == (name == "combined")
    baseline = trial(manifests, "baseline 0.4", tested)
    assert np.array_equal(baseline.keep, ~tested)
    assert (baseline.recipe.temperature, removed.recipe.temperature) == (0.4, 0.2)
    assert baseline.flags is None


def test_peers_do_what_their_papers_say(manifests: dict[str, Manifest]) -> None:
    tested = np.arange(COUNT) % 5 == 0
    of = {arm.name: arm for arm in planned(list(PEERS))}
    found = {name: trial_of(of[name], manifests[PEERS[name]], tested, Recipe(seed=3)) for name in PEERS}
    described = manifests["auto"].description
    share = described["thresholds"]["pos_high"]
    for name, (prior, hardness) in {"debiased": (share, 0.0), "hard": (share, 1.0), "eliminated": (0.0, 0.0)}.items():
        assert np.array_equal(found[name].keep, ~tested)
        assert (found[name].recipe.prior, found[name].recipe.hardness) == (prior, hardness)
        assert found[name].recipe.seed == 3
    assert found["debiased"].flags is found["hard"].flags is None
    flags, rows = found["eliminated"].flags, manifests["auto"].features
    assert isinstance(flags, Curated)
    assert rows is not None
    alike, margin, _ = flags.on(torch.device("cpu"))(np.arange(40), torch.zeros(2, 40, 3))
    plain = rows[:40].astype(np.float32)
    assert margin == -np.inf
    assert np.array_equal(alike.numpy(), plain @ plain.T >= described["band"]["sim_high"])
    subset, rows_of_it = found["sas"], manifests["combined"].features
    assert rows_of_it is not None
    assert subset.keep.sum() == trial(manifests, "remove", tested).keep.sum() < (~tested).sum()
    assert subset.flags is None
    cluster = manifests["combined"].samples["cluster"].to_numpy()
    for number in range(4):
        own = np.flatnonzero((cluster == number) & ~tested)
        similar = rows_of_it[own].astype(np.float64) @ rows_of_it[own].astype(np.float64).T
        np.fill_diagonal(similar, 0.0)
        kept = subset.keep[own]
        assert abs(kept.mean() - subset.keep[~tested].mean()) < 1.5 / len(own)
        assert similar.sum(1)[kept].min() >= similar.sum(1)[~kept].max(initial=-np.inf)
    forgetting = found["forgetting"]
    assert np.array_equal(forgetting.keep, ~tested)
    assert forgetting.most_forgotten == subset.keep.sum()
    assert forgetting.digest() != trial(manifests, "baseline 0.2", tested, seed=3).digest()
    one_class = replace(manifests["auto"], features=None, description={})
    with pytest.raises(InputError, match="one class as far as is known, so the arm hard"):
        trial_of(of["hard"], one_class, tested, Recipe())


def test_other_rules_keep_as_many_images_and_treat_no_pairs(manifests: dict[str, Manifest]) -> None:
    tested = np.arange(COUNT) % 5 == 0
    arm = Arm("by 10-NN distance", "combined", keeps="neighbours")
    found = trial_of(arm, manifests["combined"], tested, Recipe())
    assert found.flags is None
    assert found.keep.sum() == trial(manifests, "remove", tested).keep.sum() < (~tested).sum()
    rows = manifests["combined"].features
    assert rows is not None
    trained = rows[~tested].astype(np.float64)
    near = np.sort(trained @ trained.T, axis=1)[:, -11:].sum(1)
    assert near[found.keep[~tested]].min() >= near[~found.keep[~tested]].max() - 1e-3


def test_equal_trials_are_known_as_equal(manifests: dict[str, Manifest]) -> None:
    nothing = np.zeros(COUNT, bool)
    digests = {name: trial(manifests, name, nothing).digest() for name in ("auto", "temperature", "margin", "auto-all")}
    assert digests["auto"] == digests["temperature"]
    assert len(set(digests.values())) == 3
    assert trial(manifests, "auto-all", nothing).digest() == trial(manifests, "temperature-all", nothing).digest()
    assert trial(manifests, "auto", nothing, seed=1).digest() != digests["auto"]


def test_what_the_layout_sets_apart_is_tested_on_or_else_a_fifth_by_hash() -> None:
    hashes = [f"{number * 2654435761 % 2**32:08x}" for number in range(COUNT)]
    for folder in ("test", "t10k-images-idx3-ubyte", "cifar/test_batch.bin", "data/Test"):
        names = [f"{folder if row < 30 else 'train'}/{row}.png" for row in range(COUNT)]
        assert np.array_equal(set_apart(names, ["a"] * COUNT, hashes), np.arange(COUNT) < 30), folder
    by_hash = held_out(hashes)
    assert 20 < by_hash.sum() < 60
    for names in ([f"a/{row}.png" for row in range(COUNT)], [f"test/{row}.png" for row in range(COUNT)]):
        assert np.array_equal(set_apart(names, ["a"] * COUNT, hashes), by_hash)
    alike = [f"contest/test-{row}.png" for row in range(COUNT)]
    assert np.array_equal(set_apart(alike, ["a"] * COUNT, hashes), by_hash)


def test_where_labels_of_the_test_are_kept_back_the_validation_is_tested_on() -> None:
    hashes = [f"{number * 2654435761 % 2**32:08x}" for number in range(COUNT)]
    split = ["train"] * 150 + ["val"] * 30 + ["test"] * 20
    names = [f"tiny-imagenet-200/{part}/images/{row}.JPEG" for row, part in enumerate(split)]
    labels = [None if part == "test" else "n01" for part in split]
    # The test images are not trained on all the same.
    assert np.array_equal(set_apart(names, labels, hashes), np.arange(COUNT) >= 150)
    assert np.array_equal(set_apart(names, ["n01"] * COUNT, hashes), np.arange(COUNT) >= 180)
