"""Objects that no row of the catalogue needs any more: what deleted data sets and failed jobs left."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath

import sqlalchemy as sa
from sqlalchemy.orm import Session

from tamis.errors import BusyError
from tamis.store.catalog import Catalog
from tamis.store.objects import Objects
from tamis.store.schema import (
    JOBS,
    Curation,
    Dataset,
    Embedding,
    Manifest,
    Shard,
    StoredEncoder,
    Training,
    now,
)

# Whole objects that a row names; files of a folder that a row names; what is made again from others when it is missing.
FOLDERS = ("shards", "thumbnails", "index", "quarantine", "embeddings", "encoders", "layouts")
FOLDERS_OF_FILES = ("curations", "manifests")
MADE_AGAIN = ("features", "blends", "pixels")
# A request may have stored what its row will name only a moment later.
AGE = timedelta(hours=1)
# Nothing is begun while objects are removed, so only a few at a time are.
AT_ONCE = 200


@dataclass(frozen=True)
class Needed:
    """What the catalogue needs: keys of objects, and what names the files of shards, data sets and sent encoders."""

    keys: frozenset[str]
    shards: frozenset[str]
    datasets: frozenset[str]
    encoders: frozenset[str]

    def keeps(self, key: str) -> bool:
        folder, _, name = key.partition("/")
        if folder in FOLDERS_OF_FILES:
            return f"{folder}/{name.partition('/')[0]}" in self.keys
        if folder in ("features", "pixels"):
            return PurePosixPath(name).stem in self.shards
        if folder == "blends":
            return PurePosixPath(name).stem.rpartition("-")[0] in self.datasets
        return key in self.keys or (folder == "encoders" and PurePosixPath(name).stem in self.encoders)


def needed(session: Session) -> Needed:
    columns = (
        Dataset.index_key,
        Dataset.quarantine_key,
        Shard.key,
        Shard.thumbnails_key,
        Embedding.key,
        Embedding.encoder_key,
        Curation.result_key,
        Curation.layout_key,
        Manifest.key,
    )
    keys = {key for column in columns for key in session.scalars(sa.select(column)) if key}
    trained = sa.select(Training.result).where(Training.manifest_id.is_not(None))
    keys.update(result["encoder"] for result in session.scalars(trained) if result)
    shards = {PurePosixPath(key).stem for key in session.scalars(sa.select(Shard.key))}
    datasets = {found for found in session.scalars(sa.select(Dataset.fingerprint)) if found}
    sent = session.scalars(sa.select(StoredEncoder.fingerprint))
    return Needed(frozenset(keys), frozenset(shards), frozenset(datasets), frozenset(sent))


def collect_garbage(
    catalog: Catalog, objects: Objects, *, last_of: Needed | None = None, dry_run: bool = False
) -> tuple[int, int]:
    """Removes the objects that no row needs; returns how many, and their bytes.

    last_of: only what was needed then, of whatever age; else everything older than an hour. dry_run: removes nothing.
    Raises BusyError while jobs wait or run: what these have stored is not in the catalogue yet.
    """
    oldest = now() - AGE
    found = {
        key: size
        for folder in FOLDERS + FOLDERS_OF_FILES + MADE_AGAIN
        for key, size, modified in objects.stored(f"{folder}/")
        if (modified < oldest if last_of is None else last_of.keeps(key))
    }
    removed = freed = 0
    keys = sorted(found)
    for start in range(0, len(keys), AT_ONCE):
        with catalog.session() as session:
            _hold_still(session)
            still = needed(session)
            for key in keys[start : start + AT_ONCE]:
                if still.keeps(key):
                    continue
                if not dry_run:
                    objects.delete(key)
                removed, freed = removed + 1, freed + found[key]
    return removed, freed


def _hold_still(session: Session) -> None:
    """No row begins or ends until the transaction does. Of SQLite's there is never more than one that writes."""
    if session.get_bind().dialect.name == "postgresql":
        tables = ", ".join(str(sa.inspect(model).local_table) for model in (*JOBS.values(), Embedding, StoredEncoder))
        session.execute(sa.text(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE"))
    for model in JOBS.values():
        busy = session.scalar(sa.select(model.id).where(model.state.in_(("queued", "running"))).limit(1))
        if busy is not None:
            raise BusyError(
                f"{busy} waits or runs, and what it has stored is not in the catalogue yet.",
                "Try again once no job does; the server does so every hour.",
            )
