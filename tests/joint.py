"""Trainings that several processes share, in each of them: `torchrun tests/joint.py FOLDER`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from samples import noise
from torch import nn

from tamis.batches.flags import Curated
from tamis.checkpoint import FileCheckpoint
from tamis.encoders.encoder import Encoder, build_encoder
from tamis.encoders.spec import EncoderSpec
from trainer.flags import Flags, Online
from trainer.frameworks import learner
from trainer.processes import ALONE, Processes, joined_processes
from trainer.recipe import Recipe
from trainer.training import FRAMEWORKS, train_encoder

COUNT, STEPS = 150, 4
SPEC = EncoderSpec("small", 16)
TEXTS = np.random.default_rng(2).standard_normal((COUNT, 12)).astype(np.float32)


def _curated() -> Curated:
    rows = np.random.default_rng(1).standard_normal((COUNT, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Curated(rows.astype(np.float16), -0.2, 0.4, 0.1, 0.5)


# Plain descent, for AdamW divides by gradients that are nothing but rounding where a bias comes before a normalisation.
SHARED: dict[str, Any] = {"steps": STEPS, "batch_size": 32, "optimiser": "sgd", "learning_rate": 0.01}
CASES: dict[str, tuple[Recipe, Flags | None]] = {
    "simclr": (Recipe(**SHARED), None),
    "simclr, curated": (Recipe(**SHARED), _curated()),
    "simclr, online": (Recipe(**SHARED), Online(0.1, 0.9, 0.1, 0.5)),
    "spectral, curated": (Recipe(**{**SHARED, "loss": "spectral", "learning_rate": 1e-4}), _curated()),
    # Two groups of statistics for each of two processes.
    "moco, curated": (Recipe(**{**SHARED, "method": "moco", "queue": 300, "batch_size": 128}), _curated()),
    "simsiam": (Recipe(method="simsiam", **SHARED), None),
    "byol": (Recipe(method="byol", momentum=0.9, **SHARED), None),
    "clip, curated": (Recipe(method="clip", **SHARED), _curated()),
}


@contextmanager
def in_float64() -> Iterator[None]:
    """Networks compute in double precision, so that no rounding sends a value to the other side of a ReLU."""

    def doubled(module: nn.Module) -> nn.Module:
        for part in module.modules():
            if isinstance(part, Encoder | nn.Linear):
                part.register_forward_pre_hook(lambda _, given: given[0].double())
        return module.double()

    with ExitStack() as patched:
        patched.enter_context(mock.patch.object(learner, "has_bf16", return_value=False))
        built = mock.patch.object(learner, "build_encoder", lambda *given: doubled(build_encoder(*given)))
        patched.enter_context(built)
        for kind in FRAMEWORKS.values():
            head = kind._projection_head
            made = mock.patch.object(kind, "_projection_head", lambda *given, head=head: doubled(head(*given)))
            patched.enter_context(made)
        yield


def trained(case: str, processes: Processes = ALONE, **given: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss at the last step, and the encoder's weights."""
    recipe, flags = CASES[case]
    last: list[float] = []
    encoder = train_encoder(
        noise(COUNT),
        SPEC,
        recipe,
        flags=flags,
        device="cpu",
        on_metrics=lambda step, metrics: last.append(metrics["loss"]),
        processes=processes,
        texts=TEXTS if recipe.method == "clip" else None,
        **given,
    )
    return last[-1], {name: value for name, value in encoder.state_dict().items() if not name.endswith("tracked")}


def resumed(case: str, folder: Path, processes: Processes) -> tuple[float, dict[str, torch.Tensor]]:
    """As `trained`, stopped after the second step and begun again."""

    def stop(done: int, total: int) -> None:
        if done == STEPS - 1:
            raise KeyboardInterrupt

    checkpoint = FileCheckpoint(folder / "checkpoint.pt")
    with mock.patch("trainer.training.REPORT_EVERY", 2):
        try:
            trained(case, processes, checkpoint=checkpoint, progress=stop)
        except KeyboardInterrupt:
            assert checkpoint.load() is not None
        begun: list[int] = []
        found = trained(case, processes, checkpoint=checkpoint, progress=lambda done, _: begun.append(done))
    assert begun[0] == STEPS - 1
    return found


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with in_float64(), joined_processes("cpu") as processes:
        found = {case: trained(case, processes) for case in CASES}
        found["resumed"] = resumed("simclr, curated", folder, processes)
        torch.save(found, folder / f"{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
