"""A manifest's tables as pandas and polars read them: every column, with nulls as nulls."""

from pathlib import Path

import pytest
from samples import digit_embeddings

import tamis
from tamis.manifest import PAIRS_SCHEMA, SAMPLES_SCHEMA, Manifest


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    made = tamis.curate(digit_embeddings(60), classes=5).select("combined", 0.2)
    return made.write(tmp_path_factory.mktemp("made")), made


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_are_read_in_a_line(library: str, written: tuple[Path, Manifest]) -> None:
    folder, made = written
    read = pytest.importorskip(library).read_parquet
    samples, pairs = read(folder / "samples.parquet"), read(folder / "pairs.parquet")
    assert list(samples.columns) == SAMPLES_SCHEMA.names
    assert list(pairs.columns) == PAIRS_SCHEMA.names
    assert list(samples["difficulty"]) == made.samples["difficulty"].to_pylist()
    assert int(samples["keep"].sum()) == 48
    assert list(pairs["a"]) == made.pairs["a"].to_pylist()
    missing = samples["label"].isna() if library == "pandas" else samples["label"].is_null()
    assert missing.all()
