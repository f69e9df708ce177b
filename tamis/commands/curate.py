"""`tamis curate`: from images to a manifest in this process."""

from dataclasses import asdict

from tamis.commands.options import (
    Cache,
    Device,
    Difficulty,
    Encoding,
    Force,
    Out,
    Quiet,
    Result,
    Seed,
    Source,
    Treatment,
)
from tamis.commands.ready import check_gpu, check_out, check_source
from tamis.commands.stage import Quicker
from tamis.commands.terminal import steps
from tamis.printable import printable

# What to offer who would rather have a rougher encoder sooner.
FEW_STEPS, SMALL_IMAGES = 200, 24


def curate(
    source: Source,
    /,
    *,
    out: Out,
    encoding: Encoding = Encoding(),
    difficulty: Difficulty = Difficulty(),
    treatment: Treatment = Treatment(),
    seed: Seed = 0,
    device: Device = "auto",
    cache: Cache = None,
    force: Force = False,
    quiet: Quiet = False,
) -> Result:
    for part in (encoding, difficulty, treatment):
        part.judge()
    check_source(source)
    check_out(out, source)
    from worker.cache import default_folder

    plan = f"Curating {source}: {_embedding(encoding)}, compare all pairs, write the manifest to {out.absolute()}."
    kept = f"What was finished is kept in {cache or default_folder()}: typed again, it goes on from there."
    with steps(plan, quiet=quiet, kept=kept, quicker=_quicker(encoding)) as step:
        check_gpu(device)
        from tamis.settings import load_settings
        from worker.local import curate_source

        found = curate_source(
            source,
            out,
            **asdict(encoding),
            **asdict(difficulty),
            **asdict(treatment),
            seed=seed,
            device=device,
            cache=cache,
            force=force,
            allow_torchscript=load_settings().allow_torchscript,
            step=step,
        )
        from tamis.manifest import read_manifest
        from tamis.report.labels import judged

        step("asking the labels, which no step before knew")
        labels = judged(read_manifest(out))
    counts = found["counts"]
    print(f"{found['path']}: {counts['kept']} of {counts['samples']} samples kept, {counts['pairs']} difficult pairs")
    if band := found["band"]:
        print(f"pairs in the band: margin {band['margin']:g}, temperature times {band['temperature']:g}")
    if found["warning"]:
        print(f"read with care: {found['warning']}")
    if counts["equal_files"] or counts["near_duplicates"]:
        print(f"duplicates: {counts['equal_files']} by file, {counts['near_duplicates']} by similarity")
    if labels is not None:
        for line in labels.describe():
            print(printable(line))
    for row in found["quarantine"]:
        print(printable(f"left out {row['name']}: {row['reason']}"))
    size = found["cache_bytes"] / 1e6
    print(f"kept for the next time in {found['cache']}: {size:,.1f} MB; the folder may be removed")
    return {**found, "labels": None if labels is None else labels.as_json()}


def _embedding(encoding: Encoding) -> str:
    match encoding.encoder.partition(":")[0]:
        case "simclr":
            return "read the images, train an encoder on them, embed them"
        case "embeddings":
            return "read the images, take your embeddings"
    return f"read the images, embed them by {encoding.encoder}"


def _quicker(encoding: Encoding) -> Quicker:
    def ways(title: str, total: int) -> str:
        if title.startswith("embed"):
            return "--views 1" * (encoding.views > 1)
        if not title.startswith("train"):
            return ""
        size = encoding.image_size
        smaller = "a smaller --image-size" if size == "auto" else f"--image-size {SMALL_IMAGES}"
        known = {
            f"--steps {FEW_STEPS}": total > FEW_STEPS,
            smaller: size == "auto" or size > SMALL_IMAGES,
            "--architecture small": encoding.architecture not in ("auto", "small"),
        }
        return " or ".join(way for way, helps in known.items() if helps)

    return ways
