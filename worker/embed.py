"""The embed stage of a curation: the encoder is trained on the data set itself, then its shards fan out over the gpu
queue. Encoder, features and embeddings are objects keyed by what they were made of, so none is ever made twice."""

import hashlib
import io
import json
from typing import Any

import numpy as np
import sqlalchemy as sa
from dbos import DBOS, SetWorkflowID

from tamis.curation import npy_bytes
from tamis.encoders import choose_spec, embed, encoder_bytes, fingerprint, load_encoder, to_pixels
from tamis.images import decode
from tamis.shards import read_shard
from tamis.store.jobs import workflow_id
from tamis.store.schema import Curation, Embedding, Shard, new_id
from trainer.data import ImageSet
from trainer.run import train_encoder
from worker.runtime import StoredCheckpoint, reporter, runtime, step


def embed_dataset(curation_id: str) -> str:
    """Part of the curation workflow: returns the id of the embedding that the curation asks for, made if need be."""
    known = find_embedding(curation_id)
    if known is not None:
        return known
    encoder_key = _child("encoder", curation_id, "", train_on_data, curation_id).get_result()
    ordinals = list_shards(curation_id)
    handles = [_child("features", curation_id, str(n), embed_shard, curation_id, encoder_key, n) for n in ordinals]
    return join_features(curation_id, encoder_key, [handle.get_result() for handle in handles])


def _child(kind: str, curation_id: str, part: str, workflow: Any, *arguments: Any) -> Any:
    with SetWorkflowID(workflow_id(kind, curation_id, part)):
        return DBOS.enqueue_workflow("gpu", workflow, *arguments)


@step
def find_embedding(curation_id: str) -> str | None:
    """The embedding that the curation can use as it is: one the user brought, or one made for an earlier curation."""
    with runtime().catalog.session() as session:
        row = session.get_one(Curation, curation_id)
        if row.embedding_id is not None:
            return row.embedding_id
        return session.scalar(
            sa.select(Embedding.id).where(
                Embedding.dataset_id == row.dataset_id, Embedding.encoder_key == _encoder_key(row)
            )
        )


def _encoder_key(row: Curation) -> str:
    """The encoder's place, known before it is trained: it is determined by the images and the recipe."""
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
def train_on_data(curation_id: str) -> str:
    return train_and_store(curation_id)


@step
def train_and_store(curation_id: str) -> str:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Curation, curation_id)
        key, parameters = _encoder_key(row), dict(row.parameters)
        index_key, count = row.dataset.index_key, row.dataset.samples
        shard_keys = session.scalars(
            sa.select(Shard.key).where(Shard.dataset_id == row.dataset_id).order_by(Shard.ordinal)
        ).all()
    if run.objects.exists(key):
        return key
    assert index_key is not None
    spec = choose_spec(*run.image_sizes(index_key))
    checkpoint = StoredCheckpoint(run.objects, f"checkpoints/{workflow_id('encoder', curation_id)}.pt")
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
        dataset_id = session.get_one(Curation, curation_id).dataset_id
        shard_key = session.get_one(Shard, (dataset_id, ordinal)).key
        total = session.scalar(sa.select(sa.func.count()).where(Shard.dataset_id == dataset_id)) or 0
    encoder = load_encoder(run.objects.get(encoder_key))
    shard = shard_key.rsplit("/", 1)[1].removesuffix(".parquet")
    key = f"features/{fingerprint(encoder)}/{shard}.npy"
    if not run.objects.exists(key):
        # Also how a cancelled curation ends here instead of embedding on.
        reporter(Curation, curation_id, "embed", "embedding the shards")(ordinal, total)
        images = read_shard(run.objects.get(shard_key))["data"]
        pixels = np.stack([to_pixels(decode(data.as_py()), encoder.spec.image_size) for data in images])
        run.objects.put_if_absent(key, npy_bytes(embed(encoder, pixels, device=run.settings.device)))
    return key


@step
def join_features(curation_id: str, encoder_key: str, keys: list[str]) -> str:
    """One array of all shards' features, and the catalogue row that stands for it."""
    run = runtime()
    encoder = load_encoder(run.objects.get(encoder_key))
    with run.catalog.session() as session:
        row = session.get_one(Curation, curation_id)
        dataset_id, encoder_name, count = row.dataset_id, row.parameters["encoder"], row.dataset.samples
    with run.scratch() as folder:
        path = folder / "embeddings.npy"
        joined = np.lib.format.open_memmap(path, "w+", np.float32, (count, encoder.dimension))
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
    return _publish(dataset_id, encoder_name, fingerprint(encoder), encoder_key, encoder.dimension, count, stored)


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
