"""`tamis experiment`: whether a treatment of the difficult helps, beside the controls that could explain it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tamis.commands.groups import ENCODER, WHAT
from tamis.commands.options import (
    Auto,
    Cache,
    Device,
    Difficulty,
    Encoding,
    Lesson,
    Quiet,
    Result,
    Source,
    Test,
)
from tamis.commands.ready import check_gpu, check_out, check_source
from tamis.commands.terminal import Step
from tamis.commands.terminal import steps as told
from tamis.encoders.names import encoder_forms, parse_encoder
from tamis.errors import ConflictError, InputError
from trainer.arms import ARMS, CONTROLS, Arm, check_seeds, planned, shares_of, strategies_of
from trainer.recipe import WITHOUT_PAIRS, no_pairs
from trainer.recipes import Taught
from trainer.sweeps import SWEEPS, sweep_of

if TYPE_CHECKING:
    from trainer.results import Runs

Folder = Annotated[
    Path, Parameter(name=["--out", "-o"], help="Folder of runs, report and plots.", metavar="DIR", group=WHAT)
]


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
    mixed: Annotated[
        str | None,
        Parameter(help="Shares of images to mix with one of another label, as 0.1,0.2.", metavar="P,Q", group=WHAT),
    ] = None,
    sweep: Annotated[
        tuple[str, ...],
        Parameter(
            help="What to vary, with arms at each value: removed, pos_high or pos_low, as removed=0.1,0.5; may be "
            "repeated.",
            metavar="NAME=P,Q",
            negative="",
            show_default=False,
            group=WHAT,
        ),
    ] = (),
    encoder: Annotated[
        str,
        Parameter(help=f"Of what tells the difficult: {', '.join(encoder_forms())}.", metavar="FORM", group=ENCODER),
    ] = "simclr",
    difficulty: Difficulty = Difficulty(),
    lesson: Lesson = Lesson(),
    device: Device = "auto",
    cache: Cache = None,
    quiet: Quiet = False,
) -> Result:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("torchrun shares one training, and these are many.", "Start `tamis experiment` without it.")
    taught = lesson.taught()
    plan = planned([name.strip() for name in arms.split(",") if name.strip()], taught.recipe)
    check_seeds(seeds)
    shares = shares_of(mixed or "")
    sweeps = dict(map(sweep_of, sweep))
    if taught.recipe.method in WITHOUT_PAIRS and sweeps.keys() - {"removed"}:
        raise no_pairs(taught.recipe.method, "another band")
    if difficulty.pos_high == "auto":
        difficulty = replace(difficulty, pos_high=taught.pos_high)
    difficulty.judge()
    Encoding(encoder).judge()
    if parse_encoder(encoder).kind == "embeddings" and shares:
        raise InputError("Embeddings of yours are none of mixed images.", "Name another --encoder, or leave --mixed.")
    for given in (source, test):
        if given is not None:
            check_source(given)
    check_out(out, source)
    kept = f"The runs in {out} are kept: typed again, it goes on from there."
    words = f"Curating {source}, then {len(plan)} arms with {seeds} seeds each, all in equally many steps, to {out}."
    from worker.cache import room_in

    with told(words, quiet=quiet, kept=kept, quicker=_quicker) as step, room_in(out, "-o"):
        check_gpu(device)
        from trainer.labelled import check_labels
        from trainer.mixed import mixed_table
        from trainer.plots import plot, plot_sweep
        from trainer.report import report, sweep_table, verdicts
        from trainer.verdicts import scores_of

        step("look for labels")
        check_labels(source)
        if test is not None:
            check_labels(test, 1)
        work = _Work(encoder, difficulty, taught, seeds, device, cache, step)
        manifests = {name: work.curated(source, out / "manifests" / name, name) for name in strategies_of(plan)}
        found = work.ran(source, out, plan, manifests, test)
        rows = found.rows()
        mixed_rows = work.mixed(source, out / "mixed", shares, test)
        lines = [*report(rows, plan, found.settings, source), *(mixed_table(mixed_rows) if shares else ())]
        plot(rows, plan, out)
        own_baseline = scores_of(rows, plan, "linear").own_baseline
        same = [row for row in rows if row["arm"] == own_baseline]
        for name, values in sweeps.items():
            swept = {value: work.swept(source, out / "sweeps", name, value, test) for value in values}
            lines += ["", *sweep_table(name, swept, same)]
            plot_sweep(name, swept, same, out)
        (out / "report.md").write_text("\n".join(lines) + "\n")
    sentences = verdicts(rows, plan)
    for name, each in sentences.items():
        print(f"{name}: linear probe {each['linear']}; 20 nearest neighbours {each['nearest']}")
    print(f"report: {out / 'report.md'}")
    return {"out": str(out), "runs": len(rows), "verdicts": sentences}


@dataclass(frozen=True)
class _Work:
    """Curates and trains, with the options that were typed."""

    encoder: str
    difficulty: Difficulty
    taught: Taught
    seeds: int
    device: str
    cache: Path | None
    step: Step

    def curated(self, images: str, folder: Path, strategy: str, fraction: float | Auto = "auto") -> Path:
        """The folder, in which the manifest of the strategy then is."""
        from tamis.settings import load_settings
        from worker.local import curate_source

        trains = parse_encoder(self.encoder).kind == "simclr"
        try:
            curate_source(
                images,
                folder,
                encoder=self.encoder,
                **(self._of_the_encoder() if trains else {}),
                **asdict(self.difficulty),
                strategy=strategy,
                fraction=fraction,
                device=self.device,
                cache=self.cache,
                allow_torchscript=load_settings().allow_torchscript,
                step=self.step,
            )
        except ConflictError as error:
            raise ConflictError(f"{folder} is of another experiment.", "Choose another folder with -o.") from error
        return folder

    def _of_the_encoder(self) -> dict[str, Any]:
        """Network and length are those of the first encoder too, where it is trained here."""
        recipe = self.taught.recipe
        network = {"architecture": self.taught.architecture, "image_size": self.taught.image_size}
        return {**network, "epochs": recipe.epochs, "steps": recipe.steps}

    def ran(
        self, images: str, folder: Path, arms: Sequence[Arm], manifests: Mapping[str, Path], test: str | None
    ) -> "Runs":
        from trainer.experiment import run_experiment

        return run_experiment(
            manifests,
            folder,
            arms,
            self.seeds,
            self.taught.recipe,
            images=images,
            test=test,
            architecture=self.taught.architecture,
            image_size=self.taught.image_size,
            device=self.device,
            progress=self.step(f"train and judge {len(arms) * self.seeds} runs"),
        )

    def mixed(
        self, source: str, out: Path, shares: Sequence[float], test: str | None
    ) -> dict[float, list[dict[str, Any]]]:
        """The rows of the runs with each share of the images mixed."""
        from tamis.manifest import read_manifest
        from trainer.mixed import KEPT, REMOVED, known, write_mixed

        rows = {}
        for share in shares:
            self.step(f"write images, {share:.0%} of them mixed")
            folder = out / f"{share:g}"
            folder.mkdir(parents=True, exist_ok=True)
            write_mixed(source, folder / "images", share, apart=test is None)
            images = str(folder / "images" / "train")
            removed = self.curated(images, folder / "manifests" / "remove", "remove", share)
            manifests = {"remove": removed, "known": folder / "manifests" / "known"}
            known(read_manifest(removed)).write(manifests["known"])
            arms = self._at_the_recipes_temperature((KEPT, *REMOVED) if share else (KEPT,))
            rows[share] = self.ran(images, folder, arms, manifests, test or str(folder / "images" / "test")).rows()
        return rows

    def _at_the_recipes_temperature(self, arms: Sequence[Arm]) -> list[Arm]:
        return [replace(arm, temperature=self.taught.recipe.temperature) for arm in arms]

    def swept(self, source: str, out: Path, name: str, value: float, test: str | None) -> list[dict[str, Any]]:
        """The rows of a sweep's runs at one value."""
        arms = self._at_the_recipes_temperature(SWEEPS[name].arms)
        fraction: float | Auto = value if name == "removed" else "auto"
        difficulty = self.difficulty
        if name == "pos_high":
            difficulty = replace(difficulty, pos_high=value)
        elif name == "pos_low":
            difficulty = replace(difficulty, pos_low=value)
        work = replace(self, difficulty=difficulty)
        folder = out / f"{name} {value:g}"
        manifests = {
            strategy: work.curated(source, folder / "manifests" / strategy, strategy, fraction)
            for strategy in strategies_of(arms)
        }
        return self.ran(source, folder, arms, manifests, test).rows()


def _quicker(title: str, total: int) -> str:
    if title.startswith("train and judge"):
        return "--steps for shorter runs, fewer --arms or --seeds"
    return "--steps for a shorter training" if title.startswith("train") else ""
