"""The embed stage of a curation: the encoder is loaded, or trained on the data set itself; then its shards fan out
over the gpu queue. Encoder, features and embeddings are objects keyed by what they were made of: none is made twice."""

import hashlib
import io
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sqlalchemy as sa
from dbos import DBOS, SetWorkflowID

from tamis.curation.blends import Blends, draw_parents
from tamis.curation.blends import embed_blends as blend_images
from tamis.curation.curation import npy_bytes
from tamis.encoders.encoder import Encoder, encoder_bytes, fingerprint, with_views
from tamis.encoders.files import load_encoder
from tamis.encoders.inference import Embedder
from tamis.encoders.loading import load_named
from tamis.encoders.names import EncoderName, encoder_place, parse_encoder
from tamis.encoders.spec import choose_spec
from tamis.ingest.shards import ShardRef, pick_images, read_shard
from tamis.store.checkpoints import checkpoint_key
from tamis.store.jobs import workflow_id
from tamis.store.schema import Curation, Embedding, Shard, new_id
from trainer.data import ImageSet
from trainer.run import train_encoder
from worker.durable.runtime import StoredCheckpoint, fields, reporter, runtime, step


def embed_dataset(curation_id: str) -> str:
    """Part of the curation workflow: returns the id of the embedding that the curation asks for, made if need be."""
    known = find_embedding(curation_id, None)
    if known is not None:
        return known
    encoder_key = _child("encoder", curation_id, "", make_encoder, curation_id).get_result()
    known = find_embedding(curation_id, encoder_key)
    if known is not None:
        return known
    ordinals = list_shards(curation_id)
    handles = [_child("features", curation_id, str(n), embed_shard, curation_id, encoder_key, n) for n in ordinals]
    return join_features(curation_id, encoder_key, [handle.get_result() for handle in handles])


def _child(kind: str, curation_id: str, part: str, workflow: Any, *arguments: Any) -> Any:
    with SetWorkflowID(workflow_id(kind, curation_id, part)):
        return DBOS.enqueue_workflow("gpu", workflow, *arguments)


@step
def find_embedding(curation_id: str, encoder_key: str | None) -> str | None:
    """The embedding that the curation can use as it is: one the user brought, or one made for an earlier curation.

    encoder_key: of the curation's encoder, None where it is not known before it is made.
    """
    with runtime().catalog.session() as session:
        row = session.get_one(Curation, curation_id)
        if row.embedding_id is not None:
            return row.embedding_id
        key = encoder_key or _recipe_key(row)
        dataset_id, views = row.dataset_id, row.parameters["views"]
    if key is None or not runtime().objects.exists(key):
        return None
    made = sa.select(Embedding.id).where(
        Embedding.dataset_id == dataset_id, Embedding.encoder_fingerprint == _loaded(key, views).fingerprint
    )
    with runtime().catalog.session() as session:
        return session.scalar(made)


def _recipe_key(row: Curation) -> str | None:
    """The place of an encoder that is trained on the data, known before it is: the images and the recipe determine it.

    None for other encoders, whose place is their fingerprint.
    """
    if row.parameters["encoder"] != "simclr":
        return None
    recipe = {name: row.parameters[name] for name in ("encoder", "epochs", "seed")}
    content = json.dumps({"dataset": row.dataset.fingerprint, **recipe}, sort_keys=True)
    return f"encoders/{hashlib.sha256(content.encode()).hexdigest()}.pt"


@step
def list_shards(curation_id: str) -> list[int]:
    with runtime().catalog.session() as session:
        dataset_id = session.get_one(Curation, curation_id).dataset_id
        ordinals = sa.select(Shard.ordinal).where(Shard.dataset_id == dataset_id).order_by(Shard.ordinal)
        return list(session.scalars(ordinals))


@DBOS.workflow(name="encoder")
def make_encoder(curation_id: str) -> str:
    return load_or_train(curation_id)


