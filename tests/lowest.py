"""Prints the lowest release that pyproject.toml allows of each dependency, as constraints for pip."""

import re
import tomllib
from itertools import chain
from pathlib import Path

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,]+\])?>=(?P<lowest>[\d.]+)")
# Peers of benchmarks, compiled where they are installed, and the other distribution of the module faiss.
LEFT_OUT = {"bench", "gpu"}


def lowest(pyproject: Path) -> dict[str, str]:
    """By name. Raises ValueError for a requirement that states no lower bound, or more than that."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = [extra for name, extra in project["optional-dependencies"].items() if name not in LEFT_OUT]
    found = {}
    for requirement in chain(project["dependencies"], *extras):
        if requirement.startswith(f"{project['name']}["):
            continue
        match = REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement} has no lower bound, or more than that")
        found[match["name"]] = match["lowest"]
    return found


if __name__ == "__main__":
    for name, version in lowest(Path(__file__).parents[1] / "pyproject.toml").items():
        print(f"{name}=={version}")
