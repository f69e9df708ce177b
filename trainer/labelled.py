"""Labelled images of a source, as an encoder sees them: what probes are trained and tested on."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tamis.encoders.encoder import Encoder
from tamis.encoders.inference import Embedder
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError
from tamis.images import decode
from tamis.progress import Progress, ignored
from tamis.sources import Refused, open_source
from trainer.probe import MIN_PER_LABEL, Labelled

BLOCK = 1024


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """pixels: (N, 3, S, S) uint8, as encoders of one spec see them. labels, sha256: N, as in `Labelled`."""

    pixels: npt.NDArray[np.uint8]
    labels: list[str | None]
    sha256: list[str]

    def embedded(self, embedder: Embedder) -> Labelled:
        return Labelled(embedder.of_pixels(self.pixels), self.labels, self.sha256)


def embed_source(
    encoder: Encoder, source: str | Path, device: str = "auto", progress: Progress = ignored
) -> tuple[Labelled, int]:
    """The images of a source, and how many of its files are none and were left out.

    progress(done, total) counts files; total is 0 where the source does not know. Raises InputError for what is no
    source, and when no image is left.
    """
    embedder = Embedder.of(encoder, device)
    blocks, skipped = _blocks(source, encoder.spec, progress)
    found = [block.embedded(embedder) for block in blocks]
    whole = Labelled(
        np.concatenate([block.features for block in found]),
        [label for block in found for label in block.labels],
        [digest for block in found for digest in block.sha256],
    )
    return whole, len(skipped)


def decode_source(source: str | Path, spec: EncoderSpec, folder: Path, progress: Progress = ignored) -> LabelledImages:
    """The images of a source, their pixels in a file of the folder that vanishes with them. Raises as `embed_source`.

    For many encoders of one spec: files are read and decoded once.
    """
    labels: list[str | None] = []
    sha256: list[str] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for block in _blocks(source, spec, progress)[0]:
            file.write(block.pixels.tobytes())
            labels += block.labels
            sha256 += block.sha256
        shape = (len(labels), 3, spec.image_size, spec.image_size)
        return LabelledImages(np.memmap(file, np.uint8, "r", shape=shape), labels, sha256)


def _blocks(source: str | Path, spec: EncoderSpec, progress: Progress) -> tuple[Iterator[LabelledImages], list[str]]:
    """Up to BLOCK images at a time; and, as far as they are taken, the names of the files that are none."""
    entries = open_source(source)
    skipped: list[str] = []

    def images() -> Iterator[tuple[npt.NDArray[np.uint8], str | None, str]]:
        done = 0
        for done, entry in enumerate(entries, 1):
            if isinstance(entry, Refused) or (image := decoded(entry.data)) is None:
                skipped.append(entry.name if isinstance(entry, Refused) else entry.sample_id)
            else:
                yield spec.pixels(image), entry.label, hashlib.sha256(entry.data).hexdigest()
            progress(done, entries.total or 0)
        if done == len(skipped):
            raise InputError(f"{source} holds no image that can be decoded.", "Give a folder or archive of images.")

    def blocks() -> Iterator[LabelledImages]:
        found = images()
        while block := list(islice(found, BLOCK)):
            pixels, labels, sha256 = zip(*block, strict=True)
            yield LabelledImages(np.stack(pixels), list(labels), list(sha256))

    return blocks(), skipped


def check_labels(source: str | Path, least: int = MIN_PER_LABEL, among: Set[str] | None = None) -> None:
    """Raises InputError for a source with fewer than two labels of so many files each; reads no further than it must.

    least: 5 to train a probe on, 1 to test it on. among: the labels that count; all without.
    """
    counts: Counter[str] = Counter()
    for entry in open_source(source):
        if not isinstance(entry, Refused) and entry.label is not None and (among is None or entry.label in among):
            counts[entry.label] += 1
            if sum(count >= least for count in counts.values()) >= 2:
                return
    which = "" if among is None else ", of those that the images to train on have,"
    raise InputError(
        f"{source} has no two labels{which} of {least} or more images each: encoders can only be judged with labels.",
        "Give labels by sub-folders or a file beside the images; docs/sources.md lists what is understood.",
    )


def decoded(data: bytes) -> Image.Image | None:
    """None for what is no image."""
    try:
        return decode(data)
    except InputError:
        return None
