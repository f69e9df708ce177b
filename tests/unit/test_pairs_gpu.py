"""The GPU's pair scan against plain NumPy: on a GPU if there is one, and by Triton's interpreter."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tamis import InputError, pair_scan
from tamis.checkpoint import FileCheckpoint
from tamis.scan import gpu, gpu_candidates
from tamis.scan.cpu import Scan as CpuScan
from tamis.scan.gpu import LARGE, LARGE_SHAPE, PROFILE_SHAPE, SMALL_SHAPE, Scan, shape_for
from tamis.scan.pairs import choose_method, merge_parts, scan_all, scan_part
from tamis.scan.rows import Rows
from tamis.scan.task import Found, Method, Shape, Task

DEVICE = torch.device("cuda" if torch.cuda.is_available() and "TRITON_INTERPRET" not in os.environ else "cpu")

BINS = 2048
EDGES = np.linspace(-1.0, 1.0, BINS + 1)
HALVES = np.array([-1.0, 0.0, 1.0])
# Small ones, so that few samples make many tiles and squares.
SHAPE = Shape(64, 128, 64, 4, 2, 2, 256)


def oracle(embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(N, N) similarities; a sample with itself is below all."""
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -2)
    return similarity


def random_rows(count: int, dimension: int = 16, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def task(
    k: int,
    low: float = -2.0,
    high: float = 2.0,
    profile: npt.NDArray[np.float64] | None = None,
    columns: npt.NDArray[np.int64] | None = None,
    bins: int = BINS,
) -> Task:
    return Task(k, low, high, bins, profile, columns)


def scan(embeddings: npt.NDArray[Any], of: Task, **options: Any) -> Found:
    made = Scan(Rows(embeddings), of, DEVICE, **{"shape": SHAPE, **options})
    made.run(made.tiles())
    return made.finish()


def assert_same(found: Found, expected: Found) -> None:
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.similarities, expected.similarities)
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_array_equal(found.profile, expected.profile)


