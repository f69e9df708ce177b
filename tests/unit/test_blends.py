"""The blend score on made data, against a plain version, and what it must not depend on."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

import tamis
from tamis import InputError
from tamis.curation.blends import IMAGES, PARENTS, Blends, blend_images, blend_score, draw_parents
from tamis.curation.difficulty import auto_fraction
from tamis.encoders.encoder import build_encoder
from tamis.encoders.inference import Embedder
from tamis.encoders.spec import EncoderSpec
from tamis.images import decode
from tamis.ingest.shards import ingest, pick_images
from tamis.scan.rows import Rows
from tamis.sources import open_source
from tests.samples import digit_files, write_tar

CLASSES, EACH = 6, 100
DIRECTIONS = np.linalg.qr(np.random.default_rng(0).standard_normal((24, 24)))[0]
BEND = 0.7 * DIRECTIONS[CLASSES]


@pytest.fixture(scope="module")
def embeddings() -> npt.NDArray[np.float32]:
    """Six classes; the first fifth of each is between it and another class, bent away as an encoder bends it."""
    random = np.random.default_rng(3)
    rows = np.repeat(DIRECTIONS[:CLASSES], EACH, 0).reshape(CLASSES, EACH, 24)
    for number in range(CLASSES):
        other = (number + random.integers(1, CLASSES, EACH // 5)) % CLASSES
        rows[number, : EACH // 5] += random.uniform(0.5, 1.5, (EACH // 5, 1)) * DIRECTIONS[other] + BEND
    # All spread alike about where they lie, as embeddings of one network are.
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return (rows.reshape(-1, 24) + 0.1 * random.standard_normal((CLASSES * EACH, 24))).astype(np.float32)


@pytest.fixture(scope="module")
def blends(embeddings: npt.NDArray[np.float32]) -> Blends:
    """What the encoder of `embeddings` makes of blended images: midpoints, bent the same way."""
    first, second = draw_parents(len(embeddings), 0)
    unlike = first // EACH != second // EACH
    return Blends(first, second, embeddings[first] + embeddings[second] + (unlike[:, None] * BEND).astype(np.float32))


def difficult() -> npt.NDArray[np.bool_]:
    return np.tile(np.arange(EACH) < EACH // 5, CLASSES)


def test_samples_between_classes_score_higher_and_blended_images_tell_them_best(
    embeddings: npt.NDArray[np.float32], blends: Blends
) -> None:
    alone = roc_auc_score(difficult(), blend_score(Rows(embeddings)))
    assert alone > 0.55
    assert roc_auc_score(difficult(), blend_score(Rows(embeddings), blends)) > max(alone, 0.99)


def test_it_equals_the_plain_version(embeddings: npt.NDArray[np.float32], blends: Blends) -> None:
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    mean = unit.mean(0)
    values, directions = np.linalg.eigh(np.cov(unit.T.astype(np.float64), ddof=0))

    def project(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        whitened = (rows / np.linalg.norm(rows, axis=1, keepdims=True) - mean) @ (directions * values**-0.25)
        projected: npt.NDArray[np.float64] = whitened / np.linalg.norm(whitened, axis=1, keepdims=True)
        return projected

    def less_alike(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        alike = (points[one] * points[other]).sum(1)
        return alike < np.sort(alike)[len(alike) // 2]

    points = project(embeddings)
    random = np.random.default_rng((0, 2))
    # As the score draws them: all samples are its reference, and of the reference pairs.
    random.choice(len(points), len(points), replace=False)
    one = random.integers(len(points), size=2 * len(points))
    other = (one + random.integers(1, len(points), size=len(one))) % len(points)
    used = less_alike(one, other)
    midpoints = points[one[used]] + points[other[used]]
    midpoints /= np.linalg.norm(midpoints, axis=1, keepdims=True)
    used = less_alike(blends.first, blends.second)
    made = project(blends.embeddings[used])  # type: ignore[index, arg-type]  # NumPy here
    similar = points @ points.T
    np.fill_diagonal(similar, -2)
    count = round(0.01 * len(points))
    highest = -np.sort(-similar, 1)[:, :count]
    nearer = np.sort(points @ np.r_[midpoints, made].T, 1)[:, -count:].mean(1) - highest.mean(1)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    far = 1 - np.sort(cosines, 1)[:, -50:].mean(1)
    score = blend_score(Rows(embeddings))
    logit = np.log(score / (1 - score.astype(np.float64))) / 10
    isolation = far / 2 - 0.18 * highest[:, 0]
    np.testing.assert_allclose(logit - logit.mean(), isolation - isolation.mean(), atol=1e-4)
    score = blend_score(Rows(embeddings), blends)
    assert (score >= 0.5).mean() == pytest.approx((nearer > 0).mean(), abs=1 / len(score))
    logit = np.log(score / (1 - score.astype(np.float64))) / 10
    probability = (logit - isolation) / 0.7
    probability -= probability.min()
    assert probability[difficult()].mean() > 0.5 > 0.1 > probability[~difficult()].mean()
    likeness = np.sort(points @ made.T, 1)[:, -count:].mean(1) - highest.mean(1)
    assert (np.diff(probability[np.argsort(likeness)]) > -1e-4).all()
    own, parents = np.empty(len(made)), np.stack([blends.first[used], blends.second[used]], 1)
    for place, both in enumerate(parents):
        strangers = ~np.isin(parents, both).any(1)
        samples = np.delete(points, both, 0) @ made[place]
        own[place] = np.sort(made[strangers] @ made[place])[-count:].mean() - np.sort(samples)[-count:].mean()
    share = 2 * (likeness > np.median(own)).mean()
    assert probability.max() == pytest.approx(share**2 / (share**2 + 0.08**2), abs=0.01)


def test_as_many_are_above_one_half_as_are_nearer_to_blends_and_none_of_well_parted_classes() -> None:
    random = np.random.default_rng(5)
    centres = random.standard_normal((10, 64)).astype(np.float32)
    parted = np.repeat(centres, 200, 0) + 0.3 * random.standard_normal((2000, 64)).astype(np.float32)
    assert auto_fraction(blend_score(Rows(parted))) == 0
    halves = (parted[:1000:20] + parted[1000::20]) / 2
    score = blend_score(Rows(np.r_[parted, halves]))
    assert auto_fraction(score) == pytest.approx(50 / 2050, abs=0.005)
    assert roc_auc_score(np.arange(2050) >= 2000, score) > 0.99


def test_neither_scale_nor_type_of_the_embeddings_matters(embeddings: npt.NDArray[np.float32], blends: Blends) -> None:
    score = blend_score(Rows(embeddings), blends)
    scaled = embeddings * np.random.default_rng(0).uniform(0.1, 10, (len(embeddings), 1)).astype(np.float32)
    np.testing.assert_allclose(blend_score(Rows(scaled), blends), score, atol=1e-4)
    np.testing.assert_allclose(blend_score(Rows(embeddings.astype(np.float64)), blends), score, atol=1e-4)
    assert ((score >= 0) & (score <= 1)).all()
    np.testing.assert_array_equal(blend_score(Rows(embeddings), blends), score)


def test_samples_outside_the_reference_are_scored_like_those_in_it(
    embeddings: npt.NDArray[np.float32], blends: Blends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tamis.curation.blends.ALL", 1000)
    noise = np.random.default_rng(1).standard_normal((9, *embeddings.shape)).astype(np.float32)
    score = blend_score(Rows((embeddings + 0.02 * noise).reshape(-1, 24)), blends).reshape(9, -1)
    assert all(roc_auc_score(difficult(), part) > 0.95 for part in score)
    np.testing.assert_allclose(score.mean(1), score.mean(), atol=0.02)


@pytest.mark.parametrize("count", [4, 5, 40])
def test_few_samples_and_duplicates_are_scored(count: int) -> None:
    rows = np.random.default_rng(0).standard_normal((count, 50)).astype(np.float32)
    rows[1] = rows[0]
    assert np.isfinite(blend_score(Rows(rows))).all()


def test_parents_differ_are_few_and_are_drawn_alike() -> None:
    for count in (4, 100, 10**6):
        first, second = draw_parents(count, 7)
        assert len(first) == min(PARENTS, 2 * count)
        assert (first != second).all()
        assert np.unique(np.r_[first, second]).size <= IMAGES
        assert np.r_[first, second].max() < count
        np.testing.assert_array_equal(draw_parents(count, 7), (first, second))


def test_blends_that_do_not_fit_are_refused(embeddings: npt.NDArray[np.float32], blends: Blends) -> None:
    with pytest.raises(InputError, match="10 dimensions"):
        tamis.curate(embeddings, blends=Blends(blends.first, blends.second, np.asarray(blends.embeddings)[:, :10]))
    with pytest.raises(InputError, match="row outside"):
        tamis.curate(embeddings[:100], blends=blends)
    with pytest.raises(InputError, match="At least 4"):
        draw_parents(1, 0)
    with pytest.raises(InputError, match="parents"):
        Blends(blends.first[1:], blends.second, blends.embeddings)


def test_blends_are_embedded_from_the_mean_of_two_images_as_the_encoder_sees_them(tmp_path: Path) -> None:
    files = digit_files(30)
    stored = ingest(
        open_source(write_tar(tmp_path / "digits.tar", files)), lambda key, data: save(tmp_path / key, data)
    )
    embedder = Embedder.of(build_encoder(EncoderSpec("small", 16), 0), "cpu")
    made = blend_images(30, 3, lambda rows: pick_images(stored.shards, tmp_path.__truediv__, rows), embedder)
    by_name = dict(files)
    names = stored.index["sample_id"].to_pylist()
    pixels = np.stack([embedder.encoder.spec.pixels(decode(by_name[name])) for name in names]).astype(np.uint16)
    mean = ((pixels[made.first] + pixels[made.second] + 1) // 2).astype(np.uint8)
    np.testing.assert_array_equal(made.embeddings, embedder.of_pixels(mean))
    np.testing.assert_array_equal((made.first, made.second), draw_parents(30, 3))


def save(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
