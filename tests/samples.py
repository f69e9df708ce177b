"""Small image sets for tests: scikit-learn's handwritten digits as PNG files, and noise as pixels."""

import io
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from trainer.data import ImageSet


@cache
def digit_files(count: int = 1797) -> tuple[tuple[str, bytes], ...]:
    """`LABEL/NUMBER.png` and content of the first digits."""
    digits = load_digits()
    files = []
    for number in range(count):
        sink = io.BytesIO()
        pixels = (digits.images[number] * (255 / 16)).round().astype(np.uint8)
        Image.fromarray(pixels).save(sink, "png")
        files.append((f"{digits.target[number]}/{number:04}.png", sink.getvalue()))
    return tuple(sorted(files))


def digit_embeddings(count: int = 1797) -> npt.NDArray[np.float32]:
    """The pixels themselves, in the order of `digit_files`: embeddings a user might bring."""
    data = load_digits().data.astype(np.float32)
    return np.stack([data[int(Path(name).stem)] for name, _ in digit_files(count)])


def noise(count: int) -> ImageSet:
    """Images of 16 x 16 random pixels, always the same."""
    pixels = np.random.default_rng(count).integers(0, 256, (count, 3, 16, 16), np.uint8)
    return ImageSet(pixels, tuple(f"{number}.png" for number in range(count)))


def write_tar(path: Path, files: tuple[tuple[str, bytes], ...]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_folder(folder: Path, files: tuple[tuple[str, bytes], ...]) -> Path:
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
