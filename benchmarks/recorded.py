"""Training dynamics of SimCLR, sample by sample: the losses that `train_encoder` averages away."""

import numpy as np
import numpy.typing as npt
import torch

from tamis.losses import InfoNCE
from trainer.recipe import Recipe
from trainer.training import _batches

LATE = 0.3
_recorded: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]] = []


class Recorder:
    """InfoNCE that also notes each sample's loss, and whether its other view was the most similar of all."""

    def __init__(self, temperature: float, prior: float, hardness: float) -> None:
        self._temperature, self._loss = temperature, InfoNCE(temperature, prior, hardness)
        _recorded.clear()

    def __call__(self, z1: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            views = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1)
            logits = (views @ views.T / self._temperature).fill_diagonal_(-torch.inf)
            other = (torch.arange(len(views)) + len(z1)) % len(views)
            loss = torch.nn.functional.cross_entropy(logits, other, reduction="none").view(2, -1).mean(0)
            right = (logits.argmax(1) == other).view(2, -1).all(0)
        _recorded.append((loss.numpy(), right.numpy()))
        return self._loss(z1, z2)


def recorded_losses(count: int, recipe: Recipe) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(count,) twice: the mean loss in the last 30% of the steps, and forgetting events (Toneva et al. 2019): how often
    a sample was wrong after it had been right. Of the last training under a Recorder."""
    size = min(recipe.batch_size, count)
    batches = _batches(np.arange(count), np.ones(count), size, recipe.seed, 0)
    late = len(_recorded) * (1 - LATE)
    total, seen, forgotten = np.zeros(count), np.zeros(count), np.zeros(count)
    before = np.zeros(count, bool)
    for step, ((loss, right), batch) in enumerate(zip(_recorded, batches, strict=False)):
        forgotten[batch] += before[batch] & ~right
        before[batch] = right
        if step >= late:
            total[batch] += loss
            seen[batch] += 1
    mean = total / np.maximum(seen, 1)
    mean[seen == 0] = total.sum() / seen.sum()
    return mean, forgotten
