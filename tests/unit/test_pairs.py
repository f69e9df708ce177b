"""The pair scan against a plain NumPy version of itself, in both precisions of its products."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import InputError, PairScan, pair_scan
from tamis.checkpoint import FileCheckpoint
from tamis.scan.cpu import TILE, Scan
from tamis.scan.histogram import exact_edges
from tamis.scan.pairs import choose_method, merge_parts, scan_all, scan_part
from tamis.scan.rows import Rows
from tamis.scan.task import Method, Task


def oracle(embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


def random_rows(count: int, dimension: int = 16, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


@pytest.fixture(params=["f32", "bf16"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test once in each precision; where no hardware multiplies bf16, PyTorch emulates it."""
    monkeypatch.setattr("tamis.scan.pairs.computes_bf16", lambda count: request.param == "bf16")
    return str(request.param)


@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize("count", [4, 5, 300, TILE, TILE + 1, 2 * TILE + 77])
def test_neighbours_and_histogram_equal_the_oracle(count: int) -> None:
    embeddings = random_rows(count)
    exact = oracle(embeddings)
    scan = pair_scan(embeddings, k=7)
    np.fill_diagonal(exact, -2)
    k = min(7, count - 1)
    expected = -np.sort(-exact, axis=1)[:, :k]
    np.testing.assert_allclose(scan.similarities, expected, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(exact, scan.indices, 1), expected, atol=1e-6)
    assert scan.histogram.total == count * (count - 1) // 2
    pairs = exact[np.triu_indices(count, 1)]
    for share in (0.001, 0.1, 0.5, 0.95):
        assert scan.histogram.quantile(share) == pytest.approx(np.quantile(pairs, 1 - share), abs=2e-3 + 4 / len(pairs))


@pytest.mark.usefixtures("precision")
def test_the_band_is_half_open_and_short_lists_are_padded() -> None:
    embeddings = random_rows(200)
    exact = oracle(embeddings).astype(np.float32)
    low, high = 0.25, 0.5
    scan = pair_scan(embeddings, k=199, sim_high=high, sim_low=low)
    np.fill_diagonal(exact, -2)
    for row in range(200):
        expected = np.flatnonzero((exact[row] >= low) & (exact[row] < high))
        found = scan.indices[row][scan.indices[row] >= 0]
        assert set(found) == set(expected)
        assert (scan.indices[row][len(found) :] == -1).all()
        assert np.isneginf(scan.similarities[row][len(found) :]).all()


@pytest.mark.usefixtures("precision")
def test_both_orientations_of_a_pair_hold_the_same_bits() -> None:
    scan = pair_scan(random_rows(TILE + 300), k=50)
    value = {}
    for a, (partners, similarities) in enumerate(zip(scan.indices, scan.similarities, strict=True)):
        for b, similarity in zip(partners, similarities, strict=True):
            assert value.setdefault((min(a, b), max(a, b)), similarity) == similarity


def test_the_profile_counts_every_pair_of_a_sample(precision: str) -> None:
    embeddings = random_rows(1500)
    exact = oracle(embeddings)
    allowed = exact_edges(2048, bf16=precision == "bf16")
    edges = np.array([-1.0, *(allowed[np.abs(allowed - wanted).argmin()] for wanted in (-0.25, 0.0, 0.5)), 1.0])
    scan = pair_scan(embeddings, k=1, profile_edges=edges)
    expected = np.stack([np.histogram(np.delete(row, i), bins=edges)[0] for i, row in enumerate(exact)])
    np.testing.assert_array_equal(scan.profile.sum(axis=1), len(embeddings) - 1)
    # In bf16 a similarity near an edge may fall on its other side, by as much as the product's rounding.
    tolerance = 0 if precision == "f32" else 0.005 * len(embeddings)
    assert np.abs(scan.profile - expected).max() <= tolerance
    # What samples count and what the histogram counts are the same pairs.
    places = np.searchsorted(scan.histogram.edges, edges)
    counted = [scan.histogram.counts[first:last].sum() for first, last in pairwise(places)]
    np.testing.assert_array_equal(scan.profile.sum(axis=0), 2 * np.array(counted))


@pytest.mark.usefixtures("precision")
def test_rows_too_alike_for_the_products_precision_are_still_told_apart() -> None:
    random = np.random.default_rng(5)
    near = random_rows(1)[0] + 1e-3 * random.standard_normal((400, 16)).astype(np.float32)
    embeddings = np.concatenate([near, random_rows(300, seed=1)])
    exact = oracle(embeddings)
    np.fill_diagonal(exact, -2)
    scan = pair_scan(embeddings, k=5)
    np.testing.assert_allclose(scan.similarities, -np.sort(-exact, axis=1)[:, :5], atol=1e-6)


