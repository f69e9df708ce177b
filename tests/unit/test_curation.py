"""Curation on made data whose difficult examples are known, and the promises of its result."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from threaded import with_threads

import tamis
from benchmarks.scale import BETWEEN, write
from tamis import InputError
from tamis.checkpoint import FileCheckpoint
from tamis.curation.asked import REMOVING, STRATEGIES
from tamis.curation.curation import assemble, curation_from_files
from tamis.curation.difficulty import auto_fraction, band_share, cumulative, distinct_pairs, most_difficult
from tamis.curation.pairs import difficult_pairs
from tamis.curation.plan import EXACT_SECONDS, make_plan, plan_from_content
from tamis.curation.space import principal
from tamis.scan.pairs import merge_parts, scan_part, seconds_needed
from tamis.scan.rows import Rows
from tamis.scan.task import Method, Shape

CLASSES, EACH, MIXED = 6, 60, 12
SHAPE = Shape(64, 128, 64, 4, 2, 2)


@pytest.fixture(scope="module")
def embeddings() -> npt.NDArray[np.float32]:
    """Six tight classes of 60; the first twelve samples of each lie half-way to the next class."""
    random = np.random.default_rng(3)
    centres = np.linalg.qr(random.standard_normal((24, 24)))[0][:CLASSES]
    rows = []
    for number in range(CLASSES):
        own = np.repeat(centres[number][None], EACH, 0)
        own[:MIXED] = 0.5 * centres[number] + 0.5 * centres[(number + 1) % CLASSES]
        rows.append(own)
    noise = 0.05 * random.standard_normal((CLASSES * EACH, 24))
    return (np.concatenate(rows) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def curation(embeddings: npt.NDArray[np.float32]) -> tamis.Curation:
    return tamis.curate(embeddings, classes=CLASSES, neighbours=20)


def difficult() -> npt.NDArray[np.bool_]:
    return np.tile(np.arange(EACH) < MIXED, CLASSES)


def test_the_mixed_samples_score_higher(curation: tamis.Curation) -> None:
    scores = curation.samples["difficulty"].to_numpy()
    assert curation.samples.schema.types == [pa.int64(), pa.int32(), pa.float32()]
    assert roc_auc_score(difficult(), scores) > 0.95
    assert roc_auc_score(difficult(), curation.recut(score="band").difficulty) > 0.75


def test_the_number_of_classes_is_found_where_classes_are_clear() -> None:
    random = np.random.default_rng(0)
    centres = np.linalg.qr(random.standard_normal((16, 16)))[0][:5]
    rows = np.repeat(centres, 50, 0) + 0.05 * random.standard_normal((250, 16))
    found = tamis.curate(rows.astype(np.float32))
    assert found.classes == 5
    assert found.criteria == {"density_peaks": 5, "at_least": 5, "at_most": 5}
    labels = found.samples["cluster"].to_numpy().reshape(5, 50)
    assert (labels == labels[:, :1]).all()
    assert len(set(labels[:, 0])) == 5


def test_pairs_are_of_each_samples_nearest_once_and_the_most_difficult_first(
    curation: tamis.Curation, embeddings: npt.NDArray[np.float32]
) -> None:
    a, b, similarity, in_band, difficulty = (column.to_numpy() for column in curation.pairs.columns)
    assert curation.pairs.schema.names == ["a", "b", "similarity", "in_band", "difficulty"]
    assert curation.pairs.schema.types == [pa.int64(), pa.int64(), pa.float32(), pa.bool_(), pa.float32()]
    unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    exact = unit @ unit.T
    np.fill_diagonal(exact, -2)
    nearest = np.argsort(-exact, axis=1)[:, :20]
    expected = {
        (min(pair), max(pair)) for row, others in enumerate(nearest.tolist()) for pair in ((row, o) for o in others)
    }
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == expected
    assert len(a) == len(expected)
    np.testing.assert_allclose(similarity, exact[a, b], atol=1e-6)
    cut = curation.thresholds
    np.testing.assert_array_equal(in_band, (similarity >= cut.sim_low) & (similarity < cut.sim_high))
    assert (np.diff(difficulty) <= 0).all()
    assert difficulty.min() >= 0
    assert difficulty.max() <= 1


def test_the_first_pairs_are_of_two_classes_and_those_most_alike_of_one() -> None:
    digits = load_digits()
    found = difficult_pairs(Rows(digits.data.astype(np.float32)), 32, classes=10)
    cross = digits.target[found.a] != digits.target[found.b]
    alike = np.argsort(-found.similarity, kind="stable")
    assert cross[:100].mean() > 0.75
    assert cross[alike[:100]].mean() < 0.05
    # They are alike all the same: a random pair has 0.6.
    assert found.similarity[:100].mean() > 0.7


def test_where_too_many_are_to_be_compared_nearly_all_nearest_are_found(
    embeddings: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = np.concatenate([embeddings + 0.01 * turn * embeddings[::-1] for turn in range(4)])
    whole = difficult_pairs(Rows(many), 10, CLASSES)
    assert whole.recall == 1.0
    monkeypatch.setattr("tamis.scan.alike.EXACT_UP_TO", 500)
    found = difficult_pairs(Rows(many), 10, CLASSES)
    assert 0.95 <= found.recall <= 1.0
    both = set(zip(whole.a, whole.b, strict=True)) & set(zip(found.a, found.b, strict=True))
    assert len(both) >= 0.9 * len(whole.a)
    np.testing.assert_array_equal(found.difficulty, difficult_pairs(Rows(many), 10, CLASSES).difficulty)


def test_neighbours_of_another_class_are_found_as_those_of_the_own_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tamis.scan.alike.EXACT_UP_TO", 500)
    write(tmp_path / "made.npy", 5000, 64, 20)
    found = difficult_pairs(Rows(np.load(tmp_path / "made.npy")), 20, classes=20)
    between = np.arange(0, 5000, BETWEEN)
    assert np.isin(between * 5000 + between + 1, found.a * 5000 + found.b).mean() > 0.9
    # And they are listed first.
    assert ((found.a[:25] % BETWEEN == 0) & (found.b[:25] == found.a[:25] + 1)).mean() > 0.9


LISTED = """
from tamis.curation import kept, pairs
from tamis.scan import alike, rows
alike.EXACT_UP_TO, kept.KEPT = 500, 40_000

