"""What a training and the embedding after it see of each image, decoded once for both."""

import io
import json

import numpy as np

from tamis.encoders.spec import EncoderSpec
from tamis.ingest.shards import ShardRef
from tamis.progress import Progress
from trainer.data import Pixels, decode_shard
from worker.steps.ingest import Stored
from worker.steps.place import Place

# Kept are pixels of at most so many a side, 12 kB an image: they are a fraction of the files. Larger ones are not.
KEPT_UP_TO = 64


def decoded(place: Place, shard: ShardRef, spec: EncoderSpec, progress: Progress) -> tuple[list[str], Pixels]:
    """The ids and pixels of a shard's images, from where they are kept or else of the files; see `decode_shard`."""
    key = _key(shard, spec)
    if place.objects.exists(key):
        return _read(place, key)
    names, pixels = decode_shard(place.objects.get(shard.key), spec.image_size, progress)
    if spec.image_size <= KEPT_UP_TO:
        sink = io.BytesIO()
        np.savez(sink, names=np.array(json.dumps(names)), pixels=pixels)
        place.objects.put_if_absent(key, sink.getvalue())
    return names, pixels


def kept(place: Place, shard: ShardRef, spec: EncoderSpec) -> tuple[list[str], Pixels] | None:
    """The same where they are kept, for an encoder that is shown images as a training here is."""
    if (spec.resize, spec.interpolation) != (EncoderSpec.resize, EncoderSpec.interpolation):
        return None
    key = _key(shard, spec)
    return _read(place, key) if place.objects.exists(key) else None


def discard_pixels(place: Place, dataset: Stored, spec: EncoderSpec) -> None:
    """Frees them, once all are embedded."""
    for shard in dataset.shards:
        place.objects.delete(_key(shard, spec))


def _read(place: Place, key: str) -> tuple[list[str], Pixels]:
    with np.load(io.BytesIO(place.objects.get(key)), allow_pickle=False) as stored:
        return json.loads(str(stored["names"])), stored["pixels"]


def _key(shard: ShardRef, spec: EncoderSpec) -> str:
    return f"pixels/{spec.image_size}/{shard.name}.npz"
