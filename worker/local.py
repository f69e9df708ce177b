"""`tamis curate`: the steps one after the other in this process, over a folder, without server, database or job queue.

Typed again after whatever ended it, it goes on where it was; so does another curation of the same images.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tamis.device import resolve_device
from tamis.encoders.brought import embeddings_digest, in_order, load_embeddings
from tamis.encoders.loading import check_network
from tamis.encoders.names import EncoderName, parse_encoder
from tamis.errors import ConflictError, TamisError
from tamis.ingest.shards import ShardRef
from tamis.manifest import DESCRIPTION, Manifest
from tamis.progress import Progress, ignored
from tamis.sources import BUCKET, open_source
from worker.cache import Cache, fingerprint_of, open_cache, room_in, state_of
from worker.steps.curate import Result, Scan, discard_scan, find_difficult, plan_scan
from worker.steps.embed import embed_blends, embed_shard, join_features
from worker.steps.encoder import describe_encoder, loaded, store_loaded, store_trained
from worker.steps.ingest import Stored, read_index, store_source
from worker.steps.manifest import Treatment, make_manifest
from worker.steps.place import Place
from worker.steps.request import Request


def curate_source(
    source: str | Path,
    out: Path,
    *,
    encoder: str = "simclr",
    architecture: str = "auto",
    image_size: int | Literal["auto"] = "auto",
    epochs: int | None = None,
    steps: int | None = None,
    views: int = 1,
    classes: int | Literal["auto"] = "auto",
    pos_high: float | Literal["auto"] = "auto",
    pos_low: float = 0.95,
    neighbours: int = 64,
    score: str = "blend",
    strategy: str = Treatment.strategy,
    fraction: float | Literal["auto"] = "auto",
    duplicates: str = "keep",
    seed: int = 0,
    device: str = "auto",
    cache: Path | None = None,
    force: bool = False,
    allow_torchscript: bool = False,
    step: Callable[[str], Progress] = lambda _: ignored,
) -> dict[str, Any]:
    """Writes the manifest of `source` into `out`; returns where, its counts and band, what to know before it is
    used, the quarantined files with reasons, the seconds of each stage, and where and how much the cache holds.

    encoder: of a form that tamis/encoders/names.py lists. `simclr` trains one on the images and leaves it as encoder.pt
        beside the manifest; `embeddings:FILE` is as of `load_embeddings`.
    architecture to views, classes to neighbours, score, seed: see `Request`. strategy to duplicates: see `Treatment`.
    cache: the folder of what is made on the way, see `open_cache`. force: whether a manifest of something else in `out`
        may be replaced. allow_torchscript: whether a checkpoint may be a program. step: begins a stage of that title.

    Raises InputError for what cannot be used as given, ConflictError for a manifest that is in the way.
    """
    asked = parse_encoder(encoder)
    asked.check_options(views, architecture=architecture, image_size=image_size, epochs=epochs, steps=steps)
    if asked.loads:
        check_network(asked)
    network = {"architecture": architecture, "image_size": image_size, "epochs": epochs, "steps": steps, "views": views}
    difficult = {"classes": classes, "pos_high": pos_high, "pos_low": pos_low, "neighbours": neighbours, "score": score}
    request = Request(asked.label, **network, **difficult, seed=seed, device=device)  # type: ignore[arg-type]
    treatment = Treatment(strategy, fraction, duplicates)
    _prepare(out, request, treatment, force)
    kept = open_cache(cache)
    place = Place(kept.objects, kept.scratch, allow_torchscript=allow_torchscript)
    run = _Run(place, kept, request, _Stages(step))
    with room_in(kept.folder, f"--cache, such as {out.absolute()}.cache beside the manifest"):
        dataset = run.ingested(source)
        if not force and _description_in(out).get("dataset", dataset.fingerprint) != dataset.fingerprint:
            raise _in_the_way(out)
        described, embeddings, blends = run.embedded(dataset, asked, out)
        result = run.compared(dataset, embeddings, blends)
        run.stages("manifest", "writing the manifest")
        manifest = make_manifest(place, result.key, dataset, request, described, treatment)
    with room_in(out, "-o"):
        _write(manifest, out, force)
    return {
        "path": str(out),
        "counts": manifest.description["counts"],
        "band": manifest.description.get("band"),
        "classes": result.summary["classes"],
        "warning": result.summary["graph"]["warning"],
        "quarantine": read_index(place, dataset.quarantine).to_pylist(),
        "seconds": run.stages.seconds(),
        "cache": str(kept.folder),
        "cache_bytes": kept.size(),
    }


@dataclass
class _Stages:
    """Begins stages, and knows how long each took."""

    _step: Callable[[str], Progress]
    _began: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self, stage: str, message: str) -> Progress:
        self._began.append((stage, time.monotonic()))
        return self._step(message)

    def seconds(self) -> dict[str, float]:
        ends = [began for _, began in self._began[1:]] + [time.monotonic()]
        spent: dict[str, float] = {}
        for (stage, began), end in zip(self._began, ends, strict=True):
            spent[stage] = round(spent.get(stage, 0.0) + end - began, 3)
        return spent


@dataclass(frozen=True)
class _Run:
    place: Place
    cache: Cache
    request: Request
    stages: _Stages

    def ingested(self, source: str | Path) -> Stored:
        """The data set; files of a folder stay where they are."""
        found = open_source(source)

        def work() -> dict[str, Any]:
            progress = self.stages("ingest", "reading, checking and hashing images")
            return asdict(store_source(self.place, found, in_place=Path(source).is_dir(), progress=progress))

        if str(source).startswith(BUCKET):
            return _stored(work())
        return _stored(self.cache.once("ingest", state_of(Path(source)), work, _keys_of_stored))

    def embedded(self, dataset: Stored, asked: EncoderName, out: Path) -> tuple[dict[str, Any], str, str | None]:
        """What to say of the encoder, and the keys of the embeddings and of the blends."""
        if asked.kind == "embeddings":
            return *self._brought(dataset, Path(asked.file)), None
        place, views = self.place, self.request.views
        if asked.loads:
            key = store_loaded(place, asked, Path, self.stages)
        else:
            checkpoint = f"checkpoints/encoder-{fingerprint_of([dataset.fingerprint, self.request.as_json()])}.pt"
            key = store_trained(place, dataset, self.request, checkpoint, self.stages)
            with room_in(out, "-o"):
                (out / "encoder.pt").write_bytes(place.objects.get(key))
        progress = self.stages("embed", "embedding images")
        features = [embed_shard(place, key, self.request, shard, dataset.samples, progress) for shard in dataset.shards]
        found = loaded(place, key, views).encoder
        embeddings: str = self.cache.once(
            "join",
            features,
            lambda: join_features(place, features, dataset, found.spec, found.dimension),
            lambda made: [made],
        )
        self.stages("embed", "embedding blends of images")
        blends = embed_blends(place, key, self.request, dataset)
        return describe_encoder(place, asked.label, key, views), embeddings, blends

    def _brought(self, dataset: Stored, file: Path) -> tuple[dict[str, Any], str]:
        def work() -> list[Any]:
            samples = partial(self._names, dataset.index, "sample_id")
            left_out = partial(self._names, dataset.quarantine, "name")
            rows = in_order(load_embeddings(file), dataset.samples, samples, left_out, str(file))
            digest = embeddings_digest(rows)
            key = f"embeddings/{digest}.npy"
            if not self.place.objects.exists(key):
                with self.place.scratch() as folder:
                    np.save(folder / "embeddings.npy", rows, allow_pickle=False)
                    self.place.objects.put(key, folder / "embeddings.npy")
            return [digest, key, rows.shape[1]]

        made_of = [state_of(file), dataset.index]
        digest, key, dimension = self.cache.once("embeddings", made_of, work, lambda made: made[1:2])
        return {"encoder": "embeddings", "encoder_fingerprint": digest, "dimension": dimension}, key

    def _names(self, table: str, column: str) -> list[str]:
        names: list[str] = read_index(self.place, table)[column].to_pylist()
        return names

    def compared(self, dataset: Stored, embeddings: str, blends: str | None) -> Result:
        """The result: planned, scanned in one part from where an earlier run was, and assembled."""
        place, request = self.place, self.request
        inputs = [
            embeddings,
            blends,
            dataset.index,
            request.as_json(),
            resolve_device(place.device_for(request.device)).type,
        ]
        name = fingerprint_of(inputs)
        scan = Scan(embeddings, f"checkpoints/plan-{name}.npz", (f"checkpoints/scan-{name}.npz",))

        def work() -> dict[str, Any]:
            self.cache.once(
                "plan",
                inputs,
                lambda: plan_scan(place, embeddings, blends, request, scan.plan, self.stages),
                lambda _: [scan.plan],
            )
            return asdict(find_difficult(place, scan, request.score, dataset.index, self.stages))

        found = self.cache.once("result", inputs, work, lambda made: [f"{made['key']}/curation.json"])
        discard_scan(place, scan)
        return Result(**found)


def _stored(values: dict[str, Any]) -> Stored:
    return Stored(**{**values, "shards": tuple(ShardRef(**shard) for shard in values["shards"])})


def _keys_of_stored(values: dict[str, Any]) -> list[str]:
    return [values["index"], values["quarantine"], *(shard["key"] for shard in values["shards"])]


def _prepare(out: Path, request: Request, treatment: Treatment, force: bool) -> None:
    """Makes the folder before any work. Raises where it cannot be written, or holds the manifest of something else."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".tamis").touch()
        (out / ".tamis").unlink()
    except OSError as error:
        raise TamisError(f"{out} cannot be written: {error.strerror}.", "Choose another folder with -o.") from error
    if force or not (out / DESCRIPTION).is_file():
        return
    there = _description_in(out)
    same = (
        there.get("request") == request.as_json()
        and there.get("strategy") == treatment.strategy
        and treatment.fraction in ("auto", there.get("fraction"))
        and there.get("duplicates", {}).get("dropped") == treatment.duplicates
    )
    if not same:
        raise _in_the_way(out)


def _description_in(out: Path) -> dict[str, Any]:
    """Of the manifest that is there; empty where there is none that can be read."""
    try:
        return dict(json.loads((out / DESCRIPTION).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _write(manifest: Manifest, out: Path, force: bool) -> None:
    files = manifest.files()
    if not force and (out / DESCRIPTION).is_file() and (out / DESCRIPTION).read_bytes() != files[DESCRIPTION]:
        raise _in_the_way(out)
    manifest.write(out)


def _in_the_way(out: Path) -> ConflictError:
    return ConflictError(
        f"{out} holds the manifest of something else.", "Choose another folder with -o, or replace it with --force."
    )
