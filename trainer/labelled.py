"""Labelled images of a source, as an encoder sees them: what probes are trained and tested on."""

import hashlib
from collections import Counter
from collections.abc import Set
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tamis.encoders.encoder import Encoder
from tamis.encoders.inference import Embedder
from tamis.errors import InputError
from tamis.ingest.images import decode
from tamis.progress import Progress
from tamis.sources import Refused, open_source
from trainer.probe import MIN_PER_LABEL, Labelled

EMBED_BLOCK = 1024


def embed_source(
    encoder: Encoder, source: str | Path, device: str = "auto", progress: Progress | None = None
) -> tuple[Labelled, int]:
    """The images of a source, and how many of its files are none and were left out.

    progress(done, total) counts files; total is 0 where the source does not know. Raises InputError for what is no
    source, and when no image is left.
    """
    embedder = Embedder.of(encoder, device)
    entries = open_source(source)
    features: list[npt.NDArray[np.float32]] = []
    labels: list[str | None] = []
    sha256: list[str] = []
    block: list[npt.NDArray[np.uint8]] = []
    skipped = 0
    for done, entry in enumerate(entries, 1):
        if isinstance(entry, Refused) or (image := decoded(entry.data)) is None:
            skipped += 1
        else:
            block.append(encoder.spec.pixels(image))
            labels.append(entry.label)
            sha256.append(hashlib.sha256(entry.data).hexdigest())
        if len(block) == EMBED_BLOCK:
            features.append(embedder.of_pixels(np.stack(block)))
            block.clear()
        if progress is not None:
            progress(done, entries.total or 0)
    if block:
        features.append(embedder.of_pixels(np.stack(block)))
    if not features:
        raise InputError(f"{source} holds no image that can be decoded.", "Give a folder or archive of images.")
    return Labelled(np.concatenate(features), labels, sha256), skipped


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
        "Give labels by sub-folders or a file beside the images; the README lists what is understood.",
    )


def decoded(data: bytes) -> Image.Image | None:
    """None for what is no image."""
    try:
        return decode(data)
    except InputError:
        return None
