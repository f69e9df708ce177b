"""`tamis train` and `tamis probe`: what a manifest is worth, in this process."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tamis.commands.groups import WHAT
from tamis.commands.options import Device, Quiet, Result, Seed, Source, Test, Training
from tamis.commands.ready import check_gpu, check_out, check_source
from tamis.commands.terminal import steps

Results = Annotated[
    Path, Parameter(name=["--out", "-o"], help="Folder of encoder.pt and result.json.", metavar="DIR", group=WHAT)
]


def train(
    manifest: Annotated[Path, Parameter(help="Folder of the manifest.", group=WHAT)],
    /,
    *,
    out: Results,
    images: Annotated[
        str | None, Parameter(help="What the manifest was made of, if it moved.", metavar="SOURCE", group=WHAT)
    ] = None,
    test: Test = None,
    training: Training = Training(),
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> Result:
    training.judge()
    taught = training.taught()
    check_out(out)
    if test is not None:
        check_source(test)
    arm = "on all its images alike" if training.baseline else "as it says"
    plan = f"Training on {manifest}, {arm}, then a probe; all goes to {out}."
    kept = f"The checkpoint in {out} is kept: typed again, it goes on from there."
    from worker.cache import room_in

    # Of the processes that torchrun starts, the first tells of all.
    quiet = quiet or os.environ.get("RANK", "0") != "0"
    with steps(plan, quiet=quiet, kept=kept, quicker=_fewer_epochs) as step, room_in(out, "-o"):
        check_gpu(device)
        from trainer.processes import joined_processes
        from trainer.run import train_manifest

        with joined_processes(device) as processes:
            result = train_manifest(
                manifest,
                out,
                replace(taught.recipe, seed=seed),
                images=images,
                architecture=taught.architecture,
                image_size=taught.image_size,
                test=test,
                baseline=training.baseline,
                flags=training.flags,
                texts=training.texts,
                device=device,
                progress=step("train"),
                processes=processes,
            )
    if not processes.first:
        return None
    print(result.describe())
    return result.as_json()


def _fewer_epochs(title: str, total: int) -> str:
    return f"--steps {total // 2}, for all arms alike"


def probe(
    checkpoint: Annotated[Path, Parameter(help="An encoder.pt, or weights that tell their network.", group=WHAT)],
    source: Source,
    /,
    *,
    test: Test = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> Result:
    for given in (source, test):
        if given is not None:
            check_source(given)
    with steps(f"Embedding {source} by {checkpoint}, then a probe.", quiet=quiet) as step:
        check_gpu(device)
        from tamis.settings import load_settings
        from trainer.run import probe_checkpoint

        allowed = load_settings().allow_torchscript
        result = probe_checkpoint(
            checkpoint, source, step("embed"), test=test, device=device, allow_torchscript=allowed
        )
    print(result.describe())
    return result.as_json()
