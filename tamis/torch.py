"""A manifest in a training loop of one's own: its kept images, drawn by weight, and which pairs of a batch to treat."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset, Sampler

from tamis.batches.flags import Curated, InBatch, Listed, curated_flags
from tamis.batches.passes import drawable, one_pass
from tamis.errors import InputError
from tamis.images import decode
from tamis.ingest.linked import file_of
from tamis.ingest.located import complain, finder
from tamis.losses import PerPair
from tamis.manifest import Manifest, read_manifest


class ManifestDataset(Dataset[tuple[Any, ...]]):
    """The images that a manifest keeps. An item is its row, which `flags` takes, and its views.

    manifest: what `tamis.read_manifest` reads, or returned. transform: from an RGB `PIL.Image` to what the network
        takes; it is called for each of the `views` anew.
    images: the folder, archive or s3:// address that the manifest was made of, where its URIs do not lead to the
        images, such as after a download from a server. Files are read when they are asked for; what lies in archives
        or buckets is read once, here, into a file of TMPDIR that vanishes with this object.
    samples: the kept rows of samples.parquet, in their order: the label, weight and difficulty of each item.

    Raises InputError for what is no manifest, for one that keeps no sample, and names the images that are missing.
    """

    def __init__(
        self,
        manifest: str | Path | Manifest,
        transform: Callable[[Image.Image], Any],
        *,
        views: int = 2,
        images: str | Path | None = None,
    ) -> None:
        whole = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
        keep = whole.samples["keep"].to_numpy()
        if not keep.any():
            raise InputError("The manifest keeps no sample.", "Make one with a smaller --fraction.")
        features = None if whole.features is None else whole.features[keep]
        kept = replace(whole, samples=whole.samples.filter(keep), features=features)
        self.samples = kept.samples
        self._flags = curated_flags(kept)
        self._transform, self._views = transform, views
        self._names, uris, self._sha256 = (kept.samples[name].to_pylist() for name in ("sample_id", "uri", "sha256"))
        self._files = {row: path for row in range(len(uris)) if (path := _file(self._names[row], uris[row], images))}
        self._held, self._parts = _held(self._names, uris, images, self._files)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        """Raises InputError for an image that has changed."""
        file = self._files.get(row)
        data = self._held[self._parts[row]].tobytes() if file is None else file.read_bytes()
        if hashlib.sha256(data).hexdigest() != self._sha256[row]:
            complain(self._names, [], [row], "Curate what is there now.")
        image = decode(data)
        return row, *(self._transform(image) for _ in range(self._views))

    def flags(
        self, rows: torch.Tensor, device: torch.device | str = "cpu"
    ) -> tuple[torch.Tensor | None, PerPair, PerPair]:
        """What a loss of `tamis.losses` takes after the views of a batch: which of its pairs are difficult, (B, B)
        bool on the device, their margin and their temperature factor; None, 0 and 1 of a manifest that treats no pair.

        rows: (B,) int64, of the batch's items.
        """
        if self._flags is None:
            return None, 0.0, 1.0
        return _on(self._flags, torch.device(device))(rows.to(device), torch.empty(0))


class ManifestSampler(Sampler[int]):
    """Passes over a dataset's items: as many draws as there are items, each item about as often as its weight says, and
    exactly once where all weigh alike. Every iteration is the next pass.

    Raises InputError for weights that are negative or not finite.
    """

    def __init__(self, dataset: ManifestDataset, seed: int = 0) -> None:
        self._rows, self._weights = drawable(len(dataset), None, dataset.samples["weight"].to_numpy())
        self._seed, self._passes = seed, 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        order = one_pass(self._rows, self._weights, self._seed, self._passes)
        self._passes += 1
        return iter(order.tolist())


@lru_cache(4)
def _on(flags: Curated | Listed, device: torch.device) -> InBatch:
    """Beside the dataset, which goes to the loader's processes and could not take this along."""
    return flags.on(device)


def _file(name: str, uri: str, images: str | Path | None) -> Path | None:
    """The file that an image is; None where it lies in another one, or nowhere."""
    path = file_of(uri) if images is None else Path(images) / name
    return path if path is not None and path.is_file() else None


def _held(
    names: Sequence[str], uris: Sequence[str], images: str | Path | None, files: Mapping[int, Path]
) -> tuple[npt.NDArray[np.uint8], dict[int, slice]]:
    """The bytes of the images that are no files, and where among them each is."""
    rows = [row for row in range(len(names)) if row not in files]
    if not rows:
        return np.empty(0, np.uint8), {}
    find, hint = finder([uris[row] for row in rows], images)
    parts: dict[int, slice] = {}
    with tempfile.TemporaryFile() as file:
        for place, data in find([names[row] for row in rows]):
            parts[rows[place]] = slice(file.tell(), file.tell() + file.write(data))
        complain(names, [row for row in rows if row not in parts], [], hint)
        file.flush()
        return np.memmap(file, np.uint8, "r"), parts
