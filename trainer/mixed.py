"""Mixed images: images of two classes laid over each other, so difficult by making (Zhang et al. 2026, section 1).

The paper's check: they cost accuracy, and removing them gives it back. A score is worth what its removal gives back,
beside removal by chance and by knowledge of which are mixed."""

import csv
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from PIL import Image

from tamis.errors import InputError
from tamis.images import decode
from tamis.manifest import Manifest
from tamis.sources import Refused, open_source
from trainer.arms import Arm
from trainer.experiment import set_apart
from trainer.labelled import decoded
from trainer.verdicts import Rows, difference, told

MARK = "-mixed.png"
KEPT = Arm("kept")
REMOVED = (
    Arm("removed by score", "remove"),
    Arm("removed by chance", "remove", "random"),
    Arm("removed by knowledge", "known"),
)


def write_mixed(source: str | Path, folder: Path, share: float, *, apart: bool, seed: int = 0) -> None:
    """Writes the labelled images of a source to folder/train, a share of them mixed; and where `apart` says so, those
    that `set_apart` names to folder/test, as they are. Labels are in a metadata.csv. What is there already is left.

    A mixed image is the mean of its own and of another label's, which is not mixed; its name ends in `-mixed.png`.
    """
    if folder.is_dir():
        return
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    names, labels, hashes = _listed(source)
    tested = set_apart(names, labels, hashes) if apart else np.zeros(len(names), np.bool_)
    trained, random = np.flatnonzero(~tested), np.random.default_rng(seed)
    mixed = random.choice(trained, round(share * len(trained)), replace=False)
    partners = np.setdiff1d(trained, mixed)
    codes = np.unique(labels, return_inverse=True)[1]
    number = {name: row for row, name in enumerate(names)}
    sides, place = (partial / "train", partial / "test"), dict[int, Path]()
    for side in sides:
        side.mkdir(parents=True)
    for entry in open_source(source):
        if not isinstance(entry, Refused) and entry.sample_id in number:
            row = number[entry.sample_id]
            place[row] = sides[int(tested[row])] / f"{row:07}{PurePosixPath(entry.sample_id).suffix}"
            place[row].write_bytes(entry.data)
    for row in mixed.tolist():
        others = partners[codes[partners] != codes[row]]
        if len(others) == 0:
            raise InputError(f"{source} has no image of another label to mix.", "Mix a smaller share.")
        own, other = (decode(place[each].read_bytes()) for each in (row, int(random.choice(others))))
        place[row].unlink()
        place[row] = place[row].with_name(f"{row:07}{MARK}")
        Image.blend(own, other.resize(own.size), 0.5).save(place[row])
    for side in sides:
        with (side / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["file_name", "label"])
            table.writerows([path.name, labels[row]] for row, path in sorted(place.items()) if path.parent == side)
    partial.rename(folder)


def known(manifest: Manifest) -> Manifest:
    """The manifest that drops the mixed images, and no others."""
    names = manifest.samples["sample_id"].to_pylist()
    keep = pa.array([not name.endswith(MARK) for name in names])
    table = manifest.samples.set_column(manifest.samples.column_names.index("keep"), "keep", keep)
    weight = keep.cast(pa.float32())
    return replace(manifest, samples=table.set_column(table.column_names.index("weight"), "weight", weight))


def mixed_table(runs: Mapping[float, Rows]) -> list[str]:
    """Markdown, from the rows of each share's runs: differences from what no image was mixed in, paired by seed."""
    lines = [
        "## Mixed images",
        "",
        "A share of the images mixed half and half with one of another label; then all kept, or as many removed. "
        "Differences in points from training with none mixed, paired by seed, with 95% intervals:",
        "",
        "| mixed | arm | linear | 20-NN |",
        "|---|---|---|---|",
    ]
    for share, rows in runs.items():
        for arm in (KEPT, *REMOVED) if share else ():
            cells = [told(difference(rows, arm.name, runs[0.0], measure)) for measure in ("linear", "nearest")]
            lines.append(f"| {share:.0%} | {arm.name} | {' | '.join(cells)} |")
    return lines


def _listed(source: str | Path) -> tuple[list[str], list[str], list[str]]:
    """Names, labels and SHA-256 of the labelled images."""
    found = [
        (entry.sample_id, entry.label, hashlib.sha256(entry.data).hexdigest())
        for entry in open_source(source)
        if not isinstance(entry, Refused) and entry.label is not None and decoded(entry.data) is not None
    ]
    names, labels, hashes = (list(column) for column in zip(*found, strict=True))
    return names, labels, hashes
