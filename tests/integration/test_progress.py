"""What a running job's row says of its progress."""

import re
import time
from pathlib import Path

import pytest

from tamis.settings import Settings
from tamis.store.schema import Dataset
from worker.runtime import open_runtime, reporter


@pytest.mark.parametrize(
    ("done", "expected"),
    [(60, r"embedding: \d+ images a second, \d s left"), (20, "embedding"), (100, r".*, 0 s left")],
    ids=["under way", "nothing done yet", "at the end"],
)
def test_the_message_says_how_fast_and_how_long(done: int, expected: str, tmp_path: Path) -> None:
    run = open_runtime(Settings(data=tmp_path))
    with run.catalog.session() as session:
        session.add(Dataset(id="ds_1", name="photos", state="running"))
    report = reporter(Dataset, "ds_1", "embed", "embedding", done=20, total=100, unit="images")
    with run.catalog.session() as session:
        row = session.get_one(Dataset, "ds_1")
        assert (row.done, row.total, row.message) == (20, 100, "embedding")
    time.sleep(0.3)
    report(done, 100)
    with run.catalog.session() as session:
        row = session.get_one(Dataset, "ds_1")
        assert (row.done, row.total) == (done, 100)
        assert re.fullmatch(expected, row.message), row.message
    run.jobs.close()
    run.catalog.engine.dispose()
