"""`tamis experiment`: whether a treatment of the difficult helps, beside the controls that could explain it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tamis.commands.groups import ENCODER, TRAINING, WHAT
from tamis.commands.options import (
    Cache,
    Device,
    Difficulty,
    Epochs,
    ImageSize,
    Network,
    Quiet,
    Result,
    Source,
    Steps,
    Test,
    judge_network,
)
from tamis.commands.ready import check_gpu, check_out, check_source
from tamis.commands.terminal import steps as told
from tamis.encoders.names import encoder_forms, parse_encoder
from trainer.arms import ARMS, CONTROLS, Arm, check_seeds, planned
from trainer.recipe import Loss, Recipe

Folder = Annotated[
    Path, Parameter(name=["--out", "-o"], help="Folder of runs, report and plots.", metavar="DIR", group=WHAT)
]


@Parameter(name="*", group=TRAINING)
@dataclass(frozen=True)
class Runs:
    """How every run is trained, and the first encoder where that is simclr."""

    loss: Annotated[Loss, Parameter(help="What is learnt by.")] = "infonce"
    architecture: Network = "auto"
    image_size: ImageSize = "auto"
    epochs: Epochs = None
    steps: Steps = None
    batch_size: Annotated[int, Parameter(help="Images a step.", metavar="B")] = 128

    def recipe(self) -> Recipe:
        """Raises InputError for numbers out of range."""
        judge_network(self.architecture, self.image_size)
        return Recipe(epochs=self.epochs, steps=self.steps, batch_size=self.batch_size, loss=self.loss)

    def of_the_encoder(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("architecture", "image_size", "epochs", "steps")}


def experiment(
    source: Source,
    /,
    *,
    out: Folder,
    arms: Annotated[
        str, Parameter(help=f"Some of {', '.join(ARMS)}, with commas; controls are added.", metavar="A,B", group=WHAT)
    ] = ",".join(CONTROLS),
    seeds: Annotated[int, Parameter(help="Runs of each arm, 2 or more.", metavar="K", group=WHAT)] = 3,
    test: Test = None,
    encoder: Annotated[
        str,
        Parameter(help=f"Of what tells the difficult: {', '.join(encoder_forms())}.", metavar="FORM", group=ENCODER),
    ] = "simclr",
    difficulty: Difficulty = Difficulty(),
    runs: Runs = Runs(),
    device: Device = "auto",
    cache: Cache = None,
    quiet: Quiet = False,
) -> Result:
    plan = planned([name.strip() for name in arms.split(",") if name.strip()])
    check_seeds(seeds)
    difficulty.judge()
    recipe = runs.recipe()
    asked = parse_encoder(encoder)
    for given in (source, test):
        if given is not None:
            check_source(given)
    check_out(out)
    kept = f"The runs in {out} are kept: typed again, it goes on from there."
    words = f"Curating {source}, then {len(plan)} arms with {seeds} seeds each, all in equally many steps, to {out}."
    with told(words, quiet=quiet, kept=kept, quicker=_quicker) as step:
        check_gpu(device)
        from tamis.settings import load_settings
        from trainer.experiment import run_experiment
        from trainer.labelled import check_labels
        from trainer.plots import plot
        from trainer.report import report, verdicts
        from worker.local import curate_source

        step("look for labels")
        for given in (source, test):
            if given is not None:
                check_labels(given)
        manifests = {strategy: out / "manifests" / strategy for strategy in _strategies(plan)}
        for strategy, folder in manifests.items():
            curate_source(
                source,
                folder,
                encoder=encoder,
                **(runs.of_the_encoder() if asked.kind == "simclr" else {}),  # type: ignore[arg-type]
                **asdict(difficulty),
                strategy=strategy,
                device=device,
                cache=cache,
                allow_torchscript=load_settings().allow_torchscript,
                step=step,
            )
        found = run_experiment(
            manifests,
            out,
            plan,
            seeds,
            recipe,
            images=source,
            test=test,
            architecture=runs.architecture,
            image_size=runs.image_size,
            device=device,
            progress=step(f"train and judge {len(plan) * seeds} runs"),
        )
        step("report")
        rows = found.rows()
        (out / "report.md").write_text(report(rows, plan, found.settings, source))
        plot(rows, plan, out)
    sentences = verdicts(rows, plan)
    for name, each in sentences.items():
        print(f"{name}: linear probe {each['linear']}; 20 nearest neighbours {each['nearest']}")
    print(f"report: {out / 'report.md'}")
    return {"out": str(out), "runs": len(rows), "verdicts": sentences}


def _strategies(plan: Sequence[Arm]) -> list[str]:
    """Those that an arm takes; the baselines alone need images, which any manifest lists."""
    return list(dict.fromkeys(arm.strategy for arm in plan if arm.strategy)) or ["auto"]


def _quicker(title: str, total: int) -> str:
    if title.startswith("train and judge"):
        return "--steps for shorter runs, fewer --arms or --seeds"
    return "--steps for a shorter training" if title.startswith("train") else ""
