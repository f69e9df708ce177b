"""BYOL (Grill et al. 2020). Its loss, 2 - 2 cosines, is told as the negative cosine, as SimSiam's is."""

import math
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tamis.batches.listed import Indices
from trainer.flags import Flags
from trainer.frameworks.alone import Alone, layer


class BYOL(Alone):
    """A view's target is its projection by a network that follows the one which learns (section 3.1)."""

    def _begin(self, flags: Flags | None) -> None:
        super()._begin(flags)
        self._target = deepcopy(self._followed()).requires_grad_(False)

    def _projection_head(self, dimension: int) -> nn.Module:
        """Projection and predictor are of one form (section 3.3)."""
        outputs = self._recipe.projection_dim
        return nn.ModuleDict(
            {
                "projection": nn.Sequential(*layer(dimension, dimension), nn.Linear(dimension, outputs)),
                "predictor": nn.Sequential(*layer(outputs, dimension), nn.Linear(dimension, outputs)),
            }
        )

    def learn(self, step: int, pixels: npt.NDArray[np.uint8], indices: Indices) -> torch.Tensor:
        loss = super().learn(step, pixels, indices)
        self._follow(step)
        return loss

    def _targets(self, views: list[torch.Tensor], projections: list[torch.Tensor]) -> list[torch.Tensor]:
        encoder, projection = self._target
        return [projection(encoder(view)) for view in views]

    def _followed(self) -> nn.ModuleList:
        head: Any = self._head
        return nn.ModuleList([self.encoder, head["projection"]])

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """The part of itself that the target keeps rises from the recipe's momentum to all of it (section 3.3)."""
        passed = (math.cos(math.pi * step / self._total) + 1) / 2
        moved = (1 - self._recipe.momentum) * passed
        for own, other in zip(self._target.parameters(), self._followed().parameters(), strict=True):
            own.lerp_(other, moved)

    def _parts(self) -> list[tuple[str, Any]]:
        return [*super()._parts(), ("target", self._target)]
