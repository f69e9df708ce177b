"""Fixtures of the tests of sources."""

from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import PACKERS, Files, write

from tamis.sources import Source, open_source


@pytest.fixture(params=["folder", *PACKERS])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Files], Source]:
    """Stores files in each kind of container, and opens it by its path."""

    def opened(files: Files) -> Source:
        if request.param == "folder":
            return open_source(write(tmp_path / "data", files))
        path = tmp_path / f"data.{request.param}"
        path.write_bytes(PACKERS[request.param](files))
        return open_source(path)

    return opened