@pytest.mark.usefixtures("precision")
def test_the_order_of_equal_similarities_is_that_of_the_samples() -> None:
    embeddings = np.repeat(random_rows(4), 300, axis=0)
    scan = pair_scan(embeddings, k=10)
    for row in (0, 5, 299, 300, 1199):
        group = np.arange(300) + 300 * (row // 300)
        np.testing.assert_array_equal(scan.indices[row], group[group != row][:10])


@pytest.mark.parametrize("bf16", [False, True])
def test_how_tiles_are_shared_out_changes_nothing(bf16: bool) -> None:
    rows = Rows(random_rows(3 * TILE + 10))
    task = Task(k=8, low=0.1, high=0.6, bins=2048, profile_edges=np.array([-1.0, 0.0, 1.0]), columns=None)
    whole = Scan(rows, task, bf16=bf16)
    whole.run(whole.tiles())
    backwards = Scan(rows, task, bf16=bf16)
    backwards.run(backwards.tiles()[::-1])
    parts = [Scan(rows, task, bf16=bf16) for _ in range(3)]
    for number, part in enumerate(parts):
        part.run(part.tiles()[number::3])
    for part in parts[1:]:
        parts[0].absorb(part.state())
    expected = whole.finish()
    for other in (backwards.finish(), parts[0].finish()):
        np.testing.assert_array_equal(other.indices, expected.indices)
        np.testing.assert_array_equal(other.similarities, expected.similarities)
        np.testing.assert_array_equal(other.counts, expected.counts)
        np.testing.assert_array_equal(other.profile, expected.profile)


@pytest.mark.usefixtures("precision")
def test_a_reference_sample_estimates_within_the_stated_error() -> None:
    embeddings = random_rows(3000)
    reference = np.sort(np.random.default_rng(1).choice(3000, 400, replace=False))
    full, part = pair_scan(embeddings, k=1), pair_scan(embeddings, k=1, reference=reference)
    assert not part.histogram.exact
    assert part.histogram.error > 0
    assert part.histogram.total == 3000 * 400 - 400
    assert np.isin(part.indices, reference).all()
    assert (part.indices != np.arange(3000)[:, None]).all()
    for similarity in (-0.2, 0.0, 0.3):
        assert (
            abs(part.histogram.share_above(similarity) - full.histogram.share_above(similarity)) < part.histogram.error
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.integers(0, 10_000))
def test_scale_and_order_of_the_rows_change_nothing(count: int, seed: int) -> None:
    embeddings = random_rows(count, 8, seed)
    random = np.random.default_rng(seed)
    scaled = embeddings * np.exp2(random.integers(-6, 6, (count, 1))).astype(np.float32)
    order = random.permutation(count)
    plain, other, permuted = (pair_scan(array, k=3) for array in (embeddings, scaled, embeddings[order]))
    np.testing.assert_array_equal(plain.indices, other.indices)
    np.testing.assert_array_equal(plain.histogram.counts, other.histogram.counts)
    assert plain.histogram.total == permuted.histogram.total
    np.testing.assert_allclose(plain.similarities[order], permuted.similarities, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(5, 50), st.integers(0, 10_000))
def test_quantiles_fall_as_the_share_grows_and_shares_read_back(count: int, seed: int) -> None:
    histogram = pair_scan(random_rows(count, 6, seed), k=1).histogram
    shares = np.linspace(0, 1, 23)
    values = [histogram.quantile(float(share)) for share in shares]
    assert values == sorted(values, reverse=True)
    for share, value in zip(shares, values, strict=True):
        assert histogram.share_above(value) == pytest.approx(share, abs=1e-9)


@pytest.mark.usefixtures("precision")
def test_duplicates_are_neighbours_with_similarity_one() -> None:
    embeddings = random_rows(20)
    embeddings[7] = embeddings[3]
    scan = pair_scan(embeddings, k=1)
    assert scan.indices[3, 0] == 7
    assert scan.indices[7, 0] == 3
    assert scan.similarities[3, 0] == pytest.approx(1.0, abs=1e-6)
    assert scan.histogram.total == 190


def test_memory_maps_half_precision_and_tensors_are_read(tmp_path: Path) -> None:
    embeddings = random_rows(100)
    mapped = np.lib.format.open_memmap(tmp_path / "e.npy", "w+", np.float16, embeddings.shape)
    mapped[:] = embeddings
    expected = pair_scan(np.asarray(mapped).astype(np.float32), k=3)
    for array in (mapped, torch.from_numpy(np.asarray(mapped))):
        np.testing.assert_array_equal(pair_scan(array, k=3).indices, expected.indices)


BAD = {
    "nan": (lambda e: e.__setitem__((2, 0), np.nan), "2"),
    "infinite": (lambda e: e.__setitem__((4, 1), np.inf), "4"),
    "zero": (lambda e: e.__setitem__(5, 0), "5"),
    "equal": (lambda e: e.__setitem__(slice(None), 1), "collapsed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_rows_that_cannot_be_compared_are_named(kind: str) -> None:
    embeddings = random_rows(10)
    change, named = BAD[kind]
    change(embeddings)
    with pytest.raises(InputError, match=named):
        pair_scan(embeddings)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (10,), (10, 0)])
def test_too_few_or_misshapen_rows_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        pair_scan(np.ones(shape, np.float32))


def test_whole_numbers_and_odd_bins_are_refused() -> None:
    with pytest.raises(InputError, match="floats"):
        pair_scan(np.ones((5, 3), np.int64))
    with pytest.raises(InputError, match="power of two"):
        pair_scan(random_rows(5), bins=100)


class WorkerGoneError(Exception):
    """Stands for a worker's end."""


@pytest.mark.usefixtures("precision")
def test_an_interrupted_scan_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tamis.scan.pairs.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("tamis.scan.pairs.PORTION", 2)
    embeddings = random_rows(4 * TILE)
    expected = pair_scan(embeddings, k=9)
    checkpoint = FileCheckpoint(tmp_path / "scan.npz")

    def progress(done: int, total: int) -> None:
        if done > 4:
            raise WorkerGoneError

    with pytest.raises(WorkerGoneError):
        pair_scan(embeddings, k=9, progress=progress, checkpoint=checkpoint)
    resumed: list[int] = []
    found = pair_scan(embeddings, k=9, progress=lambda done, _: resumed.append(done), checkpoint=checkpoint)
    assert min(resumed) >= 4
    assert resumed[-1] == 10
    assert_same(found, expected)
    # Another scan does not take it up, and a damaged one is none.
    assert_same(pair_scan(-embeddings[::-1], k=9, checkpoint=checkpoint), pair_scan(-embeddings[::-1], k=9))
    checkpoint.save(b"PK damaged")
    assert_same(pair_scan(embeddings, k=9, checkpoint=checkpoint), expected)


PART = """
import sys
from pathlib import Path
import numpy as np
from tamis.checkpoint import FileCheckpoint
from tamis.scan.rows import Rows
from tamis.scan.task import Method, Task
from tamis.scan.pairs import scan_part

folder, part = Path(sys.argv[1]), int(sys.argv[2])
rows = Rows(np.load(folder / "embeddings.npy"))
checkpoint = FileCheckpoint(folder / f"{part}.npz")
scan_part(rows, Task(9, -2.0, 0.5, 2048, None, None), Method("cpu", sys.argv[3] == "True"), part, 2, checkpoint)
"""


def test_a_scan_split_over_two_processes_merges_to_the_same_bytes(tmp_path: Path) -> None:
    embeddings = random_rows(9 * TILE)
    np.save(tmp_path / "embeddings.npy", embeddings)
    rows, task = Rows(embeddings), Task(9, -2.0, 0.5, 2048, None, None)
    method = choose_method(rows, "cpu", 9)
    command = [sys.executable, "-c", PART, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(part), str(method.bf16)]) for part in range(2)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    contents = [(tmp_path / f"{part}.npz").read_bytes() for part in range(2)]
    expected = pair_scan(embeddings, k=9, sim_high=0.5, device="cpu")
    assert_same(merge_parts(rows, task, method, contents), expected)
    assert_same(merge_parts(rows, task, method, contents[::-1]), expected)
    with pytest.raises(InputError, match="another scan"):
        merge_parts(rows, replace(task, k=8), method, contents)


