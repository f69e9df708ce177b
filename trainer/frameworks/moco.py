"""MoCo v2 (He et al. 2020; Chen, Fan, Girshick and He 2020), with difficult pairs treated apart."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from tamis.losses import InfoNCE
from trainer.flags import Flags, between
from trainer.frameworks.learner import Learner

# Images whose statistics a batch normalisation sees together, as on one of MoCo's eight GPUs.
GROUP = 32


class Queue:
    """The keys of the last batches, the oldest first, and the samples they are of (He et al. 2020, section 3.1).

    keys: (K, d) float32 of length one; samples: (K,) int64. It begins empty. MoCo's begins with random vectors; of no
    sample, no rule could tell whether they are difficult.
    """

    def __init__(self, size: int, dimension: int, device: torch.device) -> None:
        self._size = size
        self.keys = torch.empty(0, dimension, device=device)
        self.samples = torch.empty(0, dtype=torch.int64, device=device)

    def add(self, keys: torch.Tensor, samples: torch.Tensor) -> None:
        """Those that are then more than `size` leave, the oldest first."""
        self.keys = torch.cat([self.keys, keys])[-self._size :]
        self.samples = torch.cat([self.samples, samples])[-self._size :]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"keys": self.keys, "samples": self.samples}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self.keys, self.samples = (state[name].to(self.keys.device) for name in ("keys", "samples"))


class MoCo(Learner):
    """A query's negatives are the keys of earlier batches, by an encoder that follows the one which learns."""

    # The queue grows at first, and is another one after every step.
    alike = False

    def _begin(self, flags: Flags | None) -> None:
        recipe, device = self._recipe, self._device
        self._flagged = None if flags is None else between(flags, device)
        self._contrast = InfoNCE(recipe.temperature, recipe.prior, recipe.hardness)
        self._keyed = deepcopy(nn.ModuleList([self.encoder, self._head])).requires_grad_(False)
        self._queue = Queue(recipe.queue, recipe.projection_dim, device)

    def _projection_head(self, dimension: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, self._recipe.projection_dim)
        )

    def _loss(self, first: torch.Tensor, second: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        self._follow()
        processes = self._processes
        own = processes.share(len(samples))
        number = max(1, len(first) // GROUP)
        # Keys are grouped otherwise than queries, for else the statistics of a group would tell which key is a query's
        # (He et al. 2020, section 3.3). The order of a batch is random already.
        with self._autocast():
            queries = self._head(torch.cat([self.encoder(group) for group in first.tensor_split(number)])).float()
            with torch.no_grad():
                encoder, head = self._keyed
                spread = processes.joined(second)[processes.rank :: processes.size]
                found = torch.empty_like(queries)
                for start in range(number):
                    found[start::number] = head(encoder(spread[start::number])).float()
                # One of each process in turn, as they were spread.
                keys = processes.joined(found).view(processes.size, len(found), -1).transpose(0, 1).flatten(0, 1)
        keys = normalize(keys)
        queued, owners = self._queue.keys, self._queue.samples
        treated: tuple[Any, ...] = () if self._flagged is None else self._flagged(samples[own], owners)
        loss = self._contrast.queued(queries, keys[own], queued, samples[own, None] == owners, *treated)
        self._queue.add(keys, samples)
        return processes.mean(loss)

    @torch.no_grad()
    def _follow(self) -> None:
        """The key encoder moves towards the one that learns, by 1 - momentum of the way (equation 2)."""
        learning = [*self.encoder.parameters(), *self._head.parameters()]
        for key, own in zip(self._keyed.parameters(), learning, strict=True):
            key.lerp_(own, 1 - self._recipe.momentum)

    def _parts(self) -> list[tuple[str, Any]]:
        return [*super()._parts(), ("keyed", self._keyed), ("queue", self._queue)]
