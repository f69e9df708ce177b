"""Imports point the way DESIGN says: from room to room, in no circle, and never from what computes to what stores."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("tamis", "service", "worker", "trainer", "migrations")
# A room is a folder of the core or of the worker, or a whole package; each module of the hall is one by itself.
SPLIT = ("tamis", "worker")
HALL = {
    f"tamis.{name}"
    for name in (
        "arrays",
        "errors",
        "version",
        "device",
        "checkpoint",
        "images",
        "printable",
        "progress",
        "losses",
        *("shown", "theory"),
    )
}
# What a room may import beside itself and the hall.
ARROWS: dict[str, set[str]] = {
    "tamis.settings": set(),
    "tamis.logs": set(),
    "tamis.manifest": set(),
    "tamis.batches": {"tamis.manifest"},
    "tamis.scan": set(),
    "tamis.curation": {"tamis.scan", "tamis.manifest"},
    "tamis.store": {"tamis.settings", "migrations"},
    "tamis.sources": {"tamis.store", "tamis.settings"},
    "tamis.ingest": {"tamis.sources"},
    "tamis.encoders": set(),
    "tamis.exports": {"tamis.ingest", "tamis.sources"},
    "tamis.report": {"tamis.curation", "tamis.ingest", "tamis.manifest", "tamis.scan"},
    "tamis.torch": {"tamis.batches", "tamis.ingest", "tamis.manifest"},
    "tamis.client": {"tamis.manifest", "tamis.sources"},
    "migrations": set(),
    "trainer": {"tamis.batches", "tamis.encoders", "tamis.ingest", "tamis.manifest", "tamis.sources"},
    "worker.cache": set(),
    "worker.steps": {
        *("trainer", "tamis.curation", "tamis.encoders", "tamis.ingest", "tamis.manifest", "tamis.scan"),
        "tamis.sources",
    },
    "worker.local": {
        *("worker.cache", "worker.steps", "tamis.encoders", "tamis.ingest", "tamis.manifest", "tamis.sources"),
    },
    "worker.durable": {
        *("worker.steps", "tamis.encoders", "tamis.ingest", "tamis.logs", "tamis.settings"),
        *("tamis.sources", "tamis.store"),
    },
    "service": {
        *("tamis.curation", "tamis.encoders", "tamis.exports", "tamis.ingest", "tamis.logs", "tamis.manifest"),
        *("tamis.report", "tamis.scan", "tamis.settings", "tamis.sources", "tamis.store"),
    },
    # Above all else.
    "tamis.commands": {
        *("service", "trainer", "worker.cache", "worker.durable", "worker.local", "tamis.client", "tamis.curation"),
        *("tamis.encoders", "tamis.exports", "tamis.manifest", "tamis.report", "tamis.settings", "tamis.sources"),
        "tamis.store",
    },
}
# Libraries that only some rooms may know.
KEEPERS = {
    "sqlalchemy": {"tamis.store", "migrations", "service", "worker.durable"},
    "alembic": {"migrations"},
    "dbos": {"tamis.store", "worker.durable"},
    "obstore": {"tamis.store", "tamis.sources"},
    "duckdb": {"service"},
    "fastapi": {"service"},
    "httpx": {"tamis.client"},
    "cyclopts": {"tamis.commands"},
    "rich": {"tamis.commands"},
    "faiss": {"tamis.scan"},
    "matplotlib": {"trainer"},
}


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a module imports, inside functions too, but for what only type checkers read."""
    tree = ast.parse(path.read_text())
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in set(ast.walk(tree)) - hidden:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module
            # `from tamis import losses` names a module, `from tamis import InputError` what the package gives.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name: str) -> str | None:
    """Of the module or of what is imported from it; None for other people's, and for the package `tamis` itself."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return None
    if parts[0] not in SPLIT:
        return parts[0]
    if len(parts) == 1 or (
        not (ROOT / parts[0] / parts[1]).is_dir() and not (ROOT / parts[0] / f"{parts[1]}.py").is_file()
    ):
        return None
    return ".".join(parts[:2])


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found = room(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
            if found is not None:
                yield found, path


def test_every_arrow_between_rooms_is_one_that_is_meant() -> None:
    strangers = {
        f"{path.relative_to(ROOT)}: {name}"
        for own, path in modules()
        for name in imports(path)
        if room(name) not in {None, own, *HALL, *ARROWS.get(own, set())}
    }
    assert strangers == set()


def test_every_arrow_that_is_meant_is_there_and_every_room_is_known() -> None:
    found: dict[str, set[str]] = {name: set() for name in ARROWS}
    for own, path in modules():
        others = {room(name) for name in imports(path)} - {None, own} - HALL
        if own not in HALL:
            found[own] |= others  # type: ignore[arg-type]  # None is taken out above
    assert found == ARROWS


def test_no_circle() -> None:
    in_hall: dict[str, set[str]] = {name: set() for name in HALL}
    for own, path in modules():
        if own in HALL:
            in_hall[own] |= {str(other) for name in imports(path) if (other := room(name)) not in {None, own}}
    assert set().union(*in_hall.values()) <= HALL
    graph = {name: others | HALL for name, others in ARROWS.items()} | in_hall
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("library", KEEPERS)
def test_libraries_are_known_where_they_are_kept(library: str) -> None:
    users = {own for own, path in modules() if any(name.split(".")[0] == library for name in imports(path))}
    assert users <= KEEPERS[library]


def test_a_room_has_no_module_over_400_lines() -> None:
    long = {str(path): lines for _, path in modules() if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}
