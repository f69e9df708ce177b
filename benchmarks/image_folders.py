"""Folders of images as newcomers have them, made from what is installed; the same seed gives the same images.

Photos are cut from photographs: those of Debian's `mate-backgrounds`, and the two that come with scikit-learn. So many
from so few are more alike than a real set's, but take as long to read and to train on. Cutouts, which are photographs
and drawings on a transparent ground, are those of Debian's `tuxpaint-stamps-default`; icons are the emoji of
benchmarks/image_sets.py. Where cutouts or emoji are not installed, shapes are drawn in their place.
"""

import hashlib
import io
import json
import math
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from PIL import Image, ImageDraw

from benchmarks.image_sets import emoji_files

ICON = (64, 64)
PHOTO = (500, 375)
SMALLEST, LARGEST = 16, 3000
# Of the least and the largest share of a photograph's width that is cut out.
CUT = (0.3, 1.0)
PHOTOGRAPHS = (
    Path(sklearn.datasets.__file__).parent / "images",
    Path("/usr/share/backgrounds/mate/nature"),
)
CUTOUTS = Path("/usr/share/tuxpaint/stamps")
# What a folder of mixed images holds: how often, as what, in which of Pillow's modes.
MIXTURE = (
    (0.38, "jpg", "RGB"),
    (0.06, "jpg", "L"),
    (0.20, "png", "RGBA"),
    (0.06, "png", "RGB"),
    (0.08, "png", "P"),
    (0.03, "png", "L"),
    (0.02, "png", "LA"),
    (0.08, "webp", "RGB"),
    (0.04, "webp", "RGBA"),
    (0.05, "gif", "P"),
)
ALPHA = ("RGBA", "LA")
DAMAGES = ("cut short", "empty", "a text")
DAMAGED = 0.01
RECORD = "made.json"


@dataclass(frozen=True)
class Planned:
    """One file to make. damage: one of DAMAGES, or none. seed: of the cut and what else is random in it."""

    name: str
    format: str
    mode: str
    size: tuple[int, int]
    damage: str | None
    seed: tuple[int, int]


def icons(count: int, seed: int = 0) -> list[Planned]:
    """Up to `count` files of 64 x 64 pixels, PNG with alpha."""
    return [Planned(f"{row:05}.png", "png", "RGBA", ICON, None, (seed, row)) for row in range(count)]


def photos(count: int, seed: int = 0) -> list[Planned]:
    """JPEG files of 500 x 375 pixels and quality 90."""
    return [Planned(f"{row:05}.jpg", "jpg", "RGB", PHOTO, None, (seed, row)) for row in range(count)]


def mixture(count: int, seed: int = 0) -> list[Planned]:
    """Files of MIXTURE in four folders, the larger side 16 to 3,000 pixels with all magnitudes alike; 1% damaged."""
    random = np.random.default_rng((seed, count))
    shares = np.array([share for share, _, _ in MIXTURE])
    kinds = random.choice(len(MIXTURE), count, p=shares / shares.sum())
    longer = np.exp(random.uniform(math.log(SMALLEST), math.log(LARGEST), count)).round().astype(int)
    shorter = np.maximum((longer * random.uniform(0.5, 1.0, count)).round().astype(int), SMALLEST)
    upright = random.random(count) < 0.3
    damaged = random.choice(count, min(count, max(len(DAMAGES), round(DAMAGED * count))), replace=False)
    damages = {int(row): DAMAGES[place % len(DAMAGES)] for place, row in enumerate(damaged)}
    found = []
    for row, kind in enumerate(kinds):
        _, suffix, mode = MIXTURE[kind]
        size = (int(shorter[row]), int(longer[row])) if upright[row] else (int(longer[row]), int(shorter[row]))
        found.append(Planned(f"{row % 4}/{row:05}.{suffix}", suffix, mode, size, damages.get(row), (seed, row)))
    return found


SETS: dict[str, Callable[[int], list[Planned]]] = {"icons": icons, "photos": photos, "mixture": mixture}


