"""The manifest job: a strategy applied to a curation's result, with human decisions laid over it."""

from typing import Any

import sqlalchemy as sa

from tamis.store.catalog import standing_decisions
from tamis.store.schema import Curation, Decision, Embedding, Manifest
from worker.durable.runtime import locked, reported, reporter, runtime, step, stored_dataset, workflow
from worker.steps.encoder import describe_encoder
from worker.steps.manifest import Treatment, make_manifest, store_manifest
from worker.steps.place import Place
from worker.steps.request import Request, request_from


@workflow("manifest")
def run_manifest(manifest_id: str) -> None:
    with reported(Manifest, manifest_id):
        write_manifest(manifest_id)


@step
def write_manifest(manifest_id: str) -> None:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Manifest, manifest_id)
        if row.key is not None:
            return
        curation = session.get_one(Curation, row.curation_id)
        embedding = session.get_one(Embedding, curation.embedding_id)
        treatment = Treatment(**{name: row.parameters[name] for name in ("strategy", "fraction", "duplicates")})
        request, result = request_from(curation.parameters), curation.result_key
        columns = (Decision.id, Decision.sample, Decision.verdict, Decision.undoes)
        listed = sa.select(*columns).where(Decision.curation_id == curation.id).order_by(Decision.sequence)
        standing = standing_decisions(session.execute(listed).all())
        decisions = {sample: decision.verdict == "keep" for sample, decision in standing.items()}
    assert result is not None
    reporter(Manifest, manifest_id, "manifest", "writing the tables")
    encoder = described(run.place, embedding, request)
    dataset = stored_dataset(curation.dataset_id)
    manifest = make_manifest(run.place, result, dataset, request, encoder, treatment, decisions)
    key, summary = store_manifest(run.place, manifest)
    with run.catalog.session() as session:
        row = locked(session, Manifest, manifest_id)
        row.key, row.summary = key, summary
        row.succeed(f"{summary['kept']} of {summary['samples']} samples kept")


def described(place: Place, embedding: Embedding, request: Request) -> dict[str, Any]:
    """What manifests say of the encoder."""
    if embedding.encoder_key is not None:
        return describe_encoder(place, embedding.encoder, embedding.encoder_key, request.views)
    return {
        "encoder": embedding.encoder,
        "encoder_fingerprint": embedding.encoder_fingerprint,
        "dimension": embedding.dimension,
    }
