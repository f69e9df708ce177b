"""What the browser tests share: the pages they open, and how they open them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import Server
from playwright.sync_api import Page

HOSTILE_NAME = "<script>alert(1)</script> \u202egnp.exe & <b>bold</b>"
HOSTILE_FILE = "0/<img src=x onerror=alert(1)>.png"

REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
AXE = Path(__file__).with_name("axe.min.js").read_text()

# Opens a path in a window of its own: `Open(path, url=..., **options of a browser context)`.
Open = Callable[..., Page]


@dataclass(frozen=True)
class Curated:
    """A server with one curated data set, whose name and one of whose files mean harm."""

    server: Server
    dataset: str
    curation: str
    manifest: str
    training: str
    experiment: str

    @property
    def addresses(self) -> dict[str, str]:
        return {
            "data sets": "/",
            "data set": f"/datasets/{self.dataset}",
            "curation": f"/curations/{self.curation}",
            "explore": f"/curations/{self.curation}/explore?hardest=100",
            "clusters": f"/curations/{self.curation}/clusters",
            "bound": f"/curations/{self.curation}/bound",
            "sample": f"/curations/{self.curation}/samples/0",
            "pair": f"/curations/{self.curation}/pairs/0-1",
            "decisions": f"/curations/{self.curation}/decisions",
            "manifest": f"/manifests/{self.manifest}",
            "trainings": "/trainings",
            "training": f"/trainings/{self.training}",
            "experiment": f"/trainings/{self.experiment}",
            "encoders": "/encoders",
            "jobs": "/jobs",
            "job": f"/jobs/{self.curation}",
            "settings": "/settings",
        }


def violations(page: Page, *tags: str) -> list[tuple[str, list[str]]]:
    """What axe-core finds inaccessible: its rule and the first elements that break it.

    tags: of the rules that are asked; all without any.
    """
    page.wait_for_load_state("load")
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    # Nothing else is worked out or handed over: what is right on a page is much.
    asked = {"resultTypes": ["violations"], **({"runOnly": tags} if tags else {})}
    found = page.evaluate("async (asked) => (await axe.run(asked)).violations", asked)
    return [(each["id"], [node["html"] for node in each["nodes"][:3]]) for each in found]
