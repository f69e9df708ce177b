"""From images to one array of embeddings, a shard at a time; and the embedded blends beside it."""

import io

import numpy as np

from tamis.arrays import write_npy
from tamis.curation.blends import Blends, blend_images, draw_parents
from tamis.encoders.spec import EncoderSpec
from tamis.ingest.shards import ShardRef, pick_images, read_shard
from tamis.manifest import npy_bytes
from tamis.progress import Progress, counted_from
from worker.steps.encoder import embedder, loaded
from worker.steps.ingest import Stored
from worker.steps.pixels import discard_pixels, kept
from worker.steps.place import Place
from worker.steps.request import Request


def embed_shard(place: Place, encoder: str, request: Request, shard: ShardRef, total: int, progress: Progress) -> str:
    """Embeds a shard's images, unless that was done; returns the key of the features.

    progress: counts images of all shards, `total`.
    """
    found = loaded(place, encoder, request.views)
    key = f"features/{found.fingerprint}/{shard.name}.npy"
    if not place.objects.exists(key):
        ready, onward = embedder(place, encoder, request), counted_from(shard.first, total, progress)
        known = kept(place, shard, found.encoder.spec)
        if known is not None:
            features = ready.of_pixels(known[1], known[0], onward)
        else:
            images = read_shard(place.objects.get(shard.key))
            features = ready.of_images(images["data"].to_pylist(), images["sample_id"].to_pylist(), onward)
        place.objects.put_if_absent(key, npy_bytes(features))
    progress(shard.first + shard.count, total)
    return key


def join_features(place: Place, features: list[str], dataset: Stored, spec: EncoderSpec, dimension: int) -> str:
    """One array, (N, dimension) float32, of all shards' features; returns its key. spec: of the encoder."""
    with place.scratch() as folder:
        path = folder / "embeddings.npy"
        parts = (np.load(io.BytesIO(place.objects.get(key))) for key in features)
        write_npy(path, np.float32, (dataset.samples, dimension), parts)
        key = place.put_file("embeddings", path)
    discard_pixels(place, dataset, spec)
    return key


def embed_blends(place: Place, encoder: str, request: Request, dataset: Stored) -> str:
    """Blends images of a data set and embeds them, unless that was done; returns the key of their embeddings."""
    key = f"blends/{loaded(place, encoder, request.views).fingerprint}/{dataset.fingerprint}-{request.seed}.npy"
    if not place.objects.exists(key):
        images = blend_images(
            dataset.samples,
            request.seed,
            lambda rows: pick_images(dataset.shards, place.objects.get, rows),
            embedder(place, encoder, request),
        )
        place.objects.put_if_absent(key, npy_bytes(np.asarray(images.embeddings)))
    return key


def load_blends(place: Place, key: str, count: int, seed: int) -> Blends:
    """What `embed_blends` stored for a data set of `count` samples; which samples it blended follows from the seed."""
    return Blends(*draw_parents(count, seed), np.load(io.BytesIO(place.objects.get(key))))
