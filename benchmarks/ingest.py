"""Ingest against the limit, unpacking and hashing alone, and against its peer, a PyTorch DataLoader.

The limit: one process goes through the archive with the standard library and hashes every file; an IDX file is unpacked
into image files first, as an ingest must. The peers read, hash, decode and resize every image in as many processes as
there are cores; the second one also makes the thumbnails that an ingest makes, with Pillow's defaults.
"""

import hashlib
import io
import os
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import in_fresh_process, machine, resident_bytes, seconds, started_bytes
from tamis.images import THUMBNAIL_SIZES
from tamis.ingest.shards import ingest
from tamis.sources import RawSample, open_source

GREY, COLOUR, PHOTO = (28, 28), (32, 32), (500, 375)
REPEATS = 2


def run(count: int = 60_000) -> Iterator[tuple[str, Any]]:
    """Yields each figure as it is known. Photos are a thirtieth of `count`."""
    yield "machine", {**machine(), "cores": os.cpu_count()}
    yield "size", {"small images": count, "photos": count // 30}
    with tempfile.TemporaryDirectory(prefix="tamis-") as name:
        folder = Path(name)
        digits = _digits(count)
        sets = {
            "28 x 28 PNG in a tar": _tar(folder / "png.tar", _encoded(digits, "PNG")),
            "32 x 32 JPEG in a tar": _tar(folder / "jpeg.tar", _encoded(_crops(count, COLOUR), "JPEG")),
            "28 x 28 in IDX": _idx(folder / "images-idx3-ubyte", digits),
            "500 x 375 JPEG in a tar": _tar(folder / "photos.tar", _encoded(_crops(count // 30, PHOTO), "JPEG")),
        }
        for title, path in sets.items():
            yield title, _compared(path, folder, max(THUMBNAIL_SIZES) if "500" in title else min(THUMBNAIL_SIZES))
        few = _tar(folder / "few.tar", _encoded(digits[: count // 4], "PNG"))
        for size, path in ((count // 4, few), (count, folder / "png.tar")):
            yield f"memory, {size} images", in_fresh_process("benchmarks.ingest:memory", source=str(path))


def memory(source: str) -> dict[str, int]:
    """Ingests with nothing else in the process. `helpers_bytes`: what the processes that it started held together."""
    before, helpers, seen = resident_bytes(), 0, 0

    def look(done: int, total: int) -> None:
        nonlocal helpers, seen
        if done - seen > 1000:
            helpers, seen = max(helpers, started_bytes()), done

    with tempfile.TemporaryDirectory(prefix="tamis-") as folder:
        found = ingest(open_source(source), _writer(Path(folder)), look)
    return {"images": found.index.num_rows, "helpers_bytes": helpers, "bytes_before": before}


def _compared(path: Path, folder: Path, side: int) -> dict[str, Any]:
    count = sum(1 for _ in open_source(path))
    limit = seconds(lambda: _unpacked(path), REPEATS)
    ours = seconds(lambda: _ingested(path, folder), REPEATS)
    peer = seconds(lambda: _loaded(path, Resized(side)), REPEATS)
    # Several times as slow: a quarter tells its speed.
    part = max(count // 4, 1)
    with_thumbnails = seconds(lambda: _loaded(path, with_webp, part)) * count / part
    return {
        "seconds": ours,
        "images_a_second": count / ours,
        "limit_images_a_second": count / limit,
        "peer_images_a_second": count / peer,
        "share_of_limit": limit / ours,
        "times_peer": peer / ours,
        "times_peer_with_thumbnails": with_thumbnails / ours,
    }


def _ingested(path: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as target:
        ingest(open_source(path), _writer(Path(target)))


def _unpacked(path: Path) -> None:
    for data in _tar_files(path) if path.suffix == ".tar" else _idx_files(path):
        hashlib.sha256(data).hexdigest()


def _tar_files(path: Path) -> Iterator[bytes]:
    with tarfile.open(path, "r|") as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            yield file.read()


def _idx_files(path: Path) -> Iterator[bytes]:
    return (sample.data for sample in open_source(path) if isinstance(sample, RawSample))


class Resized:
    """The peer's work on one decoded image."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Image.Image) -> torch.Tensor:
        small = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def with_webp(image: Image.Image) -> list[bytes]:
    """The work of the peer that makes thumbnails."""
    made = []
    for side in THUMBNAIL_SIZES:
        small, sink = image.copy(), io.BytesIO()
        small.thumbnail((side, side))
        small.save(sink, "WEBP")
        made.append(sink.getvalue())
    return made


class Files(Dataset[Any]):
    """An archive's images by number: hash, size, and what `work` makes of each."""

    def __init__(self, path: Path, work: Callable[[Image.Image], Any]) -> None:
        self.path, self.work = path, work
        self.pixels: npt.NDArray[np.uint8] | None = None
        self.places: list[tuple[int, int]] = []
        if path.suffix == ".tar":
            with tarfile.open(path) as archive:
                self.places = [(member.offset_data, member.size) for member in archive.getmembers()]
        else:
            self.pixels = np.fromfile(path, np.uint8)[16:].reshape(-1, *GREY)

    def __len__(self) -> int:
        return len(self.places if self.pixels is None else self.pixels)

    def __getitem__(self, number: int) -> tuple[str, int, int, Any]:
        if self.pixels is None:
            offset, size = self.places[number]
            with self.path.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
            image = Image.open(io.BytesIO(data))
        else:
            data = self.pixels[number].tobytes()
            image = Image.fromarray(self.pixels[number])
        return hashlib.sha256(data).hexdigest(), image.width, image.height, self.work(image.convert("RGB"))


def _loaded(path: Path, work: Callable[[Image.Image], Any], count: int | None = None) -> None:
    files = Files(path, work)
    sampler = range(len(files) if count is None else count)
    for _ in DataLoader(files, batch_size=256, sampler=sampler, num_workers=os.cpu_count() or 1):
        pass


def _digits(count: int) -> npt.NDArray[np.uint8]:
    """(count, 28, 28): scikit-learn's digits enlarged, each moved and dimmed so that no two are equal."""
    from sklearn.datasets import load_digits

    random = np.random.default_rng(0)
    pixels = (load_digits().images * (255 / 16)).astype(np.uint8)
    large = np.stack([np.asarray(Image.fromarray(digit).resize(GREY, Image.Resampling.BICUBIC)) for digit in pixels])
    chosen = large[np.arange(count) % len(large)]
    moved = np.stack([np.roll(one, tuple(random.integers(-4, 5, 2)), (0, 1)) for one in chosen])
    dimmed: npt.NDArray[np.uint8] = (moved * random.uniform(0.5, 1, (count, 1, 1))).astype(np.uint8)
    return dimmed


def _crops(count: int, size: tuple[int, int]) -> Iterator[npt.NDArray[np.uint8]]:
    """Parts of scikit-learn's two photographs."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    photographs = load_sample_images().images
    for number in range(count):
        whole = photographs[number % 2]
        top, left = (int(random.integers(0, whole.shape[axis] - size[1 - axis])) for axis in (0, 1))
        yield whole[top : top + size[1], left : left + size[0]]


def _encoded(images: Iterable[npt.NDArray[np.uint8]], kind: str) -> Iterator[tuple[str, bytes]]:
    for number, pixels in enumerate(images):
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, kind, **({"quality": 90} if kind == "JPEG" else {}))
        yield f"images/{number:06}.{kind.lower()}", sink.getvalue()


def _tar(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _idx(path: Path, images: npt.NDArray[np.uint8]) -> Path:
    path.write_bytes(struct.pack(">4sIII", b"\0\0\x08\x03", *images.shape) + images.tobytes())
    return path


def _writer(folder: Path) -> Callable[[str, bytes], None]:
    def put(key: str, content: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return put
