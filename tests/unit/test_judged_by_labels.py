"""What labels say of a manifest: which classes meet in difficult pairs, what becomes of their mix, and which labels are
doubted; and that a manifest without labels, or without features, says less."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import tamis
from tamis.manifest import Manifest
from tamis.report.labels import judged, votes

CLASSES, EACH = 4, 40
COUNT = CLASSES * EACH
NAMES = np.array(["ant", "bee", "cat", "dog"])


@pytest.fixture(scope="module")
def truth() -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(CLASSES), EACH)


@pytest.fixture(scope="module")
def manifest(truth: npt.NDArray[np.int64]) -> Manifest:
    random = np.random.default_rng(0)
    rows = random.standard_normal((CLASSES, 16))[truth] + 0.3 * random.standard_normal((COUNT, 16))
    return tamis.curate(rows.astype(np.float32), classes=CLASSES).select("combined", 0.2)


def having(manifest: Manifest, **columns: pa.Array) -> Manifest:
    samples = manifest.samples
    for name, values in columns.items():
        at = samples.column_names.index(name)
        samples = samples.set_column(at, samples.schema.field(at), [values])
    return replace(manifest, samples=samples)


def labelled(manifest: Manifest, codes: npt.NDArray[np.int64]) -> Manifest:
    """-1 for none."""
    return having(manifest, label=pa.array([None if code < 0 else str(NAMES[code]) for code in codes]))


def test_votes_are_those_of_the_nearest_labelled_others(manifest: Manifest, truth: npt.NDArray[np.int64]) -> None:
    random = np.random.default_rng(1)
    codes = np.where(random.random(COUNT) < 0.2, -1, np.where(random.random(COUNT) < 0.3, (truth + 1) % CLASSES, truth))
    rows = np.flatnonzero(codes >= 0)[::3]
    assert manifest.features is not None
    found = votes(manifest.features, codes, rows)
    for at, row in enumerate(rows):
        similarity = manifest.features.astype(np.float32) @ manifest.features[row].astype(np.float32)
        similarity[(codes < 0) | (np.arange(COUNT) == row)] = -2
        shares = np.bincount(codes[np.argsort(-similarity)[:20]], minlength=CLASSES) / 20
        assert found.own[at] == pytest.approx(shares[codes[row]])
        shares[codes[row]] = -1
        assert found.other[at] == pytest.approx(shares.max())
        assert shares[found.nearby[at]] == shares.max()


def test_flipped_labels_are_doubted_and_no_others(manifest: Manifest, truth: npt.NDArray[np.int64]) -> None:
    flipped = np.array([3, 50, 90, 159])
    codes = truth.copy()
    codes[flipped] = (truth[flipped] + 1) % CLASSES
    found = judged(labelled(manifest, codes))
    assert found is not None
    assert found.suspects is not None
    assert {suspect.sample for suspect in found.suspects} == set(flipped.tolist())
    first = found.suspects[0]
    assert (first.label, first.nearby) == (NAMES[codes[first.sample]], NAMES[truth[first.sample]])
    assert "labels in doubt: 4," in "".join(found.describe())


def test_the_mix_before_and_after_counts_what_is_kept_by_weight(
    manifest: Manifest, truth: npt.NDArray[np.int64]
) -> None:
    keep = np.ones(COUNT, bool)
    keep[: EACH // 2] = False
    weight = np.where(truth == 3, 2.0, 1.0)
    found = judged(labelled(having(manifest, keep=pa.array(keep), weight=pa.array(weight, pa.float32())), truth))
    assert found is not None
    drawn = {"ant": 20, "bee": 40, "cat": 40, "dog": 80}
    for group in found.balance:
        assert group.before == 0.25
        assert group.after == pytest.approx(drawn[group.name] / 180)
        assert (group.samples, group.dropped) == (EACH, 20 * (group.name == "ant"))
    assert found.shift == pytest.approx(80 / 180 - 0.25)
    assert "ant" in found.shifts
    assert f"shifts by {found.shift:.1%}, in ant" in "".join(found.describe())


def test_pairs_are_counted_by_their_two_labels(manifest: Manifest, truth: npt.NDArray[np.int64]) -> None:
    codes = np.where(truth == 2, -1, truth)
    found = judged(labelled(manifest, codes))
    assert found is not None
    place = {name: row for row, name in enumerate(manifest.samples["sample_id"].to_pylist())}
    counts: dict[tuple[str, str], int] = {}
    for pair in manifest.pairs.to_pylist():
        a, b = sorted(codes[place[pair[side]]] for side in ("a", "b"))
        if pair["in_band"] and a >= 0:
            counts[str(NAMES[a]), str(NAMES[b])] = counts.get((str(NAMES[a]), str(NAMES[b])), 0) + 1
    apart = {names: count for names, count in counts.items() if names[0] != names[1]}
    assert {(one, other): count for one, other, count in found.confused} == apart
    assert found.apart == pytest.approx(sum(apart.values()) / sum(counts.values()))
    assert [count for *_, count in found.confused] == sorted(apart.values(), reverse=True)


def test_without_features_no_label_is_doubted_and_without_two_labels_nothing_is_said(
    manifest: Manifest, truth: npt.NDArray[np.int64]
) -> None:
    found = judged(labelled(replace(manifest, features=None), truth))
    assert found is not None
    assert found.suspects is None
    assert judged(manifest) is None
    assert judged(labelled(manifest, np.zeros(COUNT, np.int64))) is None
