"""Images of which some are mixed of two classes, and an encoder that is trained on images alone: what scores are
judged by."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tamis
from benchmarks.image_sets import Labels, Pixels
from tamis.curation.blends import Blends, draw_parents
from tamis.encoders.encoder import Encoder
from tamis.encoders.inference import embed
from tamis.encoders.spec import EncoderSpec
from tamis.progress import Progress
from trainer.data import ImageSet
from trainer.recipe import Recipe
from trainer.training import train_encoder

# The share of images that are replaced, and how the image's weight in its mix is chosen.
CONDITIONS = [(share, weight) for share in (0.1, 0.2) for weight in ("half", "random")]


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


def train(pixels: Pixels, recipe: Recipe, steps: int, progress: Progress | None = None) -> Encoder:
    """The small network, trained on these images and no others."""
    images = ImageSet(pixels, tuple(str(number) for number in range(len(pixels))))
    return train_encoder(images, EncoderSpec("small", pixels.shape[2]), replace(recipe, steps=steps), progress=progress)


def embedded_blends(encoder: Encoder, pixels: Pixels, seed: int) -> Blends:
    """The blends that the default score looks for samples near to."""
    first, second = draw_parents(len(pixels), seed)
    blended = ((pixels[first].astype(np.uint16) + pixels[second] + 1) // 2).astype(np.uint8)
    return Blends(first, second, embed(encoder, blended))


def mistakes(unit: npt.NDArray[np.float32], labels: Labels) -> dict[str, npt.NDArray[np.bool_]]:
    """(N,) each, of clean images' unit features: whose nearest neighbour is of another class, and whom a$
    cross-validated linear probe gets wrong."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return {
        "neighbour of another class": labels[tamis.pair_scan(unit, k=1).indices[:, 0]] != labels,
        "probe mistakes": cross_val_predict(probe, unit, labels, cv=5) != labels,
    }