def make(folder: Path, planned: Sequence[Planned]) -> int:
    """Makes the files in `folder`, in processes; returns the bytes of all. A folder that holds them is not touched."""
    record = folder.with_name(f"{folder.name}.{RECORD}")
    how = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    wanted = json.dumps([how, *([asdict(one), str(_picture(one))] for one in planned)])
    if not (record.exists() and record.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        # Those of one picture together, so that a large one is decoded a few times only.
        order = sorted(planned, key=lambda one: str(_picture(one)))
        with ProcessPoolExecutor() as pool:
            list(pool.map(_write, [folder] * len(order), order, chunksize=max(1, len(order) // 64)))
        record.write_text(wanted)
    return sum(file.stat().st_size for file in folder.rglob("*.*"))


def _write(folder: Path, one: Planned) -> None:
    path = folder / one.name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"" if one.damage == "empty" else b"This is no image.\n" if one.damage == "a text" else _content(one)
    path.write_bytes(content[: len(content) * 2 // 3] if one.damage == "cut short" else content)


def _content(one: Planned) -> bytes:
    """The file's bytes, undamaged."""
    picture = _picture(one)
    if picture is not None and picture in _emoji():
        return picture.read_bytes()
    random = np.random.default_rng(one.seed)
    image = _drawn(random, one.size) if picture is None else _cut(_opened(picture), one.size, random)
    sink = io.BytesIO()
    options: dict[str, Any] = {"jpg": {"quality": 90}, "png": {"compress_level": 1}, "webp": {"method": 0}}
    _in_mode(image, one.mode).save(sink, {"jpg": "jpeg"}.get(one.format, one.format), **options.get(one.format, {}))
    return sink.getvalue()


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode == "P":
        return image.quantize(256, Image.Quantize.FASTOCTREE)
    if mode in ALPHA:
        return image.convert(mode)
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert(mode)


def _cut(picture: Image.Image, size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """A part of the picture of the size's aspect, or of a cutout all of it, resampled to that size."""
    if picture.mode == "RGBA":
        return picture.resize(size, Image.Resampling.BILINEAR)
    across = min(picture.width, picture.height * size[0] / size[1]) * random.uniform(*CUT)
    down = across * size[1] / size[0]
    left, top = random.uniform(0, picture.width - across), random.uniform(0, picture.height - down)
    box = (left, top, left + across, top + down)
    return picture.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)


def _drawn(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A few shapes on a transparent ground."""
    image = Image.new("RGBA", size)
    pen = ImageDraw.Draw(image)
    for _ in range(int(random.integers(2, 6))):
        corners = np.sort(random.uniform(0, 1, (2, 2)), axis=0) * size
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        draw = (pen.ellipse, pen.rectangle)[int(random.integers(2))]
        draw([tuple(corner) for corner in corners.tolist()], fill=colour)
    return image


def _picture(one: Planned) -> Path | None:
    """The picture it is made of; None for shapes."""
    if one.size == ICON and one.mode == "RGBA":
        files = _emoji()
    elif one.mode in (*ALPHA, "P"):
        files = _cutouts()
    else:
        files = _photographs()
    # A prime, so that neighbours are of other kinds and none comes twice before all came once.
    return files[one.seed[1] * 7919 % len(files)] if files else None


@cache
def _emoji() -> tuple[Path, ...]:
    return tuple(file for file, _ in emoji_files())


@cache
def _cutouts() -> tuple[Path, ...]:
    return tuple(sorted(CUTOUTS.rglob("*.png")))


@cache
def _photographs() -> tuple[Path, ...]:
    return tuple(sorted(file for folder in PHOTOGRAPHS for file in folder.glob("*.jpg")))


_last: dict[Path, Image.Image] = {}


def _opened(path: Path) -> Image.Image:
    """The picture in RGB, or in RGBA where it has a transparent ground; the last one is kept."""
    if path not in _last:
        _last.clear()
        with Image.open(path) as image:
            _last[path] = image.convert("RGB" if path.suffix == ".jpg" else "RGBA")
    return _last[path]
