"""The encoder of a data set, brought to its place among the objects: loaded, or trained on the images themselves."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from tamis.device import has_bf16, resolve_device
from tamis.encoders.encoder import Encoder, encoder_bytes, fingerprint, with_views
from tamis.encoders.files import load_encoder
from tamis.encoders.inference import Embedder
from tamis.encoders.loading import Read, load_named
from tamis.encoders.names import EncoderName, encoder_place
from tamis.encoders.spec import choose_spec
from tamis.progress import counted_from
from trainer.data import ImageSet
from trainer.recipe import Recipe
from trainer.training import train_encoder
from worker.steps.ingest import Stored, image_sizes, read_index
from worker.steps.pixels import decoded
from worker.steps.place import Objects, Place, Stage
from worker.steps.request import Request

# Where a step takes half a second; docs/detection.md was measured with as many.
STEPS_ON_CPU = 400


@dataclass(frozen=True)
class Loaded:
    """An encoder that shows each image in as many views as were asked for, and its fingerprint."""

    encoder: Encoder
    fingerprint: str


def store_loaded(place: Place, asked: EncoderName, read: Read, stage: Stage) -> str:
    """Loads what is named, and stores it; returns its key."""
    stage("load encoder", f"loading {asked.label}")
    encoder = load_named(asked, read, allow_torchscript=place.allow_torchscript)
    key = encoder_place(fingerprint(encoder))
    place.objects.put_if_absent(key, encoder_bytes(encoder))
    return key


def store_trained(place: Place, dataset: Stored, request: Request, checkpoint: str, stage: Stage) -> str:
    """Trains the `simclr` encoder on a data set's images, unless that was done; returns its key.

    checkpoint: the key under which an interrupted training is kept. The key of the encoder is determined by the images,
    the network, the length, the seed, the kind of device and the precision, which together determine its weights on one
    machine.
    """
    device = resolve_device(place.device_for(request.device))
    spec = choose_spec(
        *image_sizes(place, dataset), device=device.type, architecture=request.architecture, size=request.image_size
    )
    usual = STEPS_ON_CPU if device.type == "cpu" else Recipe.usual_steps
    recipe = Recipe(request.epochs, request.steps, usual, seed=request.seed)
    made_of = {
        "dataset": dataset.fingerprint,
        "spec": asdict(spec),
        "steps": recipe.steps_for(dataset.samples),
        "seed": request.seed,
        "device": device.type,
        "bf16": has_bf16(device),
    }
    key = encoder_place(hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest())
    if place.objects.exists(key):
        return key
    with place.scratch() as folder:
        decoding = stage("decode", "decoding images for training")
        count = dataset.samples
        shards = (decoded(place, each, spec, counted_from(each.first, count, decoding)) for each in dataset.shards)
        sha256 = read_index(place, dataset.index, ["sha256"])["sha256"].to_pylist()
        images = ImageSet.from_shards(shards, sha256, spec.image_size, folder)
        encoder = train_encoder(
            images,
            spec,
            recipe,
            device=str(device),
            checkpoint=place.checkpoint(checkpoint),
            progress=stage("train encoder", "training SimCLR on the images themselves"),
        )
    place.objects.put_if_absent(key, encoder_bytes(encoder))
    place.checkpoint(checkpoint).discard()
    return key


def loaded(place: Place, key: str, views: int) -> Loaded:
    return _loaded(place.objects, key, views, place.allow_torchscript)


def embedder(place: Place, key: str, request: Request) -> Embedder:
    """The encoder, ready on the device that was asked for."""
    return _embedder(place.objects, key, request.views, place.allow_torchscript, place.device_for(request.device))


# What a key names never changes, so one shard after another uses what is loaded.
@lru_cache(maxsize=2)
def _loaded(objects: Objects, key: str, views: int, allow_torchscript: bool) -> Loaded:
    encoder = with_views(load_encoder(objects.get(key), allow_torchscript=allow_torchscript), views)
    return Loaded(encoder, fingerprint(encoder))


@lru_cache(maxsize=1)
def _embedder(objects: Objects, key: str, views: int, allow_torchscript: bool, device: str) -> Embedder:
    return Embedder.of(_loaded(objects, key, views, allow_torchscript).encoder, device)


def describe_encoder(place: Place, name: str, key: str, views: int) -> dict[str, Any]:
    """What manifests say of an encoder. name: its label."""
    found = loaded(place, key, views)
    return {
        "encoder": name,
        "encoder_fingerprint": found.fingerprint,
        "dimension": found.encoder.dimension,
        "architecture": found.encoder.spec.architecture,
        "image_size": found.encoder.spec.image_size,
        **({"trained": found.encoder.trained} if found.encoder.trained else {}),
    }
