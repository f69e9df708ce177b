"""SimSiam (Chen and He 2021): an image's two views, and no other image. So of a manifest's remedies it knows which
images are kept, and how often each is drawn; there is no pair that a margin or a temperature could be for."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from tamis.encoders.spec import EncoderSpec
from trainer.flags import Flags, Indices
from trainer.frameworks.learner import Learner
from trainer.processes import ALONE, Processes
from trainer.recipe import Recipe, no_pairs

# Of the predictor's hidden layer, to its outputs (section 4.2).
NARROWER = 4


class SimSiam(Learner):
    """A predictor finds one view's projection from the other's, which learns nothing from that."""

    def __init__(
        self,
        spec: EncoderSpec,
        recipe: Recipe,
        device: torch.device,
        total: int,
        flags: Flags | None = None,
        processes: Processes = ALONE,
    ) -> None:
        if flags is not None:
            raise no_pairs("the manifest's flags")
        super().__init__(spec, recipe, device, total, None, processes)

    def _projection_head(self, dimension: int) -> nn.Module:
        """The projection, whose last normalisation keeps all outputs from being one, and the predictor (section 3)."""
        outputs = self._recipe.projection_dim
        hidden = max(1, outputs // NARROWER)
        return nn.ModuleDict(
            {
                "projection": nn.Sequential(
                    *_layer(dimension, dimension),
                    *_layer(dimension, dimension),
                    nn.Linear(dimension, outputs, bias=False),
                    nn.BatchNorm1d(outputs, affine=False),
                ),
                "predictor": nn.Sequential(*_layer(outputs, hidden), nn.Linear(hidden, outputs)),
            }
        )

    def _loss(self, first: torch.Tensor, second: torch.Tensor, indices: Indices) -> torch.Tensor:
        head: Any = self._head
        with self._autocast(), self._processes.statistics():
            # View by view, as the paper's statistics are.
            projections = [head["projection"](self.encoder(view)) for view in (first, second)]
            predictions = [head["predictor"](projection) for projection in projections]
        found = [
            cosine_similarity(prediction.float(), other.detach().float())
            for prediction, other in zip(predictions, projections[::-1], strict=True)
        ]
        return self._processes.mean(-torch.stack(found).mean())


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()