def test_an_interrupted_part_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tamis.scan.pairs.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("tamis.scan.pairs.PORTION", 1)
    rows, task, method = Rows(random_rows(4 * TILE)), Task(9, -2.0, 2.0, 2048, None, None), Method("cpu", bf16=False)
    checkpoints = [FileCheckpoint(tmp_path / f"{part}.npz") for part in range(2)]

    def progress(done: int, total: int) -> None:
        if done == 3:
            raise WorkerGoneError

    with pytest.raises(WorkerGoneError):
        scan_part(rows, task, method, 0, 2, checkpoints[0], progress)
    seen: list[tuple[int, int]] = []
    for part in range(2):
        scan_part(rows, task, method, part, 2, checkpoints[part], lambda *counts: seen.append(counts))
    # Ten tiles: five a part, of which two are not done again.
    assert seen[0] >= (2, 5)
    assert seen[-1] == (5, 5)
    contents = [checkpoint.load() or b"" for checkpoint in checkpoints]
    assert_same(merge_parts(rows, task, method, contents), scan_all(rows, task, method))


def assert_same(found: PairScan, expected: PairScan) -> None:
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.similarities, expected.similarities)
    np.testing.assert_array_equal(found.histogram.counts, expected.histogram.counts)
    np.testing.assert_array_equal(found.profile, expected.profile)


def test_arrays_beyond_the_budget_are_files_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = random_rows(2000)
    expected = pair_scan(embeddings, k=9)
    monkeypatch.setenv("TAMIS_MEMORY_BUDGET", "100000")
    assert_same(pair_scan(embeddings, k=9), expected)
