"""How well scores find difficult samples, and flags difficult pairs: Tamis's beside others, over encoder seeds.

Two kinds of truth, neither of which any score sees: images that were mixed of two classes, and held-back labels of
clean images. Data: scikit-learn's digits, Debian's Fashion-MNIST, and emoji of four vendors as a colour set, from the
npm packages `emoji-datasource-{apple,facebook,google,twitter}` where they are installed in ./node_modules.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tamis
from benchmarks.measure import machine, seconds
from benchmarks.peers import PEERS, Study
from benchmarks.recorded import Recorder, recorded_losses
from benchmarks.scan import clustered
from tamis.commands.demo import FASHION_MNIST
from tamis.curation.blends import Blends, blend_score, draw_parents
from tamis.curation.difficulty import distinct_pairs
from tamis.encoders.inference import embed
from tamis.encoders.spec import EncoderSpec, to_pixels
from tamis.ingest.images import decode
from tamis.scan.rows import Rows
from tamis.sources import RawSample, open_source
from trainer.data import ImageSet
from trainer.recipe import Recipe
from trainer.simclr import train_simclr

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

SEEDS = 3
# Two thirds of what the simclr encoder is trained by default.
STEPS = 400
CONDITIONS = [(share, weight) for share in (0.1, 0.2) for weight in ("half", "random")]
VENDORS = ("apple", "facebook", "google", "twitter")
FLAGGED = 1000
# Fashion-MNIST's classes that people confuse, too: tops, and shoes.
CONFUSED = ({0, 2, 4, 6}, {5, 7, 9})
BAG = 8
Scores = dict[str, npt.NDArray[np.floating[Any]]]


def run(
    count: int = 3000, seeds: int = SEEDS, sets: tuple[str, ...] = ("digits", "fashion-mnist", "emoji")
) -> Iterator[tuple[str, Any]]:
    """Yields, for each set, the AUROC of each score as its mean and standard deviation over encoder seeds.

    count: images of each set at most.
    """
    yield "machine", machine()
    yield "recipe", {"images": count, "steps": STEPS, "seeds": seeds}
    for name in sets:
        loaded = SETS[name]()
        if loaded is None:
            yield name, "not installed"
            continue
        pixels, labels = _at_most(*loaded, count)
        for share, weight in CONDITIONS:
            yield f"{name}, {share:.0%} mixed, weight {weight}", _mixed(pixels, labels, share, weight, seeds)
        yield from _clean(name, pixels, labels, seeds)
    yield "cost", cost()


def cost(count: int = 60_000, dimension: int = 512) -> dict[str, float]:
    """Seconds of the plain pair scan, and of the default score that is computed beside it."""
    rows = Rows(clustered(count, dimension))
    first, second = draw_parents(count, 0)
    blends = Blends(first, second, clustered(len(first), dimension, seed=1))
    tamis.pair_scan(rows.array[:9000], 64)  # compiles
    scan = seconds(lambda: tamis.pair_scan(rows.array, 64), repeats=2)
    score = seconds(lambda: blend_score(rows, blends), repeats=2)
    return {"samples": count, "dimension": dimension, "scan": scan, "score": score, "ratio": (scan + score) / scan}


def _mixed(pixels: Pixels, labels: Labels, share: float, weight: str, seeds: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        images, mixed = mix(pixels, labels, share, weight, seed)
        for name, score in _scores(images, seed)[0].items():
            found.setdefault(name, []).append(float(roc_auc_score(mixed, score)))
    return {name: _spread(values) for name, values in found.items()}


def mix(pixels: Pixels, labels: Labels, share: float, weight: str, seed: int) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """The images with a share of them replaced by mixes with an image of another class; and which those are.

    weight: of an image in its mix, `half` or `random` within 0.3 to 0.7.
    """
    random = np.random.default_rng((seed, 77))
    chosen = np.sort(random.choice(len(pixels), round(share * len(pixels)), replace=False))
    mixed = np.zeros(len(pixels), bool)
    mixed[chosen] = True
    images = pixels.copy()
    for row in chosen:
        partner = random.choice(np.flatnonzero(labels != labels[row]))
        part = 0.5 if weight == "half" else random.uniform(0.3, 0.7)
        images[row] = np.round(part * pixels[row].astype(np.float64) + (1 - part) * pixels[partner])
    return images, mixed


def _clean(name: str, pixels: Pixels, labels: Labels, seeds: int) -> Iterator[tuple[str, Any]]:
    neighbour: dict[str, list[float]] = {}
    mistakes: dict[str, list[float]] = {}
    precision: dict[str, list[float]] = {}
    for seed in range(seeds):
        scores, study, curation = _scores(pixels, seed)
        unit = study.unit
        other = labels[tamis.pair_scan(unit, k=1).indices[:, 0]] != labels
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        wrong = cross_val_predict(probe, unit, labels, cv=5) != labels
        for title, score in scores.items():
            neighbour.setdefault(title, []).append(float(roc_auc_score(other, score)))
            mistakes.setdefault(title, []).append(float(roc_auc_score(wrong, score)))
        for title, (a, b) in _pairs(curation, unit, seed).items():
            cross = labels[a] != labels[b]
            precision.setdefault(title, []).append(float(cross.mean()))
            precision.setdefault(f"{title}, mean similarity", []).append(float((unit[a] * unit[b]).sum(1).mean()))
            if name == "fashion-mnist":
                confused = np.any([np.isin(labels[a], [*g]) & np.isin(labels[b], [*g]) for g in CONFUSED], axis=0)
                bags = (labels[a] == BAG) | (labels[b] == BAG)
                precision.setdefault(f"{title}, of these tops or shoes", []).append(float(confused[cross].mean()))
                precision.setdefault(f"{title}, of these with a bag", []).append(float(bags[cross].mean()))
    for title, found in (("neighbour of another class", neighbour), ("probe mistakes", mistakes), ("pairs", precision)):
        yield f"{name}, {title}", {key: _spread(values) for key, values in found.items()}


def _pairs(
    curation: tamis.Curation, unit: npt.NDArray[np.float32], seed: int
) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The first pairs that are flagged, the most similar ones of all, and random ones."""
    plain = tamis.pair_scan(unit, k=16)
    a, b, _ = distinct_pairs(plain.indices, plain.similarities)
    drawn = np.random.default_rng(seed).integers(len(unit), size=(2, FLAGGED))
    flagged = curation.pairs.slice(0, FLAGGED)
    return {
        "flagged": (flagged["a"].to_numpy(), flagged["b"].to_numpy()),
        "most similar": (a[:FLAGGED], b[:FLAGGED]),
        "random": (drawn[0], drawn[1]),
    }


