"""What compares an image with itself alone: its two views, and no other image. So of a manifest's remedies it knows
which images are kept, and how often each is drawn; there is no pair that a margin or a temperature could be for."""

from abc import abstractmethod
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from trainer.flags import Flags
from trainer.frameworks.learner import Learner
from trainer.recipe import no_pairs


class Alone(Learner):
    """A predictor finds, from one view's projection, the target of the other, which learns nothing from that.

    The head is of two parts, "projection" and "predictor". Raises InputError for flags.
    """

    def _begin(self, flags: Flags | None) -> None:
        if flags is not None:
            raise no_pairs(self._recipe.method, "the manifest's flags")

    @abstractmethod
    def _targets(self, views: list[torch.Tensor], projections: list[torch.Tensor]) -> list[torch.Tensor]:
        """Of each view, from the views or from their projections, (b, d) each."""

    def _loss(self, first: torch.Tensor, second: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        head: Any = self._head
        views = [first, second]
        with self._autocast(), self._processes.statistics():
            # View by view, as the papers' statistics are.
            projections = [head["projection"](self.encoder(view)) for view in views]
            predictions = [head["predictor"](projection) for projection in projections]
            with torch.no_grad():
                targets = [target.detach() for target in self._targets(views, projections)]
        found = [
            cosine_similarity(prediction.float(), target.float())
            for prediction, target in zip(predictions, targets[::-1], strict=True)
        ]
        return self._processes.mean(-torch.stack(found).mean())


def layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()
