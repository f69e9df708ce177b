"""Labelled images that are at hand: scikit-learn's digits, Debian's Fashion-MNIST, emoji of four vendors, and
characters in the typefaces that are installed.

The emoji are of the npm packages `emoji-datasource-{apple,facebook,google,twitter}`, in ./node_modules; the typefaces
of Debian's packages `fonts-*`, found by its package fontconfig.
"""

import json
import shutil
import string
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from tamis.commands.demo import FASHION_MNIST
from tamis.encoders.spec import EncoderSpec
from tamis.images import decode
from tamis.sources import RawSample, open_source

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Named = tuple[list[Image.Image], list[str]]

VENDORS = ("apple", "facebook", "google", "twitter")
FASHION_IMAGES = 20_000
# Letters and digits; and 200 of the ideographs that Unicode has first.
LATIN = string.digits + string.ascii_letters
HAN = "".join(map(chr, range(0x4E00, 0x4E00 + 2000, 10)))
TYPEFACES = 150
SIDE = 28


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


def of_each(
    names: Iterable[str], count: int, work: Callable[[str, Pixels, Labels], Iterator[tuple[str, Any]]]
) -> Iterator[tuple[str, Any]]:
    """What `work` yields of each set, see `load`; and which are not installed."""
    for name in names:
        loaded = load(name, count)
        if loaded is None:
            yield name, "not installed"
        else:
            yield from work(name, *loaded)


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


def _glyphs(characters: str) -> Named | None:
    """Each character in up to TYPEFACES typefaces that have all of them, white on black, all on one baseline."""
    faces = typefaces(characters)
    chosen = np.sort(np.random.default_rng(0).permutation(len(faces))[:TYPEFACES])
    drawn = [(glyph(faces[face], character), character) for face in chosen for character in characters]
    return ([image for image, _ in drawn], [character for _, character in drawn]) if drawn else None


def typefaces(characters: str) -> list[ImageFont.FreeTypeFont]:
    if shutil.which("fc-list") is None:
        return []
    codes = " ".join(f"{ord(character):x}" for character in characters)
    command = ["fc-list", f":charset={codes}:scalable=true:variable=false", "--format", "%{file}\t%{index}\n"]
    lines = sorted(set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()))
    found = [(file, int(index)) for file, index in (line.split("\t") for line in lines)]
    # What is beyond 16 bits names a variant of one face.
    return [ImageFont.truetype(file, round(0.7 * SIDE), index=index) for file, index in found if index < 2**16]


def glyph(face: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    image = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(image).text((SIDE / 2, 0.75 * SIDE), character, font=face, fill=255, anchor="ms")
    return image.convert("RGB")


SETS: dict[str, Callable[[], Named | None]] = {
    "digits": _digits,
    "fashion-mnist": _fashion,
    "emoji": _emoji,
    "glyphs": lambda: _glyphs(LATIN),
    "han": lambda: _glyphs(HAN),
}
# The pixels that `tamis curate` chooses on a CPU for the originals of 8, 28 and 64 pixels.
OWN_SIZES = {"digits": 16, "fashion-mnist": 24, "emoji": 32, "glyphs": 24, "han": 24}
