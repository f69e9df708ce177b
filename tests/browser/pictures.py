"""Takes a picture of every page, in both themes, wide and narrow: `make pictures`. Not a test that pytest finds."""

import gzip
import io
from pathlib import Path

import numpy as np
from harness import serving
from PIL import Image
from playwright.sync_api import Browser
from samples import write_tar
from windows import Curated

ROOT = Path(__file__).parents[2]
FASHION = Path("/usr/share/datasets/fashion-mnist")
NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
COUNT = 4000
WIDTHS = {1280: 900, 390: 844}


def fashion_files(count: int) -> tuple[tuple[str, bytes], ...]:
    with gzip.open(FASHION / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)[:count]
    with gzip.open(FASHION / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:count]
    files = []
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        sink = io.BytesIO()
        Image.fromarray(image).save(sink, "png")
        files.append((f"{NAMES[label]}/{number:05}.png", sink.getvalue()))
    return tuple(files)


def test_every_page_has_its_picture(browser: Browser, tmp_path: Path) -> None:
    out = ROOT / "pictures"
    out.mkdir(exist_ok=True)
    with serving(tmp_path / "data") as server:
        uploaded = server.client.upload(write_tar(tmp_path / "fashion.tar", fashion_files(COUNT)), "Fashion-MNIST")
        dataset = server.client.wait(f"/datasets/{uploaded['id']}", timeout=120)["id"]
        asked = server.client.curate(dataset, steps=600)
        curation = server.client.wait(f"/curations/{asked['id']}", timeout=900)["id"]
        manifest = server.client.make_manifest(curation, "temperature")["id"]
        server.client.wait(f"/manifests/{manifest}", timeout=60)
        training = server.client.train(manifest, steps=300)["id"]
        experiment = server.client.experiment(curation, arms=["remove", "temperature"], seeds=3, steps=150)["id"]
        for each in (training, experiment):
            server.client.wait(f"/trainings/{each}", timeout=1800)
        shown = Curated(server, dataset, curation, manifest, training, experiment)
        for width, height in WIDTHS.items():
            for theme in ("light", "dark"):
                context = browser.new_context(
                    base_url=server.url, viewport={"width": width, "height": height}, color_scheme=theme
                )
                page = context.new_page()
                for name, address in shown.addresses.items():
                    page.goto(address.replace("hardest=100", "hardest=1000"))
                    # A page that hears of jobs is never idle.
                    page.wait_for_load_state("networkidle" if name == "explore" else "load")
                    page.evaluate("document.querySelectorAll('img').forEach((image) => (image.loading = 'eager'))")
                    # What is drawn after the data are there: images, and the map once it rests.
                    page.wait_for_timeout(800)
                    page.screenshot(path=out / f"{name.replace(' ', '-')}-{width}-{theme}.png", full_page=True)
                    if (name, width, theme) == ("explore", 1280, "light"):
                        _small(out / "explore-1280-light.png", ROOT / "docs" / "dashboard.png")
                context.close()


def _small(picture: Path, to: Path) -> None:
    """For a README, which is looked at over a network."""
    Image.open(picture).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(to, optimize=True)
