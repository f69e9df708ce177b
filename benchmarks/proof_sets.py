"""Labelled folders to prove a treatment on: `python -m benchmarks.proof_sets NAME FOLDER` writes
FOLDER/train/LABEL/*.png and FOLDER/test/LABEL/*.png.

glyphs: the letters and digits in 240 of the typefaces that are installed, of which a third is for tests alone. emoji:
those of four vendors in their categories, a third of the emoji for tests alone, by whichever vendor.
benchmarks/image_sets.py says what must be installed.
"""

import hashlib
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from benchmarks.image_sets import LATIN, emoji_files, glyph, typefaces
from tamis.images import decode

# What belongs together, the label, and the image.
Member = tuple[str, str, Image.Image]
TESTED = 3  # one group in so many
TYPEFACES = 240


def write(name: str, folder: Path) -> int:
    """Returns the number of images; one group's are all in one part, which part its name alone decides."""
    count = 0
    for group, label, image in SETS[name]():
        part = "test" if hashlib.sha256(group.encode()).digest()[0] % TESTED == 0 else "train"
        place = folder / part / label
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{count:06}.png")
        count += 1
    return count


def _glyphs() -> Iterator[Member]:
    faces = typefaces(LATIN)
    for face in random.Random(0).sample(faces, min(TYPEFACES, len(faces))):
        for character in LATIN:
            yield f"{face.path}:{face.index}", f"{ord(character):02x}", glyph(face, character)


def _emoji() -> Iterator[Member]:
    for file, category in emoji_files():
        yield file.stem, category.lower().replace(" ", "-"), decode(file.read_bytes())


SETS: dict[str, Callable[[], Iterator[Member]]] = {"glyphs": _glyphs, "emoji": _emoji}

if __name__ == "__main__":
    sys.stdout.write(f"{write(sys.argv[1], Path(sys.argv[2]))} images\n")
