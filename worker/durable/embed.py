"""The embed stage of a curation, whose shards fan out over the gpu queue."""

import sqlalchemy as sa

from tamis.encoders.names import encoder_place, parse_encoder
from tamis.store.checkpoints import checkpoint_key
from tamis.store.jobs import workflow_id
from tamis.store.schema import Curation, Dataset, Embedding, Shard, new_id
from worker.durable.runtime import begin_part, reporter, runtime, shard_ref, stages, step, stored_dataset, workflow
from worker.steps import embed as steps
from worker.steps.encoder import loaded, store_loaded, store_trained
from worker.steps.request import Request, request_from


def embed_dataset(curation_id: str) -> str:
    """Part of the curation workflow: returns the id of the embedding that the curation asks for, made if need be."""
    brought = find_embedding(curation_id, None)
    if brought is not None:
        return brought
    encoder_key = begin_part("gpu", "encoder", curation_id, "", make_encoder, curation_id).get_result()
    known = find_embedding(curation_id, encoder_key)
    if known is not None:
        return known
    ordinals = list_shards(curation_id)
    handles = [
        begin_part("gpu", "features", curation_id, str(n), embed_shard, curation_id, encoder_key, n) for n in ordinals
    ]
    return join_features(curation_id, encoder_key, [handle.get_result() for handle in handles])


def embed_blends(curation_id: str, embedding_id: str) -> str | None:
    """Part of the curation workflow: the key of the embedded blends, None where the encoder is not known."""
    encoder_key = encoder_of(embedding_id)
    if encoder_key is None:
        return None
    key: str = begin_part("gpu", "blends", curation_id, "", make_blends, curation_id, encoder_key).get_result()
    return key


def asked_of(curation_id: str) -> tuple[Request, str]:
    """What the curation was asked for, and the id of its data set."""
    with runtime().catalog.session() as session:
        row = session.get_one(Curation, curation_id)
        return request_from(row.parameters), row.dataset_id


@step
def find_embedding(curation_id: str, encoder_key: str | None) -> str | None:
    """The embedding that the curation can use as it is: one that an earlier curation made with the encoder under the
    key, or one that the user brought where there is no encoder."""
    run = runtime()
    if encoder_key is None:
        with run.catalog.session() as session:
            return session.get_one(Curation, curation_id).embedding_id
    request, dataset_id = asked_of(curation_id)
    with run.catalog.session() as session:
        return session.scalar(_made(dataset_id, loaded(run.place, encoder_key, request.views).fingerprint))


def _made(dataset_id: str, encoder_fingerprint: str) -> "sa.Select[str]":
    return sa.select(Embedding.id).where(
        Embedding.dataset_id == dataset_id, Embedding.encoder_fingerprint == encoder_fingerprint
    )


@step
def list_shards(curation_id: str) -> list[int]:
    _, dataset_id = asked_of(curation_id)
    with runtime().catalog.session() as session:
        ordinals = sa.select(Shard.ordinal).where(Shard.dataset_id == dataset_id).order_by(Shard.ordinal)
        return list(session.scalars(ordinals))


@workflow("encoder")
def make_encoder(curation_id: str) -> str:
    return load_or_train(curation_id)


@step
def load_or_train(curation_id: str) -> str:
    """Brings the encoder to its place among the objects, where every worker finds it."""
    place, tell = runtime().place, stages(Curation, curation_id)
    request, dataset_id = asked_of(curation_id)
    asked = parse_encoder(request.encoder, server=True)
    if asked.loads:
        return store_loaded(place, asked, lambda sent: place.objects.get(encoder_place(sent)), tell)
    checkpoint = checkpoint_key(workflow_id("encoder", curation_id), "pt")
    return store_trained(place, stored_dataset(dataset_id), request, checkpoint, tell)


@workflow("features")
def embed_shard(curation_id: str, encoder_key: str, ordinal: int) -> str:
    return embed_and_store(curation_id, encoder_key, ordinal)


@step
def embed_and_store(curation_id: str, encoder_key: str, ordinal: int) -> str:
    request, dataset_id = asked_of(curation_id)
    with runtime().catalog.session() as session:
        shard = shard_ref(session.get_one(Shard, (dataset_id, ordinal)))
        total = session.get_one(Dataset, dataset_id).samples
    # Also how a cancelled curation ends here instead of embedding on.
    progress = reporter(Curation, curation_id, "embed", "embedding images", done=shard.first, total=total)
    return steps.embed_shard(runtime().place, encoder_key, request, shard, total, progress)


@workflow("blends")
def make_blends(curation_id: str, encoder_key: str) -> str:
    return blend_and_store(curation_id, encoder_key)


@step
def encoder_of(embedding_id: str) -> str | None:
    with runtime().catalog.session() as session:
        return session.get_one(Embedding, embedding_id).encoder_key


@step
def blend_and_store(curation_id: str, encoder_key: str) -> str:
    request, dataset_id = asked_of(curation_id)
    reporter(Curation, curation_id, "embed", "embedding blends of images")
    return steps.embed_blends(runtime().place, encoder_key, request, stored_dataset(dataset_id))


@step
def join_features(curation_id: str, encoder_key: str, keys: list[str]) -> str:
    """One array of all shards' features, and the catalogue row that stands for it; returns the row's id."""
    run = runtime()
    request, dataset_id = asked_of(curation_id)
    found = loaded(run.place, encoder_key, request.views)
    dataset, dimension = stored_dataset(dataset_id), found.encoder.dimension
    row = Embedding(
        id=new_id("em"),
        dataset_id=dataset_id,
        encoder=parse_encoder(request.encoder, server=True).label,
        encoder_fingerprint=found.fingerprint,
        encoder_key=encoder_key,
        dimension=dimension,
        count=dataset.samples,
        key=steps.join_features(run.place, keys, dataset, found.encoder.spec, dimension),
    )
    try:
        with run.catalog.session() as session:
            known = session.scalar(_made(dataset_id, found.fingerprint))
            if known is None:
                session.add(row)
            return known or row.id
    except sa.exc.IntegrityError:
        # Another curation of the same images embedded them at the same moment.
        with run.catalog.session() as session:
            return session.scalars(_made(dataset_id, found.fingerprint)).one()
