"""SimCLR (Chen et al. 2020), with difficult pairs treated apart (Zhang et al. 2026, section 4)."""

from typing import Any

import torch
from torch import nn

from tamis.losses import InfoNCE, Spectral
from trainer.flags import Flags
from trainer.forgetting import known
from trainer.frameworks.learner import Learner


class SimCLR(Learner):
    """A view's negatives are all views of the other samples of its batch."""

    def _begin(self, flags: Flags | None) -> None:
        recipe = self._recipe
        self._flagged = None if flags is None else flags.on(self._device)
        infonce = InfoNCE(recipe.temperature, recipe.prior, recipe.hardness)
        self._contrast = infonce if recipe.loss == "infonce" else Spectral()

    def _projection_head(self, dimension: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(dimension, dimension, bias=False),
            nn.BatchNorm1d(dimension),
            nn.ReLU(),
            nn.Linear(dimension, self._recipe.projection_dim),
        )

    def _loss(self, first: torch.Tensor, second: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        joined = self._processes.joined
        with self._autocast(), self._processes.statistics():
            features = self.encoder(torch.cat([first, second]))
            z1, z2 = map(joined, self._head(features).float().chunk(2))
        if self.forgotten is not None:
            self.forgotten.see(samples, known(z1, z2))
        treated: tuple[Any, ...] = ()
        if self._flagged is not None:
            treated = self._flagged(samples, torch.stack([joined(view.detach()) for view in features.chunk(2)]))
        return self._contrast(z1, z2, *treated)
