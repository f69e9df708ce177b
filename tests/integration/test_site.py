"""The site of docs/: built without a warning, whole, and asking nothing of any network."""

import re
from pathlib import Path

import pytest
from reader import ROOT

from tamis.commands.app import app


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    # Strict: a link that leads nowhere or a page that is in no menu ends it.
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    return folder


def test_every_page_is_there_and_asks_nothing_of_a_network(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / page.stem / "index.html").is_file() or page.stem == "index"
    asking = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//|url\(["']?https?:""")
    for file in (*site.rglob("*.html"), *site.rglob("*.css")):
        assert asking.search(file.read_text()) is None, file


def test_the_references_are_of_the_program_itself(site: Path) -> None:
    commands = (site / "commands" / "index.html").read_text()
    assert [name for name in app if not name.startswith("-") and f"tamis {name}" not in commands] == []
    assert "/api/v1/datasets/{dataset_id}" in (site / "rest" / "index.html").read_text()
    python = (site / "python" / "index.html").read_text()
    assert all(
        f'id="tamis.{name}"' in python
        for name in ("curate", "Client.upload", "torch.ManifestSampler", "losses.InfoNCE")
    )
