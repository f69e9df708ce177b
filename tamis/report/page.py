"""The report as one HTML file: pictures, style and charts inside, nothing asked of any network."""

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from tamis.errors import InputError
from tamis.images import decode
from tamis.ingest.located import Find, finder
from tamis.manifest import Manifest
from tamis.report.findings import advice, findings
from tamis.report.histogram import draw
from tamis.report.labels import ASKED
from tamis.report.words import figure, number, share
from tamis.version import __version__

SIDE = 96
MOST_CLASSES = 200


def report(manifest: Manifest, title: str, *, images: str | Path | None = None, find: Find | None = None) -> str:
    """HTML of less than 5 MB, whatever the number of samples; equal inputs give equal reports.

    images: what the manifest was made of, where its URIs do not lead to the images. find: who has them instead. An
    image that is not found, or is not what it was, is a blank.
    """
    found = findings(manifest)
    numbers = found.pictured()
    shown = manifest.samples.take(numbers)
    names = shown["sample_id"].to_pylist()
    hashes = None if find else shown["sha256"].to_pylist()
    pictures = _pictures(names, find or finder(shown["uri"].to_pylist(), images)[0], hashes)
    told = manifest.description
    histogram, cut = told["histogram"], told["thresholds"]
    low, high = histogram["range"]
    bins = len(histogram["counts"])
    edges = [low + (high - low) * place / bins for place in range(bins + 1)]
    return _environment.get_template("report.html").render(
        title=title,
        version=__version__,
        told=told,
        found=found,
        chart=draw(edges, histogram["counts"], cut["sim_low"], cut["sim_high"]),
        pictures=dict(zip(numbers, pictures, strict=True)),
        names=dict(zip(numbers, names, strict=True)),
        samples=len(manifest.samples),
        total_pairs=sum(histogram["counts"]),
        advice=advice(told),
        most_classes=MOST_CLASSES,
        asked=ASKED,
    )


def _pictures(names: Sequence[str], find: Find, hashes: Sequence[str] | None) -> list[str | None]:
    """Each as a `data:` URI. hashes: of the files, where they may have changed."""
    pictures: list[str | None] = [None] * len(names)
    for row, data in find(names):
        if hashes is None or hashlib.sha256(data).hexdigest() == hashes[row]:
            pictures[row] = _thumbnail(data)
    return pictures


def _thumbnail(data: bytes) -> str | None:
    try:
        image = decode(data)
    except InputError:
        return None
    small = max(image.size) <= SIDE
    image.thumbnail((SIDE, SIDE))
    sink = io.BytesIO()
    image.save(sink, "png" if small else "webp", quality=80)
    return f"data:image/{'png' if small else 'webp'};base64,{base64.b64encode(sink.getvalue()).decode()}"


_environment = Environment(
    loader=PackageLoader("tamis.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"share": share, "figure": figure, "number": number}
