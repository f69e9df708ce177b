"""SimSiam (Chen and He 2021)."""

import torch
from torch import nn

from trainer.frameworks.alone import Alone, layer

# Of the predictor's hidden layer, to its outputs (section 4.2).
NARROWER = 4


class SimSiam(Alone):
    """A view's target is its projection, by the network that learns."""

    def _projection_head(self, dimension: int) -> nn.Module:
        """The projection, whose last normalisation keeps all outputs from being one, and the predictor (section 3)."""
        outputs = self._recipe.projection_dim
        hidden = max(1, outputs // NARROWER)
        return nn.ModuleDict(
            {
                "projection": nn.Sequential(
                    *layer(dimension, dimension),
                    *layer(dimension, dimension),
                    nn.Linear(dimension, outputs, bias=False),
                    nn.BatchNorm1d(outputs, affine=False),
                ),
                "predictor": nn.Sequential(*layer(outputs, hidden), nn.Linear(hidden, outputs)),
            }
        )

    def _targets(self, views: list[torch.Tensor], projections: list[torch.Tensor]) -> list[torch.Tensor]:
        return projections
