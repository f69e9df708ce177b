"""The layout job: where a map draws the samples of a curation that has succeeded. Until it is done there is a plane."""

import logging

from tamis.store.schema import Curation
from worker.durable.runtime import runtime, step, workflow
from worker.steps.curate import lay_out

log = logging.getLogger("tamis.worker")


@workflow("layout")
def run_layout(curation_id: str) -> None:
    store_layout(curation_id)


@step
def store_layout(curation_id: str) -> None:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get(Curation, curation_id)
        if row is None or row.result_key is None or row.layout_key is not None:
            return
        result = row.result_key
    key = lay_out(run.place, result)
    with run.catalog.session() as session:
        row = session.get(Curation, curation_id, with_for_update=True)
        if row is not None:
            row.layout_key = key
    log.info("%s has a map", curation_id)