@pytest.mark.parametrize("count", [4, 5, 300, 700])
@pytest.mark.parametrize("dimension", [3, 100])
def test_neighbours_and_histogram_equal_the_oracle(count: int, dimension: int) -> None:
    embeddings = random_rows(count, dimension)
    exact = oracle(embeddings)
    k = min(7, count - 1)
    found = scan(embeddings, task(k))
    expected = -np.sort(-exact, axis=1)[:, :k]
    np.testing.assert_allclose(found.similarities, expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(np.take_along_axis(exact, found.indices, 1), expected, rtol=1e-7, atol=1e-7)
    # What is counted are the products of rows rounded to float16, which add up in float32.
    unit = Rows(embeddings).unit(slice(None)).half().double().numpy()
    products = (unit @ unit.T)[np.triu_indices(count, 1)]
    scaled = products * (BINS // 2)
    close = np.abs(scaled - np.round(scaled)) < 1e-6 * BINS
    assert found.counts.sum() == count * (count - 1) // 2
    assert np.abs(found.counts - np.histogram(products, EDGES)[0]).sum() <= 2 * close.sum()


def test_every_shape_finds_the_same_and_counts_alike_what_is_on_no_edge() -> None:
    random, signs = random_rows(600), np.sign(random_rows(600, seed=1))
    shapes = (SHAPE, LARGE_SHAPE, PROFILE_SHAPE, SMALL_SHAPE)
    # On a GPU as they are; the interpreter takes too long to pass over the tiles that are beyond the samples.
    shapes = shapes if DEVICE.type == "cuda" else tuple(replace(shape, block=512) for shape in shapes)
    # Similarities of rows of ones and minus ones are sums without rounding, in whatever order.
    expected = scan(random, task(5)), scan(signs, task(5))
    for shape in shapes:
        found = scan(random, task(5), shape=shape)
        assert_same(replace(found, counts=expected[0].counts), expected[0])
        assert_same(scan(signs, task(5), shape=shape), expected[1])


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0), (12, 0)])
def test_the_shape_follows_from_the_kind_of_gpu_and_the_task(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    chosen = [shape_for(torch.device("cuda"), profile=profile) for profile in (False, True)]
    assert chosen == ([LARGE_SHAPE, PROFILE_SHAPE] if capability in LARGE else [SMALL_SHAPE] * 2)


@pytest.mark.parametrize(("shape", "squares"), [(SHAPE, 10), (replace(SHAPE, rows=128, block=512), 3)])
def test_a_scan_and_all_its_parts_take_the_shape_of_the_method(
    shape: Shape, squares: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tamis.scan.pairs.resolve_device", lambda device: DEVICE)
    rows, of, method = Rows(random_rows(800)), task(5), Method("cuda", bf16=False, shape=shape)
    seen: list[tuple[int, int]] = []
    whole = scan_all(rows, of, method, lambda *counts: seen.append(counts))
    assert seen[-1] == (squares, squares)
    checkpoints = [FileCheckpoint(tmp_path / f"{part}.npz") for part in range(3)]
    for part, checkpoint in enumerate(checkpoints):
        scan_part(rows, of, method, part, 3, checkpoint)
    contents = [checkpoint.load() or b"" for checkpoint in checkpoints]
    expected = scan(random_rows(800), of, shape=shape)
    for found in (whole, merge_parts(rows, of, method, contents)):
        assert_same(Found(found.indices, found.similarities, found.histogram.counts, found.profile), expected)
    with pytest.raises(InputError, match="another scan"):
        merge_parts(rows, of, replace(method, shape=SMALL_SHAPE), contents)


def test_a_shape_that_a_gpu_has_no_room_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LARGE", set())
    with pytest.raises(InputError, match="larger GPU"):
        scan(random_rows(10), task(1))
    Scan(Rows(random_rows(10)), task(1), DEVICE, shape=SMALL_SHAPE)


def test_rows_whose_cosines_are_known_are_counted_where_they_belong() -> None:
    # Unit vectors and their negatives: similarities of exactly 1, -1, and 0, which is an edge.
    embeddings = np.concatenate([np.eye(8), np.eye(8), -np.eye(8)]).astype(np.float32)
    for bins in (2, 64, BINS, 16384):
        counts = scan(embeddings, task(1, bins=bins)).counts
        expected = np.zeros(bins, np.int64)
        expected[bins - 1] += 8
        expected[bins // 2] += 276 - 24
        expected[0] += 16
        np.testing.assert_array_equal(counts, expected)


def test_the_band_is_half_open_and_short_lists_are_padded() -> None:
    embeddings = random_rows(200)
    exact = oracle(embeddings).astype(np.float32)
    low, high = 0.25, 0.5
    found = scan(embeddings, task(199, low, high))
    for row in range(200):
        expected = np.flatnonzero((exact[row] >= low) & (exact[row] < high))
        own = found.indices[row][found.indices[row] >= 0]
        assert set(own) == set(expected)
        assert (np.diff(found.similarities[row][: len(own)]) <= 0).all()
        assert (found.indices[row][len(own) :] == -1).all()
        assert np.isneginf(found.similarities[row][len(own) :]).all()


def test_only_the_best_below_the_bands_upper_end_are_kept() -> None:
    embeddings = random_rows(700)
    exact = oracle(embeddings)
    exact[exact >= 0.3] = -2
    expected = -np.sort(-exact, axis=1)[:, :6]
    np.testing.assert_allclose(scan(embeddings, task(6, high=0.3)).similarities, expected, atol=1e-7)


def test_both_orientations_of_a_pair_hold_the_same_bits() -> None:
    found = scan(random_rows(500, 100), task(50))
    value = {}
    for a, (partners, similarities) in enumerate(zip(found.indices, found.similarities, strict=True)):
        for b, similarity in zip(partners, similarities, strict=True):
            assert value.setdefault((min(a, b), max(a, b)), similarity) == similarity


def test_the_profile_and_the_histogram_count_the_same_pairs() -> None:
    embeddings = random_rows(400)
    edges = np.array([-1.0, -0.25, 0.0, 0.5, 1.0])
    found = scan(embeddings, task(3, profile=edges))
    others = [np.delete(row, i) for i, row in enumerate(oracle(embeddings))]
    expected = np.stack([np.histogram(row, edges)[0] for row in others])
    np.testing.assert_array_equal(found.profile.sum(axis=1), 399)
    # A similarity near an edge may fall on its other side, by as much as the rows' rounding.
    assert np.abs(found.profile - expected).max() <= 2
    places = np.searchsorted(EDGES, edges)
    counted = [found.counts[first:last].sum() for first, last in pairwise(places)]
    np.testing.assert_array_equal(found.profile.sum(axis=0), 2 * np.array(counted))


def test_reference_columns_alone_are_compared_with_and_never_a_sample_with_itself() -> None:
    embeddings = random_rows(500)
    reference = np.sort(np.random.default_rng(1).choice(500, 130, replace=False))
    found = scan(embeddings, task(9, profile=HALVES, columns=reference))
    exact = oracle(embeddings)[:, reference]
    expected = -np.sort(-exact, axis=1)[:, :9]
    np.testing.assert_allclose(found.similarities, expected, atol=1e-7)
    assert np.isin(found.indices, reference).all()
    assert found.counts.sum() == 500 * 130 - 130
    np.testing.assert_array_equal(found.profile.sum(axis=1), 130 - np.isin(np.arange(500), reference))
    assert found.profile[:, 1].sum() == found.counts[BINS // 2 :].sum()


def test_the_order_of_equal_similarities_is_that_of_the_samples() -> None:
    embeddings = np.repeat(random_rows(4), 80, axis=0)
    found = scan(embeddings, task(10))
    for row in range(320):
        group = np.arange(80) + 80 * (row // 80)
        np.testing.assert_array_equal(found.indices[row], group[group != row][:10])
        assert (found.similarities[row] == found.similarities[row, 0]).all()


def test_rows_too_alike_for_the_products_precision_are_still_told_apart() -> None:
    random = np.random.default_rng(5)
    near = random_rows(1)[0] + 1e-4 * random.standard_normal((200, 16)).astype(np.float32)
    embeddings = np.concatenate([near, random_rows(200, seed=1)])
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found = scan(embeddings, task(5))
    np.testing.assert_allclose(found.similarities, -np.sort(-oracle(embeddings), axis=1)[:, :5], atol=1e-7)


def test_more_hits_than_there_is_room_for_change_nothing() -> None:
    embeddings = random_rows(300)
    everything = task(40, profile=HALVES)
    assert_same(scan(embeddings, everything, hits=1), scan(embeddings, everything))


def test_how_much_is_done_at_a_time_and_in_which_order_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = random_rows(600)
    expected = scan(embeddings, task(8, 0.1, 0.6))
    for name, value in (("OFFERED", 50), ("MERGED", 7), ("BROUGHT", 100), ("SEEDED", 130)):
        monkeypatch.setattr(gpu_candidates, name, value)
    monkeypatch.setattr(gpu, "COMPARED", 61)
    backwards = Scan(Rows(embeddings), task(8, 0.1, 0.6), DEVICE, shape=SHAPE)
    backwards.run(backwards.tiles()[::-1])
    assert_same(backwards.finish(), expected)


def test_parts_absorbed_in_any_order_make_the_whole() -> None:
    rows = Rows(random_rows(600))
    of = task(8, profile=HALVES)
    parts = [Scan(rows, of, DEVICE, shape=SHAPE) for _ in range(3)]
    for number, part in enumerate(parts):
        part.run(part.tiles()[number::3])
    parts[2].absorb(parts[0].state())
    parts[2].absorb(parts[1].state())
    assert_same(parts[2].finish(), scan(random_rows(600), of))


def test_a_first_cut_that_proves_too_high_is_made_good(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = random_rows(60)
    expected = scan(embeddings, task(6))
    monkeypatch.setattr(gpu_candidates, "SAMPLE", 30)
    monkeypatch.setattr(gpu_candidates, "seed_rank", lambda mean: 1)
    monkeypatch.setattr(gpu_candidates, "COMPARED", 50)
    made = Scan(Rows(embeddings), task(6), DEVICE, shape=SHAPE)
    made.run(made.tiles())
    assert (made.state()["candidates"][:, -1] == gpu_candidates.NO_CANDIDATE).sum() > 15
    assert_same(made.finish(), expected)


def test_without_partners_to_keep_pairs_are_counted() -> None:
    found = scan(random_rows(300), task(0))
    assert found.indices.shape == found.similarities.shape == (300, 0)
    assert found.counts.sum() == 300 * 299 // 2


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64", "tensor", "scaled", "swapped"])
def test_rows_of_every_kind_are_read(kind: str, tmp_path: Path) -> None:
    plain = random_rows(100).astype(np.float16).astype(np.float32)
    if kind == "bfloat16":
        plain = torch.from_numpy(plain).bfloat16().float().numpy()
    given: Any = {
        "float16": lambda: plain.astype(np.float16),
        "bfloat16": lambda: torch.from_numpy(plain).bfloat16(),
        "float64": lambda: plain.astype(np.float64) * 1e100,
        "tensor": lambda: torch.from_numpy(plain).to(DEVICE),
        "scaled": lambda: plain * np.exp2(np.random.default_rng(0).integers(-99, 99, (100, 1))).astype(np.float32),
        "swapped": lambda: plain.astype(">f4"),
    }[kind]()
    found, expected = scan(given, task(5)), scan(plain, task(5))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-7)
    np.testing.assert_array_equal(found.counts, expected.counts)


def test_it_finds_what_the_cpu_finds() -> None:
    embeddings = random_rows(700, 64)
    rows, of = Rows(embeddings), task(9, -0.1, 0.4)
    cpu = CpuScan(rows, of, bf16=False)
    cpu.run(cpu.tiles())
    expected, found = cpu.finish(), scan(embeddings, of)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)


def test_progress_tells_how_many_tiles_are_done_and_may_end_the_scan() -> None:
    made, seen = Scan(Rows(random_rows(1200)), task(2), DEVICE, shape=SHAPE), []
    made.run(made.tiles(), lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(made.tiles()), len(made.tiles())) == (15, 15)


if DEVICE.type == "cuda":

    def test_all_of_this_holds_in_the_interpreter_too() -> None:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
        subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, check=True)

    def test_pair_scan_takes_the_gpu_and_agrees_with_the_cpu() -> None:
        embeddings = random_rows(20_000, 64)
        found, expected = (pair_scan(embeddings, k=9, device=device) for device in ("cuda", "cpu"))
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)
        assert found.histogram.total == expected.histogram.total

else:

    def test_a_gpu_that_is_not_there_is_refused() -> None:
        with pytest.raises(InputError, match="cuda"):
            pair_scan(random_rows(10), device="cuda")


@pytest.mark.parametrize(
    ("device", "size", "free", "chosen"),
    [
        ("auto", 2**36, 2**36, "cuda"),
        ("auto", 2**20, 2**20, "cpu"),
        ("cuda", 2**20, 2**20, "the GPU's memory, which has"),
        # What else runs there decides nothing but whether there is an answer.
        ("auto", 2**36, 2**20, "are free"),
        ("cuda", 2**36, 2**20, "are free"),
    ],
)
def test_the_gpus_size_decides_where_to_scan_and_not_what_is_free(
    device: str, size: int, free: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tamis.scan.pairs.resolve_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr("tamis.scan.pairs.find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(gpu, "memory_of", lambda device: size)
    monkeypatch.setattr(gpu, "memory_free", lambda device: free)
    rows = Rows(random_rows(9000, 2))
    if " " in chosen:
        with pytest.raises(InputError, match=chosen):
            choose_method(rows, device, 4)
    else:
        assert choose_method(rows, device, 4).device == chosen


COMPILES = """
import re, subprocess, sys
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tamis.scan import gpu_kernels as kernels
from tamis.scan.gpu import LARGE_SHAPE as shape

declare, count = kernels.shared_counting(2048)
constants = dict(
    BINS=2048, MARGIN=kernels.margin(2048), PROFILE=0, SYMMETRIC=True, COUNTING=True, DECLARE=declare, COUNT=count,
    BLOCK=shape.block, BM=shape.rows, BN=shape.columns, BK=shape.depth,
)
pointers = dict(
    row_cut="fp32", column_cut="fp32", own_column="i32", blocks="i32", counts="i64", profile="i32",
    profile_of="i32", hit_count="i64", hit_place="i64", hit_word="i32",
)
names = kernels.scan_tiles.arg_names
types = {name: "fp32" if name == "high" else "i32" for name in names}
types |= {name: "*" + kind for name, kind in pointers.items()} | dict.fromkeys(constants, "constexpr")
types["rows"] = f"tensordesc<fp16[{shape.rows}, {shape.depth}]>"
types["columns"] = f"tensordesc<fp16[{shape.columns}, {shape.depth}]>"
aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in (*pointers, "dimension")}
fixed = {(names.index(name),): value for name, value in constants.items()}
built = triton.compile(
    ASTSource(kernels.scan_tiles, types, fixed, aligned),
    target=GPUTarget("cuda", 90, 32),
    options={"num_warps": shape.warps, "num_stages": shape.stages},
)
binary = Path(sys.argv[1])
binary.write_bytes(built.asm["cubin"])
tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
read = lambda option: subprocess.run([tool, option, binary], check=True, capture_output=True, text=True).stdout
resources, code = read("-res-usage"), read("-sass")
print(shape, resources)
assert int(re.search(r"STACK:(\\d+)", resources)[1]) <= 32
assert "HGMMA" in code and "UTMALDG" in code and "ATOMS" in code
# The counters are the kernel's own beside Triton's; both have to fit as often as is said.
shared = built.metadata.shared + int(re.search(r"SHARED:(\\d+)", resources)[1])
assert shape.resident * shared <= 227 * 1024
assert shape.resident * shape.warps * 32 * int(re.search(r"REG:(\\d+)", resources)[1]) <= 2**16
"""


def test_the_kernel_compiles_for_a_hopper_gpu_to_its_matrix_and_copy_units(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", COMPILES, str(tmp_path / "kernel.cubin")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