@step
def load_or_train(curation_id: str) -> str:
    """Brings the encoder to its place among the objects, where every worker finds it."""
    with runtime().catalog.session() as session:
        asked = parse_encoder(session.get_one(Curation, curation_id).parameters["encoder"], server=True)
    return _load_and_store(curation_id, asked) if asked.loads else _train_and_store(curation_id)


def _load_and_store(curation_id: str, asked: EncoderName) -> str:
    objects, allowed = runtime().objects, runtime().settings.allow_torchscript
    reporter(Curation, curation_id, "load encoder", f"loading {asked.label}")
    encoder = load_named(asked, lambda sent: objects.get(encoder_place(sent)), allow_torchscript=allowed)
    key = encoder_place(fingerprint(encoder))
    objects.put_if_absent(key, encoder_bytes(encoder))
    return key


def _train_and_store(curation_id: str) -> str:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Curation, curation_id)
        key, parameters = _recipe_key(row), dict(row.parameters)
        index_key, count = row.dataset.index_key, row.dataset.samples
        shard_keys = session.scalars(
            sa.select(Shard.key).where(Shard.dataset_id == row.dataset_id).order_by(Shard.ordinal)
        ).all()
    assert key is not None
    assert index_key is not None
    if run.objects.exists(key):
        return key
    spec = choose_spec(*run.image_sizes(index_key))
    checkpoint = StoredCheckpoint(run.objects, checkpoint_key(workflow_id("encoder", curation_id), "pt"))
    decoding = reporter(Curation, curation_id, "decode", "decoding images for training")
    with run.scratch() as folder:
        shards = (run.objects.get(shard) for shard in shard_keys)
        images = ImageSet.from_shards(shards, count, spec.image_size, folder, progress=decoding)
        encoder = train_encoder(
            images,
            spec,
            epochs=parameters["epochs"],
            seed=parameters["seed"],
            device=run.settings.device,
            checkpoint=checkpoint,
            progress=reporter(Curation, curation_id, "train encoder", "training SimCLR on the images themselves"),
        )
    run.objects.put_if_absent(key, encoder_bytes(encoder))
    checkpoint.discard()
    return key


@DBOS.workflow(name="features")
def embed_shard(curation_id: str, encoder_key: str, ordinal: int) -> str:
    return embed_and_store(curation_id, encoder_key, ordinal)


@step
def embed_and_store(curation_id: str, encoder_key: str, ordinal: int) -> str:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Curation, curation_id)
        views, total = row.parameters["views"], row.dataset.samples
        shard = fields(session.get_one(Shard, (row.dataset_id, ordinal)), "key", "first")
    name = shard["key"].rsplit("/", 1)[1].removesuffix(".parquet")
    key = f"features/{_loaded(encoder_key, views).fingerprint}/{name}.npy"
    if not run.objects.exists(key):
        # Also how a cancelled curation ends here instead of embedding on.
        first = shard["first"]
        report = reporter(Curation, curation_id, "embed", "embedding images", done=first, total=total)
        images = read_shard(run.objects.get(shard["key"]))
        features = _embedder(encoder_key, views).of_images(
            images["data"].to_pylist(),
            images["sample_id"].to_pylist(),
            progress=lambda done, _: report(first + done, total),
        )
        run.objects.put_if_absent(key, npy_bytes(features))
    return key


@dataclass(frozen=True)
class _Loaded:
    encoder: Encoder
    fingerprint: str


@lru_cache(maxsize=2)
def _loaded(encoder_key: str, views: int) -> _Loaded:
    """What the key names never changes, so one shard after another uses what is loaded."""
    run = runtime()
    stored = load_encoder(run.objects.get(encoder_key), allow_torchscript=run.settings.allow_torchscript)
    encoder = with_views(stored, views)
    return _Loaded(encoder, fingerprint(encoder))


@lru_cache(maxsize=1)
def _embedder(encoder_key: str, views: int) -> Embedder:
    return Embedder.of(_loaded(encoder_key, views).encoder, runtime().settings.device)


