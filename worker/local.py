"""`tamis curate`: from a folder or archive to a manifest in one process, without server, database or job queue.

Like the command line it serves, it stands above the core and may start the trainer.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.curation.blends import Blends, embed_blends
from tamis.curation.curation import curate
from tamis.encoders.brought import load_embeddings
from tamis.encoders.encoder import Encoder, encoder_bytes, fingerprint, with_views
from tamis.encoders.inference import Embedder
from tamis.encoders.loading import check_network, load_named
from tamis.encoders.names import parse_encoder
from tamis.encoders.spec import choose_spec
from tamis.errors import InputError
from tamis.ingest.shards import Ingested, ingest, pick_images, read_shard
from tamis.progress import Progress, ignored
from tamis.sources import open_source


def curate_source(
    source: str | Path,
    out: Path,
    *,
    encoder: str = "simclr",
    classes: Any = "auto",
    pos_high: Any = "auto",
    pos_low: float = 0.95,
    score: str = "blend",
    strategy: str = "remove",
    fraction: Any = "auto",
    duplicates: str = "keep",
    epochs: int | None = None,
    views: int = 1,
    seed: int = 0,
    allow_torchscript: bool = False,
    step: Callable[[str], Progress] = lambda _: ignored,
) -> dict[str, Any]:
    """Writes the manifest of `source` into `out`; returns its counts and the quarantined files with reasons.

    encoder: of a form that tamis/encoders/names.py lists. `simclr` trains one on the images and leaves it as encoder.pt
        beside the manifest; `embeddings:FILE` holds one row a stored sample (.npy or Parquet).
    views: of each image, whose features are averaged.
    allow_torchscript: whether a checkpoint may be a program. step: begins a stage of that title; gives its progress.

    Raises InputError for what cannot be used as given.
    """
    asked = parse_encoder(encoder)
    asked.check_views(views)
    check_network(asked)
    with tempfile.TemporaryDirectory(prefix="tamis-") as temporary:
        folder = Path(temporary)
        stored = ingest(open_source(source), _writer(folder), progress=step("ingest"))
        blends: Blends | None = None
        if asked.kind == "embeddings":
            array, about = load_embeddings(Path(asked.file)), {"encoder": asked.label}
            if len(array) != stored.index.num_rows:
                raise InputError(
                    f"{asked.file} has {len(array)} rows and {source} {stored.index.num_rows} images.",
                    "Give one row an image, in the order of the samples.",
                )
        else:
            shards = [folder / shard.key for shard in stored.shards]
            if asked.loads:
                model = load_named(asked, Path, allow_torchscript=allow_torchscript)
            else:
                model = _trained(stored, shards, folder, epochs, seed, step)
                out.mkdir(parents=True, exist_ok=True)
                (out / "encoder.pt").write_bytes(encoder_bytes(model))
            model = with_views(model, views)
            embedder, count = Embedder.of(model), stored.index.num_rows
            array = _embedded(embedder, shards, count, step("embed"))
            blends = embed_blends(
                count, seed, lambda rows: pick_images(stored.shards, folder.__truediv__, rows), embedder
            )
            about = {"encoder": asked.label, "encoder_fingerprint": fingerprint(model)}
        result = curate(
            array,
            classes=classes,
            pos_high=pos_high,
            pos_low=pos_low,
            score=score,
            seed=seed,
            blends=blends,
            progress=step("compare pairs"),
        )
    manifest = result.select(
        strategy,
        fraction,
        duplicates=duplicates,
        samples=stored.index,
        provenance={
            "dataset": stored.fingerprint,
            "encoder": {**about, "dimension": int(array.shape[1])},
            "request": {
                "encoder": asked.label,
                "classes": classes,
                "pos_high": pos_high,
                "pos_low": pos_low,
                "score": score,
                "views": views,
                "seed": seed,
            },
        },
    )
    manifest.write(out)
    return {
        "path": str(out),
        "counts": manifest.description["counts"],
        "classes": result.classes,
        "quarantine": stored.quarantine.to_pylist(),
    }


def _trained(
    stored: Ingested,
    shards: Sequence[Path],
    folder: Path,
    epochs: int | None,
    seed: int,
    step: Callable[[str], Progress],
) -> Encoder:
    from trainer.data import ImageSet
    from trainer.run import train_encoder

    spec = choose_spec(stored.index["width"].to_numpy(), stored.index["height"].to_numpy())
    images = ImageSet.from_shards(shards, stored.index.num_rows, spec.image_size, folder, progress=step("decode"))
    return train_encoder(images, spec, epochs=epochs, seed=seed, progress=step("train encoder"))


def _embedded(embedder: Embedder, shards: Sequence[Path], count: int, progress: Progress) -> npt.NDArray[np.float32]:
    features = np.empty((count, embedder.encoder.dimension), np.float32)
    first = 0
    for shard in shards:
        images = read_shard(shard)
        last = first + images.num_rows
        features[first:last] = embedder.of_images(images["data"].to_pylist(), images["sample_id"].to_pylist())
        progress(last, count)
        first = last
    return features


def _writer(folder: Path) -> Any:
    def put(key: str, content: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return put
