"""`tamis curate`: from a folder or archive to a manifest in one process, without server, database or job queue.

Like the command line it serves, it stands above the core and may start the trainer.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tamis.curation import curate
from tamis.encoders import choose_spec, embed, encoder_bytes, fingerprint, load_embeddings, load_encoder
from tamis.errors import InputError
from tamis.shards import Ingested, ingest
from tamis.sources import open_source
from tamis.terminal import Progress, steps


def curate_source(
    source: Path,
    out: Path,
    *,
    encoder: str = "simclr",
    classes: Any = "auto",
    pos_high: Any = "auto",
    pos_low: float = 0.95,
    strategy: str = "remove",
    fraction: Any = "auto",
    duplicates: str = "keep",
    epochs: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes the manifest of `source` into `out`; returns its counts and the quarantined files with reasons.

    encoder: `simclr` trains one on the images and leaves it as encoder.pt beside the manifest; `checkpoint:FILE` is
        such a file; `embeddings:FILE` holds one row a stored sample (.npy or Parquet).

    Raises InputError for what cannot be used as given.
    """
    kind, _, file = encoder.partition(":")
    if (kind, bool(file)) not in {("simclr", False), ("checkpoint", True), ("embeddings", True)}:
        raise InputError(f"There is no encoder {encoder!r}.", "Use simclr, checkpoint:FILE or embeddings:FILE.")
    with tempfile.TemporaryDirectory(prefix="tamis-") as temporary, steps() as step:
        folder = Path(temporary)
        stored = ingest(open_source(source), _writer(folder), progress=step("ingest"))
        if kind == "embeddings":
            array, about = load_embeddings(Path(file)), {"encoder": "embeddings"}
            if len(array) != stored.index.num_rows:
                raise InputError(
                    f"{file} has {len(array)} rows and {source} {stored.index.num_rows} images.",
                    "Give one row an image, in the order of the samples.",
                )
        else:
            array, about = _embedded(kind, file, stored, folder, out, epochs, seed, step)
        result = curate(
            array, classes=classes, pos_high=pos_high, pos_low=pos_low, seed=seed, progress=step("compare pairs")
        )
    manifest = result.select(
        strategy,
        fraction,
        duplicates=duplicates,
        samples=stored.index,
        provenance={
            "dataset": stored.fingerprint,
            "encoder": {**about, "dimension": int(array.shape[1])},
            "request": {"encoder": kind, "classes": classes, "pos_high": pos_high, "pos_low": pos_low, "seed": seed},
        },
    )
    manifest.write(out)
    return {
        "path": str(out),
        "counts": manifest.description["counts"],
        "classes": result.classes,
        "quarantine": stored.quarantine.to_pylist(),
    }


def _embedded(
    kind: str, file: str, stored: Ingested, folder: Path, out: Path, epochs: int | None, seed: int, step: Any
) -> tuple[np.ndarray[Any, Any], dict[str, str]]:
    from trainer.data import ImageSet
    from trainer.run import train_encoder

    shards = [folder / shard.key for shard in stored.shards]
    count = stored.index.num_rows
    decode: Progress = step("decode")
    if kind == "checkpoint":
        encoder = load_encoder(Path(file))
        images = ImageSet.from_shards(shards, count, encoder.spec.image_size, folder, progress=decode)
    else:
        spec = choose_spec(stored.index["width"].to_numpy(), stored.index["height"].to_numpy())
        images = ImageSet.from_shards(shards, count, spec.image_size, folder, progress=decode)
        encoder = train_encoder(images, spec, epochs=epochs, seed=seed, progress=step("train encoder"))
        out.mkdir(parents=True, exist_ok=True)
        (out / "encoder.pt").write_bytes(encoder_bytes(encoder))
    return embed(encoder, images.pixels), {"encoder": kind, "encoder_fingerprint": fingerprint(encoder)}


def _writer(folder: Path) -> Any:
    def put(key: str, content: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return put
