"""Duplicates: what is found, what is kept of it, and what a manifest says."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import tamis
from tamis import InputError
from tamis.curation import duplicates
from tamis.curation.curation import curation_from_files
from tamis.curation.duplicates import equal_files, near_duplicates
from tamis.scan.rows import Rows

COUNT = 300


def one_by_one(embeddings: npt.NDArray[np.float32], similarity: float) -> list[int]:
    """What `near_duplicates` promises, in the plainest words."""
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    first = list(range(len(unit)))
    for one in range(len(unit)):
        for other in range(one):
            if first[other] == other and unit[one] @ unit[other] >= similarity:
                first[one] = other
                break
    return first


def groups(seed: int = 0) -> npt.NDArray[np.float32]:
    """Random directions, each two or three times with a little noise, in random order."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((COUNT // 3, 20))
    rows = np.repeat(centres, 3, 0) + 0.04 * random.standard_normal((COUNT, 20))
    return random.permutation(rows).astype(np.float32)


def table(hashes: list[str]) -> pa.Table:
    names = [f"{number}.png" for number in range(len(hashes))]
    sizes = pa.array([8] * len(hashes), pa.int32())
    columns = {"sample_id": names, "sha256": hashes, "uri": names, "width": sizes, "height": sizes}
    return pa.table({**columns, "label": pa.nulls(len(hashes), pa.string())})


def test_the_first_of_equal_files_is_theirs() -> None:
    hashes = pa.chunked_array([["a", "b", "a"], ["", "c", "b", "", "a"]])
    assert equal_files(hashes).tolist() == [0, 1, 0, 3, 4, 1, 6, 0]


@pytest.mark.parametrize("similarity", [0.99, 0.998, 0.999])
@pytest.mark.parametrize("block", [7, 2048])
def test_near_duplicates_are_those_of_a_search_one_by_one(
    similarity: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    embeddings = groups()
    expected = one_by_one(embeddings, similarity)
    assert len(set(expected)) < COUNT
    assert near_duplicates(Rows(embeddings), similarity).tolist() == expected  # type: ignore[union-attr]  # not too many


def test_a_chain_of_small_steps_is_not_one_group() -> None:
    angles = np.arange(60) * 0.02
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    first = near_duplicates(Rows(chain), similarity=0.999)
    assert first is not None
    assert 15 <= len(np.unique(first)) <= 30
    assert all(chain[one] @ chain[other] >= 0.999 for one, other in enumerate(first))


def test_equal_rows_all_repeat_the_first_of_them() -> None:
    embeddings = np.random.default_rng(0).standard_normal((5000, 8))
    embeddings[1000:] = embeddings[3]
    first = near_duplicates(Rows(embeddings))
    assert first is not None
    assert (first[1000:] == 3).all()
    assert (first[:1000] == np.arange(1000)).all()


def test_a_manifest_drops_what_is_asked_and_reports_all() -> None:
    embeddings = groups()
    hashes = [str(number) for number in range(COUNT)]
    hashes[40] = hashes[50] = hashes[10]
    curation = tamis.curate(embeddings, classes=5, neighbours=8)
    assert curation_from_files(curation.files()).files() == curation.files()
    near = set(np.flatnonzero(np.array(one_by_one(embeddings, duplicates.NEAR)) != np.arange(COUNT)).tolist())
    assert near
    for what, expected in (("keep", set()), ("exact", {40, 50}), ("near", near | {40, 50})):
        manifest = curation.select("margin", samples=table(hashes), duplicates=what)
        reasons = manifest.samples["reason"].to_pylist()
        assert {number for number, reason in enumerate(reasons) if reason == "duplicate"} == expected
        assert {number for number, keep in enumerate(manifest.samples["keep"].to_pylist()) if not keep} == expected
        counts = manifest.description["counts"]
        assert (counts["equal_files"], counts["near_duplicates"]) == (2, len(near))
        assert counts["dropped_duplicate"] == len(expected)
        assert manifest.description["duplicates"] == {"dropped": what, "near_similarity": duplicates.NEAR}
        first = one_by_one(embeddings, duplicates.NEAR)
        first[40] = first[50] = 10
        told = manifest.samples["duplicate_of"].to_pylist()
        assert told == [f"{earlier}.png" if earlier != number else None for number, earlier in enumerate(first)]
        kept = {f"{number}.png" for number in set(range(COUNT)) - expected}
        assert set(manifest.pairs["a"].to_pylist()) | set(manifest.pairs["b"].to_pylist()) <= kept


def test_a_decision_overrides_a_duplicate() -> None:
    hashes = ["same"] * 3 + [str(number) for number in range(COUNT - 3)]
    curation = tamis.curate(groups(), classes=5, neighbours=8)
    samples = curation.select("remove", samples=table(hashes), duplicates="exact", decisions={2: True}).samples
    assert samples["keep"].to_pylist()[1:3] == [False, True]
    assert samples["reason"].to_pylist()[1:3] == ["duplicate", "decision"]


def test_too_many_to_compare_are_not_looked_for_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_MOST", 10)
    curation = tamis.curate(groups(), classes=5, neighbours=8)
    assert curation.near is None
    assert curation_from_files(curation.files()).near is None
    assert curation.select().description["counts"]["near_duplicates"] is None
    with pytest.raises(InputError, match="not looked for"):
        curation.select(duplicates="near")
    with pytest.raises(InputError, match="keep, exact, near"):
        curation.select(duplicates="some")


def test_a_share_is_of_what_is_left_without_duplicates() -> None:
    embeddings = np.repeat(np.random.default_rng(0).normal(size=(30, 8)), 20, axis=0)
    curation = tamis.curate(embeddings, classes=3)
    made = curation.select("remove", 0.2, duplicates="near")
    counts = made.description["counts"]
    assert (counts["dropped_duplicate"], counts["dropped_difficult"], counts["kept"]) == (570, 6, 24)
    left = made.samples.filter(pa.compute.not_equal(made.samples["reason"], "duplicate"))
    order = np.argsort(-left["difficulty"].to_numpy(), kind="stable")
    assert np.flatnonzero(~left["keep"].to_numpy(zero_copy_only=False)).tolist() == sorted(order[:6].tolist())
