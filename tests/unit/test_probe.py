"""Probes: a linear classifier and nearest neighbours on features, split by hash or tested on another source."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from samples import digit_files, write_folder
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from tamis.encoders.encoder import build_encoder, encoder_bytes
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError
from trainer.labelled import check_labels
from trainer.probe import Labelled, fit_logistic, probe, probe_split, wilson_interval
from trainer.run import probe_checkpoint


def labelled(features: npt.NDArray[Any], labels: Sequence[Any]) -> Labelled:
    names = [None if label is None else str(label) for label in labels]
    return Labelled(
        np.asarray(features, np.float32),
        names,
        [hashlib.sha256(str(n).encode()).hexdigest() for n in range(len(names))],
    )


@pytest.fixture(scope="module")
def digits() -> tuple[Labelled, Labelled]:
    data: Any = load_digits()
    whole = labelled(data.data, data.target)
    first = np.arange(len(data.target)) < 1200
    return whole.pick(first), whole.pick(~first)


def test_the_classifier_is_that_of_scikit_learn(digits: tuple[Labelled, Labelled]) -> None:
    train = digits[0]
    features = (train.features - train.features.mean(0)) / np.maximum(train.features.std(0), 1e-6)
    codes = np.array([int(label or 0) for label in train.labels])
    weight, bias = fit_logistic(torch.from_numpy(features), torch.from_numpy(codes), 10)
    model = LogisticRegression(C=0.1, max_iter=5000, tol=1e-9).fit(features.astype(np.float64), codes)
    found, expected = weight.numpy().T, model.coef_
    np.testing.assert_allclose(found - found.mean(0), expected - expected.mean(0), atol=2e-3)
    ours = (torch.from_numpy(features) @ weight + bias).argmax(1).numpy()
    assert (ours == model.predict(features)).mean() > 0.998


def test_accuracies_are_those_of_plain_peers(digits: tuple[Labelled, Labelled]) -> None:
    train, test = digits
    found = probe(train, test)
    assert found is not None
    mean, deviation = train.features.mean(0), train.features.std(0)
    deviation[deviation == 0] = 1.0
    model = LogisticRegression(C=0.1, max_iter=5000).fit((train.features - mean) / deviation, train.labels)
    told = model.predict((test.features - mean) / deviation)
    assert found.accuracy == pytest.approx((told == np.array(test.labels)).mean(), abs=0.004)
    assert found.balanced == pytest.approx(balanced_accuracy_score(test.labels, told), abs=0.004)
    near = KNeighborsClassifier(20, metric="cosine", weights=lambda far: np.exp(-far / 0.07))
    told = near.fit(train.features, train.labels).predict(test.features)
    assert found.nearest == pytest.approx((told == np.array(test.labels)).mean(), abs=0.002)
    assert found.nearest_balanced == pytest.approx(balanced_accuracy_score(test.labels, told), abs=0.002)
    assert (found.train, found.test, found.classes) == (1200, 597, 10)
    few, some = found.fewer_labels["0.01"], found.fewer_labels["0.1"]
    assert (10 <= few.train <= 14, 116 <= some.train <= 124) == (True, True)
    assert few.accuracy < some.accuracy < found.accuracy
    assert few.nearest < some.nearest < found.nearest


def test_balanced_accuracy_counts_every_class_alike() -> None:
    features = np.repeat(np.eye(2), [95, 5], axis=0)
    wanted = ["a"] * 95 + ["b"] * 5
    wrong = ["a"] * 100
    found = probe(labelled(features, wanted), labelled(np.eye(2)[np.zeros(100, int)], wanted))
    assert found is not None
    assert (found.accuracy, found.balanced, found.nearest_balanced) == (0.95, 0.5, 0.5)
    assert probe(labelled(features, wrong), labelled(features, wrong)) is None


def test_the_probe_reads_separable_labels_and_splits_by_hash_alone() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, 300)
    data = labelled(np.eye(3)[codes] * 4 + random.normal(size=(300, 3)), [f"class {code}" for code in codes])
    found = probe_split(data)
    assert found is not None
    assert found.accuracy > 0.9
    assert (found.low, found.high) == wilson_interval(round(found.accuracy * found.test), found.test)
    assert found.train + found.test == 300
    assert 35 < found.test < 85
    order = random.permutation(300)
    shuffled = Labelled(data.features[order], [data.labels[n] for n in order], [data.sha256[n] for n in order])
    assert probe_split(shuffled) == found


def test_no_probe_without_two_labels_of_five_samples() -> None:
    features = np.random.default_rng(0).normal(size=(60, 4))
    for labels in ([None] * 60, ["a"] * 60, ["a"] * 56 + ["b"] * 4):
        assert probe_split(labelled(features, labels)) is None
    some = probe_split(labelled(features, ["a"] * 20 + ["b"] * 20 + ["c"] * 4 + [None] * 16))
    assert some is not None
    assert (some.classes, some.train + some.test) == (2, 40)


def test_labels_that_only_the_test_has_are_left_out(digits: tuple[Labelled, Labelled]) -> None:
    train, test = digits
    known = np.array([label not in {"3", "4"} for label in train.labels])
    found = probe(train.pick(known), test)
    assert found is not None
    assert found.classes == 8
    assert found.test == sum(label not in {"3", "4"} for label in test.labels)


def test_a_checkpoint_is_probed_on_a_test_source(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "train", digit_files(120))
    test = write_folder(tmp_path / "test", digit_files(200)[120:])
    plain = write_folder(tmp_path / "plain", tuple((name.replace("/", "-"), data) for name, data in digit_files(40)))
    checkpoint = tmp_path / "encoder.pt"
    checkpoint.write_bytes(encoder_bytes(build_encoder(EncoderSpec("small", 16), 0).eval()))
    found = probe_checkpoint(checkpoint, train, test=test)
    assert found.probe is not None
    assert (found.samples, found.probe.train, found.probe.test) == (120, 120, 80)
    assert "80 test images" in found.describe()
    assert "20 nearest neighbours" in found.describe()
    with pytest.raises(InputError, match="only be judged with labels"):
        probe_checkpoint(checkpoint, train, test=plain)
    check_labels(train)
    assert "no probe" in probe_checkpoint(checkpoint, plain).describe()
