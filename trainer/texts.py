"""What images are learnt against where each has a text: embeddings of the texts, which a user brings."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from tamis.encoders.brought import in_order, load_embeddings
from tamis.errors import InputError
from tamis.manifest import Manifest, usable

Texts: TypeAlias = npt.NDArray[np.float32]

NAMED = 5


def read_texts(path: Path, manifest: Manifest) -> Texts:
    """(N, d) float32, of `usable(manifest)` in that order, from .npy or Parquet: see `load_embeddings` and `in_order`.

    Raises InputError as these do, and for rows that are not finite, or zero.
    """
    names = usable(manifest)["sample_id"].to_pylist()
    left_out = manifest.samples.filter(pc.equal(manifest.samples["reason"], "undecodable"))["sample_id"]
    rows = in_order(load_embeddings(path), len(names), lambda: names, left_out.to_pylist, str(path))
    with np.errstate(over="ignore"):
        texts = np.ascontiguousarray(rows, np.float32)
    for what, wrong in (
        ("are not finite", ~np.isfinite(texts).all(1)),
        ("are zero, and have no direction", ~texts.any(1)),
    ):
        found = [names[row] for row in np.flatnonzero(wrong)]
        if found:
            told = f"{', '.join(found[:NAMED])}{', ...' if len(found) > NAMED else ''}"
            raise InputError(f"In {path}, the texts of {len(found):,} samples {what}: {told}.", "Embed these again.")
    return texts