def result():
    found = pairs.difficult_pairs(rows.Rows(np.random.default_rng(0).standard_normal((5000, 32))), 20, classes=20)
    return b"".join(column.tobytes() for column in (found.a, found.b, found.similarity, found.difficulty))
"""


def test_the_pairs_are_the_same_whatever_the_number_of_threads() -> None:
    first, *others = with_threads(LISTED, 1, 2, 5)
    assert len(first) > 24 * 20_000
    assert others == [first, first]


def test_where_pairs_are_too_many_the_first_are_the_same_and_every_sample_has_its_own(
    embeddings: npt.NDArray[np.float32], curation: tamis.Curation, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(embeddings)
    for module in ("kept", "plan"):
        monkeypatch.setattr(f"tamis.curation.{module}.KEPT", 4 * count)
    few = tamis.curate(embeddings, classes=CLASSES, neighbours=20)
    assert 2 * count < few.pairs.num_rows <= 4 * count
    assert few.pairs[: 2 * count].equals(curation.pairs[: 2 * count])
    assert set(np.concatenate([few.pairs["a"], few.pairs["b"]])) == set(range(count))
    # Of the band each sample keeps four partners, so that it may be listed with more.
    assert len(few._listed.a) <= 4 * count < len(curation._listed.a)
    assert few.neighbours == curation.neighbours == 20
    assert few.difficulty.tobytes() == curation.difficulty.tobytes()


def test_counts_and_scores_at_the_thresholds_are_exact(
    curation: tamis.Curation, embeddings: npt.NDArray[np.float32]
) -> None:
    unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    exact = unit @ unit.T
    upper = exact[np.triu_indices(len(exact), 1)]
    band = curation.recut(score="band")
    for cut in (band, band.recut(pos_high=0.3), band.recut(pos_high=0.05, pos_low=0.5)):
        low, high = cut.thresholds.sim_low, cut.thresholds.sim_high
        assert cut.counted_pairs == np.count_nonzero((upper >= low) & (upper < high))
        assert cut.thresholds.pos_high == pytest.approx(np.mean(upper >= high), abs=1e-12)
        scored = (exact >= cut.thresholds.sim_score) & (exact < high)
        np.fill_diagonal(scored, False)
        np.testing.assert_allclose(cut.difficulty, scored.sum(1) / (len(exact) - 1), rtol=1e-6)


def test_a_recut_needs_no_scan_and_equals_a_curation_at_those_thresholds(
    curation: tamis.Curation, embeddings: npt.NDArray[np.float32]
) -> None:
    recut = curation.recut(pos_high=0.25, score="band")
    assert recut.histogram is curation.histogram
    anew = tamis.curate(embeddings, classes=CLASSES, pos_high=0.25, neighbours=20, score="band")
    assert recut.thresholds == anew.thresholds
    assert recut.counted_pairs == anew.counted_pairs
    np.testing.assert_array_equal(recut.difficulty, anew.difficulty)
    assert recut.pairs.equals(anew.pairs)
    assert curation.recut(pos_high=0.01).pairs["in_band"] != curation.pairs["in_band"]
    assert recut.select().samples.equals(anew.select().samples)
    for strategy in ("margin", "temperature", "combined", "auto"):
        assert recut.select(strategy).description["band"] == anew.select(strategy).description["band"]
    assert curation.recut().select().files() == curation.select().files()


def test_equal_arguments_give_equal_bytes_and_files_read_back(
    curation: tamis.Curation, embeddings: npt.NDArray[np.float32]
) -> None:
    again = tamis.curate(embeddings.copy(), classes=CLASSES, neighbours=20)
    assert again.files() == curation.files()
    restored = curation_from_files(curation.files())
    assert restored.files() == curation.files()
    assert restored.select("combined").files() == curation.select("combined").files()


@pytest.mark.parametrize("exact", [True, False])
def test_a_stored_plan_scanned_in_parts_gives_the_same_bytes(
    embeddings: npt.NDArray[np.float32], tmp_path: Path, exact: bool
) -> None:
    whole = tamis.curate(embeddings, classes=CLASSES, neighbours=20, exact=exact, reference=100, seed=5)
    rows = Rows(embeddings)
    made = make_plan(rows, CLASSES, "auto", 0.95, 20, "cpu", exact=exact, reference=100, seed=5)
    plan = plan_from_content(made.content())
    checkpoints = [FileCheckpoint(tmp_path / f"{part}.npz") for part in range(3)]
    for part, checkpoint in enumerate(checkpoints):
        scan_part(rows, plan.task, plan.method, part, 3, checkpoint)
    contents = (checkpoint.load() or b"" for checkpoint in checkpoints)
    assert assemble(rows, plan, merge_parts(rows, plan.task, plan.method, contents), "blend").files() == whole.files()


def test_the_histogram_counts_every_pair(curation: tamis.Curation) -> None:
    count = CLASSES * EACH
    assert curation.histogram.counts.sum() == count * (count - 1) // 2
    assert curation.histogram.exact


def test_the_estimates_are_ordered_and_bounds_follow(curation: tamis.Curation) -> None:
    graph = curation.graph
    assert graph.beta.value < graph.gamma.value < graph.alpha.value
    for interval in (graph.alpha, graph.beta, graph.gamma):
        assert interval.low <= interval.value <= interval.high
    assert graph.warning == ""
    bound = graph.bound()
    assert list(bound) == ["with", "without", "removed", "margin", "temperature"]
    assert bound["with"] > max(bound[name] for name in bound if name != "with")


def test_of_one_class_nothing_is_difficult_and_that_is_said() -> None:
    noise = np.random.default_rng(0).standard_normal((600, 32)).astype(np.float32)
    found = tamis.curate(noise)
    assert found.classes == 1
    assert "do not fall into classes" in found.graph.warning
    assert len(found.pairs) == 0
    for strategy in ("remove", "combined"):
        manifest = found.select(strategy)
        assert manifest.description["counts"]["kept"] == len(noise)
        assert manifest.pairs.num_rows == 0
    assert found.select(fraction=0.1).description["counts"]["dropped_difficult"] == 60
    stored = curation_from_files(found.files())
    assert stored.describe() == found.describe()


def test_of_well_parted_classes_nothing_is_called_difficult_and_it_is_said() -> None:
    random = np.random.default_rng(5)
    centres = random.standard_normal((10, 64)).astype(np.float32)
    found = tamis.curate(np.repeat(centres, 200, 0) + 0.3 * random.standard_normal((2000, 64)).astype(np.float32))
    assert found.classes == 10
    assert "no sample is called difficult" in found.graph.warning
    assert found.select().description["counts"]["dropped_difficult"] == 0


def test_noise_without_classes_is_warned_of() -> None:
    noise = np.random.default_rng(0).standard_normal((300, 400)).astype(np.float32)
    found = tamis.curate(noise, classes=3)
    assert found.graph.warning
    found.select().files()


def test_the_linear_variant_is_within_its_stated_error(embeddings: npt.NDArray[np.float32]) -> None:
    exact = tamis.curate(embeddings, classes=CLASSES)
    part = tamis.curate(embeddings, classes=CLASSES, exact=False, reference=180)
    assert not part.histogram.exact
    for share in (0.1, 0.5, 0.9):
        similarity = exact.histogram.quantile(share)
        assert abs(part.histogram.share_above(similarity) - share) < part.histogram.error


def test_auto_compares_all_pairs_where_time_allows_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
    caplog.set_level("INFO", "tamis.curation.plan")
    assert tamis.curate(rows, classes=2, reference=100).histogram.exact
    monkeypatch.setattr("tamis.curation.plan.EXACT_SECONDS", 0.0)
    assert not tamis.curate(rows, classes=2, reference=100).histogram.exact
    assert [message.split(" of ")[0] for message in caplog.messages] == ["comparing all pairs", "all pairs"]


@pytest.mark.parametrize(
    ("method", "most"),
    [
        (Method("cpu", bf16=False), 411_000),
        (Method("cpu", bf16=True), 750_000),
        (Method("cuda", bf16=False, shape=SHAPE), 5_300_000),
    ],
)
def test_how_many_samples_auto_compares_exactly_is_as_documented(method: Method, most: int) -> None:
    rows = Rows(np.random.default_rng(0).standard_normal((1000, 512)).astype(np.float32))
    # It grows as the square of the number.
    assert 1000 * (EXACT_SECONDS / seconds_needed(rows, None, method)) ** 0.5 == pytest.approx(most, rel=0.01)


def test_the_method_is_part_of_the_plan_the_result_and_the_manifest(
    curation: tamis.Curation, embeddings: npt.NDArray[np.float32]
) -> None:
    method = {"device": "cpu", "bf16": False, "shape": None}
    assert curation_from_files(curation.files()).method == method
    assert curation.select().description["parameters"]["method"] == method
    plan = make_plan(Rows(embeddings), CLASSES, "auto", 0.95, 20, "cpu")
    on_gpu = replace(plan, method=Method("cuda:1", bf16=False, shape=SHAPE))
    assert plan_from_content(on_gpu.content()).method == on_gpu.method


@pytest.mark.parametrize("strategy", ["remove", "margin", "temperature", "combined"])
def test_each_strategy_does_what_it_says(curation: tamis.Curation, strategy: str) -> None:
    manifest = curation.select(strategy, fraction=0.1 if strategy in REMOVING else "auto")
    keep = manifest.samples["keep"].to_numpy()
    margin, temperature = (manifest.pairs[name].to_numpy() for name in ("margin", "temperature"))
    removed = round(0.1 * CLASSES * EACH) if strategy in REMOVING else 0
    assert np.count_nonzero(~keep) == removed
    assert (margin > 0).any() == (strategy in ("margin", "combined"))
    assert (temperature < 1).any() == (strategy in ("temperature", "combined"))
    assert manifest.samples["reason"].to_pylist().count("difficult") == removed
    np.testing.assert_array_equal(manifest.samples["weight"].to_numpy(), keep.astype(np.float32))


def test_decisions_override_the_strategy(curation: tamis.Curation) -> None:
    before = curation.select("remove", 0.2).samples
    dropped = before["keep"].to_pylist().index(False)
    kept = before["keep"].to_pylist().index(True)
    after = curation.select("remove", 0.2, decisions={dropped: True, kept: False}).samples
    assert after["keep"][dropped].as_py()
    assert not after["keep"][kept].as_py()
    assert after["reason"][dropped].as_py() == after["reason"][kept].as_py() == "decision"
    same = curation.select("remove", 0.2, decisions={dropped: False, kept: True}).samples
    assert same.equals(before)
    with pytest.raises(InputError, match="no sample 999"):
        curation.select(decisions={999: True})


def test_a_written_manifest_reads_back_with_its_provenance(curation: tamis.Curation, tmp_path: Path) -> None:
    manifest = curation.select("combined", provenance={"dataset": "abc"})
    manifest.write(tmp_path)
    again = tamis.read_manifest(tmp_path)
    assert again.samples.equals(manifest.samples)
    assert again.pairs.equals(manifest.pairs)
    assert again.description == json.loads(json.dumps(manifest.description))
    assert again.description["dataset"] == "abc"
    for name in ("samples.parquet", "pairs.parquet"):
        inside = json.loads(pq.read_schema(tmp_path / name).metadata[b"tamis"])
        assert inside["thresholds"]["sim_high"] == curation.thresholds.sim_high
    (tmp_path / "pairs.parquet").write_bytes(b"altered")
    with pytest.raises(InputError, match="does not match the hash"):
        tamis.read_manifest(tmp_path)
    with pytest.raises(InputError, match="not a manifest folder"):
        tamis.read_manifest(tmp_path / "elsewhere")


@settings(max_examples=30, deadline=None)
@given(
    st.integers(4, 40),
    st.sampled_from(STRATEGIES),
    st.one_of(st.just("auto"), st.just(0.0), st.floats(0, 0.99)),
    st.integers(0, 1000),
)
def test_every_manifest_keeps_its_promises(count: int, strategy: str, fraction: float | str, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((count, 5)).astype(np.float32)
    curation = tamis.curate(rows, classes=2, pos_high=0.3, seed=seed)
    if fraction not in ("auto", 0) and strategy not in REMOVING:
        with pytest.raises(InputError, match="removes nothing"):
            curation.select(strategy, fraction)  # type: ignore[arg-type]
        return
    manifest = curation.select(strategy, fraction)  # type: ignore[arg-type]
    samples, pairs = manifest.samples, manifest.pairs
    assert samples.num_rows == count
    ids = samples["sample_id"].to_pylist()
    assert len(set(ids)) == count
    kept = {name for name, keep in zip(ids, samples["keep"].to_pylist(), strict=True) if keep}
    assert set(pairs["a"].to_pylist()) | set(pairs["b"].to_pylist()) <= kept
    assert len(set(zip(pairs["a"].to_pylist(), pairs["b"].to_pylist(), strict=True))) == pairs.num_rows
    outside = pairs.filter(pa.compute.invert(pairs["in_band"]))
    assert set(outside["margin"].to_pylist()) <= {0.0}
    assert set(outside["temperature"].to_pylist()) <= {1.0}
    assert all(0 <= value <= 1 for value in samples["difficulty"].to_pylist())
    assert set(pairs["margin"].to_pylist()) <= {0.0, np.float32(0.2)}
    assert set(pairs["temperature"].to_pylist()) <= {1.0, 0.5}
    assert manifest.description["counts"]["kept"] == len(kept)
    assert sum(manifest.description["histogram"]["counts"]) == count * (count - 1) // 2
    assert manifest.files() == manifest.files()


@pytest.mark.parametrize(
    "arguments",
    [
        {"pos_high": 0.0},
        {"pos_high": 1.5},
        {"pos_high": 0.5, "pos_low": 0.4},
        {"pos_high": float("nan")},
        {"neighbours": 0},
        {"classes": 1},
        {"classes": 10_000},
        {"exact": False, "reference": 0},
        {"device": "cuda:99"},
        {"score": "other"},
    ],
)
def test_parameters_out_of_range_are_refused(embeddings: npt.NDArray[np.float32], arguments: dict) -> None:
    with pytest.raises(InputError):
        tamis.curate(embeddings, **arguments)


@pytest.mark.parametrize("kind", [">f2", ">f4", ">f8", "float8_e4m3fn", "float8_e5m2"])
def test_equal_numbers_of_any_type_give_equal_results(embeddings: npt.NDArray[np.float32], kind: str) -> None:
    given = torch.from_numpy(embeddings).to(getattr(torch, kind)) if kind.startswith("float8") else None
    rows = embeddings.astype(kind) if given is None else given
    plain = rows.astype(kind.replace(">", "<")) if isinstance(rows, np.ndarray) else rows.float()
    assert tamis.curate(rows, classes=CLASSES).files() == tamis.curate(plain, classes=CLASSES).files()


def test_embeddings_may_have_one_dimension() -> None:
    rows = np.random.default_rng(0).standard_normal((60, 1)).astype(np.float32)
    assert tamis.curate(rows).select().samples.num_rows == 60


@pytest.mark.parametrize("arguments", [{"strategy": "other"}, {"fraction": 1.0}, {"fraction": -0.1}])
def test_selections_out_of_range_are_refused(curation: tamis.Curation, arguments: dict) -> None:
    with pytest.raises(InputError):
        curation.select(**arguments)


def test_the_automatic_fraction_is_what_is_nearer_to_blends_and_a_fifth_at_most() -> None:
    scores = np.r_[np.full(880, 0.1), np.full(120, 0.9)].astype(np.float32)
    assert auto_fraction(scores) == pytest.approx(0.12)
    assert auto_fraction(np.r_[np.full(999, 0.4), 0.6].astype(np.float32)) == pytest.approx(0.001)
    assert auto_fraction(np.full(10, 0.5, np.float32)) == 0
    assert auto_fraction(np.r_[np.zeros(10), np.ones(990)].astype(np.float32)) == 0.20


def test_ties_are_broken_by_order() -> None:
    np.testing.assert_array_equal(most_difficult(np.float32([1, 2, 2, 2]), 0.5), [False, True, True, False])


def test_pairs_listed_from_both_sides_appear_once() -> None:
    indices = np.array([[1, 2], [0, -1], [0, 1]])
    similarities = np.float32([[0.9, 0.5], [0.9, -np.inf], [0.5, 0.4]])
    a, b, values = distinct_pairs(indices, similarities)
    assert list(zip(a, b, strict=True)) == [(0, 1), (0, 2), (1, 2)]
    np.testing.assert_array_equal(values, np.float32([0.9, 0.5, 0.4]))


def test_the_band_share_is_half_open() -> None:
    below = cumulative(np.array([[1, 2, 3, 4]], np.uint16))
    edges = np.array([-1.0, 0.0, 0.25, 0.5, 1.0])
    assert band_share(below, edges, 0.0, 0.5)[0] == np.float32(0.5)


@pytest.mark.parametrize(("count", "dimension"), [(60, 512), (300, 40), (1300, 1100), (5, 3)])
def test_the_leading_directions_are_those_of_the_covariance_whichever_product_is_smaller(
    count: int, dimension: int
) -> None:
    random = np.random.default_rng(0)
    sample = torch.from_numpy(random.normal(size=(count, dimension)) * np.linspace(3, 0.1, dimension))
    sample -= sample.mean(0)
    squares, directions = principal(sample, 64)
    wanted, vectors = torch.linalg.eigh(sample.T @ sample / count)
    rank = min(64, dimension, count - 1)
    assert directions.shape == (dimension, rank)
    torch.testing.assert_close(squares, wanted[-rank:])
    aligned = (directions.T @ vectors[:, -rank:]).abs()
    torch.testing.assert_close(aligned, torch.eye(rank, dtype=torch.float64), atol=1e-6, rtol=0)


def test_names_of_more_bytes_than_a_chunk_holds_come_in_several(
    curation: tamis.Curation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of two million images with 64 partners each: Arrow's strings hold 2 GiB in one piece."""
    whole = curation.select("margin")
    monkeypatch.setattr("tamis.curation.selection.CHUNK", 100)
    parted = curation.select("margin")
    assert parted.pairs["a"].num_chunks > whole.pairs["a"].num_chunks
    assert parted.pairs.equals(whole.pairs)
    assert parted.files() == whole.files()
    # Where nothing is kept, no pair is listed.
    assert (
        curation.select("margin", decisions=dict.fromkeys(range(len(curation.difficulty)), False)).pairs.num_rows == 0
    )