def embed_blends(curation_id: str, embedding_id: str) -> str | None:
    """Part of the curation workflow: the key of the embedded blends, None where the encoder is not known."""
    encoder_key = encoder_of(embedding_id)
    if encoder_key is None:
        return None
    key: str = _child("blends", curation_id, "", make_blends, curation_id, encoder_key).get_result()
    return key


@step
def encoder_of(embedding_id: str) -> str | None:
    with runtime().catalog.session() as session:
        return session.get_one(Embedding, embedding_id).encoder_key


@DBOS.workflow(name="blends")
def make_blends(curation_id: str, encoder_key: str) -> str:
    return blend_and_store(curation_id, encoder_key)


@step
def blend_and_store(curation_id: str, encoder_key: str) -> str:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Curation, curation_id)
        views, seed = row.parameters["views"], row.parameters["seed"]
        count, dataset = row.dataset.samples, row.dataset.fingerprint
        stored = session.scalars(sa.select(Shard).where(Shard.dataset_id == row.dataset_id).order_by(Shard.ordinal))
        shards = [ShardRef(shard.key, shard.thumbnails_key, shard.first, shard.count) for shard in stored]
    key = f"blends/{_loaded(encoder_key, views).fingerprint}/{dataset}-{seed}.npy"
    if not run.objects.exists(key):
        reporter(Curation, curation_id, "embed", "embedding blends of images")
        blends = blend_images(
            count, seed, lambda rows: pick_images(shards, run.objects.get, rows), _embedder(encoder_key, views)
        )
        run.objects.put_if_absent(key, npy_bytes(np.asarray(blends.embeddings)))
    return key


def load_blends(key: str, count: int, seed: int) -> Blends:
    """What `embed_blends` stored for a data set of `count` samples; which samples it blended follows from the seed."""
    return Blends(*draw_parents(count, seed), np.load(io.BytesIO(runtime().objects.get(key))))


@step
def join_features(curation_id: str, encoder_key: str, keys: list[str]) -> str:
    """One array of all shards' features, and the catalogue row that stands for it."""
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Curation, curation_id)
        dataset_id, parameters, count = row.dataset_id, row.parameters, row.dataset.samples
    loaded = _loaded(encoder_key, parameters["views"])
    dimension = loaded.encoder.dimension
    with run.scratch() as folder:
        path = folder / "embeddings.npy"
        joined = np.lib.format.open_memmap(path, "w+", np.float32, (count, dimension))
        start = 0
        for key in keys:
            part = np.load(io.BytesIO(run.objects.get(key)))
            joined[start : start + len(part)] = part
            start += len(part)
        joined.flush()
        with path.open("rb") as file:
            stored = f"embeddings/{hashlib.file_digest(file, 'sha256').hexdigest()}.npy"
        if not run.objects.exists(stored):
            run.objects.put(stored, path)
    label = parse_encoder(parameters["encoder"], server=True).label
    return _publish(dataset_id, label, loaded.fingerprint, encoder_key, dimension, count, stored)


def _publish(
    dataset_id: str, name: str, encoder_fingerprint: str, encoder_key: str, dimension: int, count: int, key: str
) -> str:
    known = sa.select(Embedding.id).where(
        Embedding.dataset_id == dataset_id, Embedding.encoder_fingerprint == encoder_fingerprint
    )
    row = Embedding(
        id=new_id("em"),
        dataset_id=dataset_id,
        encoder=name,
        encoder_fingerprint=encoder_fingerprint,
        encoder_key=encoder_key,
        dimension=dimension,
        count=count,
        key=key,
    )
    try:
        with runtime().catalog.session() as session:
            found = session.scalar(known)
            if found is None:
                session.add(row)
            return found or row.id
    except sa.exc.IntegrityError:
        # Another curation of the same images embedded them at the same moment.
        with runtime().catalog.session() as session:
            return session.scalars(known).one()
