"""`tamis demo`: the main job end to end on real images, over HTTP, against a server it starts for itself."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tamis.commands.groups import TRAINING, WHAT
from tamis.commands.options import Quiet, Result, number
from tamis.commands.ready import check_out
from tamis.commands.terminal import Step, following, steps
from tamis.errors import InputError, TamisError

if TYPE_CHECKING:
    import subprocess

DATASETS = ("digits", "fashion-mnist")
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_SUBSET = 4000
START_SECONDS = 60.0


def demo(
    *,
    dataset: Annotated[
        str,
        Parameter(help="digits, fashion-mnist, or images as for `tamis curate`.", metavar="NAME|SOURCE", group=WHAT),
    ] = "digits",
    out: Annotated[
        Path, Parameter(name=["--out", "-o"], help="Folder of images, data and results.", metavar="DIR", group=WHAT)
    ] = Path("demo-out"),
    epochs: Annotated[
        int | None, Parameter(help="Length of each training.", metavar="E", validator=number(1), group=TRAINING)
    ] = None,
    quiet: Quiet = False,
) -> Result:
    if dataset not in DATASETS and not Path(dataset).exists():
        raise InputError(f"There is no {dataset}.", "Use digits, fashion-mnist or the path of a folder or archive.")
    check_out(out)
    plan = f"Demo on {dataset}: serve, upload, curate, make a manifest, train on it and without; all goes to {out}."
    kept = f"{out} may be removed; typed again, the demo begins anew."
    with steps(plan, quiet=quiet, kept=kept) as step:
        found = run_demo(dataset, out, step, epochs)
    print(describe(found))
    return found


def run_demo(dataset: str, out: Path, step: Step, epochs: int | None = None) -> dict[str, Any]:
    """Runs the demo and returns its findings; `describe` words them.

    dataset: `digits` (scikit-learn's, written out as PNG files), `fashion-mnist` (Debian's package, a subset), or a
        folder or archive of images.
    out: folder for images, server data, manifest and results.
    """
    from tamis.client.client import Client
    from tamis.manifest import read_manifest

    out.mkdir(parents=True, exist_ok=True)
    source, name = _images(dataset, out, step("write images"))
    with _server(out) as address, Client(address) as client:
        uploaded = client.upload(source, name, progress=step("upload"))
        stored = client.wait(f"/datasets/{uploaded['id']}", following(step, "ingest"))
        asked = client.curate(stored["id"], **_given(epochs=epochs))
        curation = client.wait(f"/curations/{asked['id']}", following(step, "curate"))
        made = client.make_manifest(curation["id"])
        folder = client.download(client.wait(f"/manifests/{made['id']}")["id"], out / "manifest")
        arms = {"baseline": {"baseline": True}, "curated": {}}
        trainings = {arm: client.train(made["id"], **given, **_given(epochs=epochs)) for arm, given in arms.items()}
        ended = {
            arm: client.wait(f"/trainings/{training['id']}", following(_named(step, arm), "train"))
            for arm, training in trainings.items()
        }
    description = read_manifest(folder).description
    return {
        "dataset": name,
        "samples": stored["samples"],
        "quarantined": stored["quarantined"],
        "classes": curation["result"]["classes"],
        "thresholds": curation["result"]["thresholds"],
        "counted_pairs": curation["result"]["counted_pairs"],
        "total_pairs": curation["result"]["total_pairs"],
        "listed_pairs": curation["result"]["pairs"],
        "kept": description["counts"]["kept"],
        "probes": {arm: row["result"]["probe"] for arm, row in ended.items()},
        "manifest": str(folder.resolve()),
    }


def describe(found: dict[str, Any]) -> str:
    """The findings in a few lines of text."""
    cut = found["thresholds"]
    lines = [
        f"{found['dataset']}: {found['samples']} images stored, {found['quarantined']} in quarantine",
        f"estimated classes (r + 1): {found['classes']}",
        f"band: similarity {cut['sim_low']:.3f} to {cut['sim_high']:.3f} "
        f"(pos_high {cut['pos_high']:.3g}, pos_low {cut['pos_low']:.3g})",
        f"pairs in the band: {found['counted_pairs']:,} of {found['total_pairs']:,}; "
        f"the {found['listed_pairs']:,} most similar are listed",
        f"kept: {found['kept']} of {found['samples']} images",
    ]
    lines += [
        f"linear probe, {arm}: {probe['accuracy']:.1%} (95% interval {probe['low']:.1%} to {probe['high']:.1%}, "
        f"{probe['test']} held-out images)"
        for arm, probe in found["probes"].items()
        if probe is not None
    ]
    lines += [
        "One seed each: the difference between the two proves nothing.",
        f"manifest: {found['manifest']}",
    ]
    return "\n".join(lines)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _named(step: Any, arm: str) -> Any:
    return lambda title: step(f"{arm}: {title}")


def _images(dataset: str, out: Path, progress: Any) -> tuple[Path, str]:
    if dataset == "digits":
        return _write(out / "images" / "digits", _digits(), progress), "digits"
    if dataset == "fashion-mnist":
        return _write(out / "images" / "fashion-mnist", _fashion_mnist(), progress), "fashion-mnist"
    path = Path(dataset)
    return path, path.resolve().name


def _write(folder: Path, images: list[tuple[str, bytes]], progress: Any) -> Path:
    for done, (name, content) in enumerate(images, 1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        progress(done, len(images))
    return folder


def _digits() -> list[tuple[str, bytes]]:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels of 17 grey levels, one folder a label."""
    import io

    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = []
    for place, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        sink = io.BytesIO()
        Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(sink, "png")
        images.append((f"{label}/{place:04}.png", sink.getvalue()))
    return images


def _fashion_mnist() -> list[tuple[str, bytes]]:
    from itertools import islice

    from tamis.sources import RawSample, open_source

    file = FASHION_MNIST / "train-images-idx3-ubyte.gz"
    if not file.is_file():
        raise InputError(
            f"{file} does not exist.",
            "Install Debian's package dataset-fashion-mnist, or name a folder with --dataset PATH.",
        )
    samples = (entry for entry in open_source(file) if isinstance(entry, RawSample))
    return [(f"{entry.label}/{Path(entry.sample_id).name}", entry.data) for entry in islice(samples, FASHION_SUBSET)]


@contextmanager
def _server(out: Path) -> Iterator[str]:
    """A server of our own on a free loopback port; yields its address."""
    import subprocess

    log = out / "server.log"
    command = [sys.executable, "-m", "tamis.commands.cli", "serve", "--port", "0", "--data", str(out / "data")]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"Tamis serves (\S+),", log.read_text())
        if found:
            return found.group(1)
        time.sleep(0.1)
    raise TamisError(f"The server did not start; {log} says why.")
