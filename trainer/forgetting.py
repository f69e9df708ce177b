"""What a training forgets (Toneva et al. 2019), told without labels.

The paper counts how often a sample that was classified rightly at its last presentation is not at the next. Here a
sample is known while each of its two views is nearest, of all views in its batch, to the other: what instance
discrimination, which InfoNCE is, classifies rightly.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize


class Forgotten:
    """Counts over N samples, on a device.

    events: (N,) int64, how often each was known when it was presented, and not when it was presented next. known, ever:
    (N,) bool, whether it was at its last presentation, and at any.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.events = torch.zeros(count, dtype=torch.int64, device=device)
        self.known, self.ever = (torch.zeros(count, dtype=torch.bool, device=device) for _ in range(2))

    def see(self, samples: torch.Tensor, known: torch.Tensor) -> None:
        """One presentation. samples: (B,) int64; known: (B,) bool, of each. Both on the device."""
        self.events.index_add_(0, samples, (self.known[samples] & ~known).long())
        self.known[samples] = known
        self.ever[samples] = self.ever[samples] | known

    def most(self, among: npt.NDArray[np.bool_], count: int, seed: int) -> npt.NDArray[np.bool_]:
        """(N,), True on the `count` most often forgotten samples of those `among`: what was never known, first, as in
        the paper; of equals, those that chance picks."""
        events = np.where(self.ever.cpu().numpy(), self.events.cpu().numpy(), np.iinfo(np.int64).max)
        order = np.random.default_rng((seed, len(among))).permutation(np.flatnonzero(among))
        keep = np.zeros(len(among), np.bool_)
        keep[order[np.argsort(-events[order], kind="stable")[:count]]] = True
        return keep

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"events": self.events, "known": self.known, "ever": self.ever}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, value in self.state_dict().items():
            value.copy_(state[name])


@torch.no_grad()
def known(z1: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
    """(B,) bool: samples whose views, rows of z1 and z2, (B, d), are each nearest to the other of all in the batch."""
    count = len(z1)
    views = normalize(torch.cat([z1, z2]), dim=1)
    nearest = (views @ views.T).fill_diagonal_(-2.0).argmax(1).view(2, count)
    number = torch.arange(count, device=z1.device)
    return (nearest[0] == number + count) & (nearest[1] == number)
