"""Labelled images that are at hand: scikit-learn's digits, Debian's Fashion-MNIST, and emoji of four vendors.

The emoji are of the npm packages `emoji-datasource-{apple,facebook,google,twitter}`, in ./node_modules.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from tamis.commands.demo import FASHION_MNIST
from tamis.encoders.spec import EncoderSpec
from tamis.ingest.images import decode
from tamis.sources import RawSample, open_source

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Named = tuple[list[Image.Image], list[str]]

VENDORS = ("apple", "facebook", "google", "twitter")
FASHION_IMAGES = 20_000


def load(name: str, count: int, size: int | None = None) -> tuple[Pixels, Labels] | None:
    """(N, 3, S, S) as an encoder of the small network is shown them, and (N,) classes; None where it is not installed.

    count: N at most, drawn at random but always the same. size: S; without it the set's own of OWN_SIZES.
    """
    found = SETS[name]()
    if found is None:
        return None
    images, labels = found
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:count])
    spec = EncoderSpec("small", size or OWN_SIZES[name])
    pixels = np.stack([spec.pixels(images[row]) for row in chosen])
    return pixels, np.unique(labels, return_inverse=True)[1][chosen]


def emoji_files() -> Iterator[tuple[Path, str]]:
    """The files of 64 x 64 pixels and their categories, of which there are nine; none where they are not installed."""
    packages = [Path("node_modules") / f"emoji-datasource-{vendor}" for vendor in VENDORS]
    if not all(package.is_dir() for package in packages):
        return
    for package, vendor in zip(packages, VENDORS, strict=True):
        for entry in json.loads((package / "emoji.json").read_text()):
            file = package / "img" / vendor / "64" / entry["image"]
            if entry["category"] != "Component" and file.exists():
                yield file, entry["category"]


def _digits() -> Named:
    digits = load_digits()
    grey = (digits.images * 255 / 16).round().astype(np.uint8)
    return [Image.fromarray(image).convert("RGB") for image in grey], [str(label) for label in digits.target]


def _fashion() -> Named | None:
    file = FASHION_MNIST / "train-images-idx3-ubyte.gz"
    if not file.exists():
        return None
    images: list[Image.Image] = []
    labels: list[str] = []
    for sample in open_source(file):
        if isinstance(sample, RawSample) and len(images) < FASHION_IMAGES:
            images.append(decode(sample.data))
            labels.append(sample.label or "")
    return images, labels


def _emoji() -> Named | None:
    found = list(emoji_files())
    return ([decode(file.read_bytes()) for file, _ in found], [category for _, category in found]) if found else None


SETS: dict[str, Callable[[], Named | None]] = {"digits": _digits, "fashion-mnist": _fashion, "emoji": _emoji}
# Of the pixels that `tamis curate` would choose for the originals of 8, 28 and 64 pixels, or fewer for the emoji.
OWN_SIZES = {"digits": 16, "fashion-mnist": 24, "emoji": 24}