def _scores(pixels: Pixels, seed: int) -> tuple[Scores, Study, tamis.Curation]:
    """Every score of every image, by an encoder that is trained on these images alone."""
    images = ImageSet(pixels, tuple(str(number) for number in range(len(pixels))))
    recipe = Recipe(seed=seed, steps=STEPS)
    with patch("trainer.simclr.InfoNCE", Recorder):
        encoder = train_simclr(images, EncoderSpec("small", pixels.shape[2]), recipe)
        loss, forgotten = recorded_losses(len(pixels), recipe)
    first, second = draw_parents(len(pixels), seed)
    blended = ((pixels[first].astype(np.uint16) + pixels[second] + 1) // 2).astype(np.uint8)
    features = embed(encoder, pixels)
    curation = tamis.curate(features, seed=seed, blends=Blends(first, second, embed(encoder, blended)))
    unit = Rows(features).unit(slice(0, len(features))).numpy()
    study = Study(unit, curation.cluster, curation.classes, loss, forgotten, seed)
    scores: Scores = {
        "Tamis: blends": curation.difficulty,
        "Tamis: blends of embeddings alone": blend_score(Rows(features), None, seed),
        "Tamis: band share": curation.recut(score="band").difficulty,
    }
    return {**scores, **{name: score(study) for name, score in PEERS.items()}}, study, curation


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": round(mean(values), 4), "sd": round(stdev(values), 4) if len(values) > 1 else 0.0}


def _at_most(pixels: Pixels, labels: Labels, count: int) -> tuple[Pixels, Labels]:
    chosen = np.sort(np.random.default_rng(0).permutation(len(pixels))[:count])
    return pixels[chosen], labels[chosen]


def _digits() -> tuple[Pixels, Labels]:
    digits = load_digits()
    grey = (digits.images * 255 / 16).round().astype(np.uint8)
    return np.stack([to_pixels(Image.fromarray(image).convert("RGB"), 16) for image in grey]), digits.target


def _fashion() -> tuple[Pixels, Labels] | None:
    file = FASHION_MNIST / "train-images-idx3-ubyte.gz"
    if not file.exists():
        return None
    pixels: list[Pixels] = []
    labels: list[int] = []
    for sample in open_source(file):
        if isinstance(sample, RawSample) and len(pixels) < 20_000:
            pixels.append(to_pixels(decode(sample.data), 24))
            labels.append(int(sample.label or 0))
    return np.stack(pixels), np.array(labels)


def _emoji() -> tuple[Pixels, Labels] | None:
    """24 x 24 pixels; the class is the category, of which there are nine."""
    packages = [Path("node_modules") / f"emoji-datasource-{vendor}" for vendor in VENDORS]
    if not all(package.is_dir() for package in packages):
        return None
    pixels: list[Pixels] = []
    labels: list[str] = []
    for package, vendor in zip(packages, VENDORS, strict=True):
        for entry in json.loads((package / "emoji.json").read_text()):
            file = package / "img" / vendor / "64" / entry["image"]
            if entry["category"] != "Component" and file.exists():
                pixels.append(to_pixels(decode(file.read_bytes()), 24))
                labels.append(entry["category"])
    return np.stack(pixels), np.unique(labels, return_inverse=True)[1]


SETS: dict[str, Callable[[], tuple[Pixels, Labels] | None]] = {
    "digits": _digits,
    "fashion-mnist": _fashion,
    "emoji": _emoji,
}
