"""CLIP (Radford et al. 2021) against texts that are embedded already, as by a text tower that is locked (Zhai et al.
2022), with difficult pairs treated apart."""

from typing import Any

import torch
from torch import nn

from tamis import losses
from trainer.flags import Flags
from trainer.frameworks.learner import Learner
from trainer.texts import Texts


class CLIP(Learner):
    """An image's negatives are the texts of the other samples of its batch, and a text's their images.

    The head is of two parts, "image" and "text", a linear map each. texts: (N, d) float32, of all samples.
    """

    # Texts are looked up where they are, beside the device.
    alike = False

    def __init__(self, *given: Any, texts: Texts) -> None:
        self._texts = texts
        super().__init__(*given)

    def _begin(self, flags: Flags | None) -> None:
        self._flagged = None if flags is None else flags.on(self._device)
        self._contrast = losses.CLIP(self._recipe.temperature)

    def _projection_head(self, dimension: int) -> nn.Module:
        outputs, width = self._recipe.projection_dim, self._texts.shape[1]
        maps = {"image": nn.Linear(dimension, outputs, bias=False), "text": nn.Linear(width, outputs, bias=False)}
        return nn.ModuleDict(maps)

    def _loss(self, first: torch.Tensor, second: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        head: Any = self._head
        processes, joined = self._processes, self._processes.joined
        own = torch.from_numpy(self._texts[samples[processes.share(len(samples))].cpu().numpy()]).to(self._device)
        with self._autocast(), processes.statistics():
            features = self.encoder(torch.cat([first, second]))
            views = [joined(view) for view in head["image"](features).float().chunk(2)]
            texts = joined(head["text"](own).float())
        treated: tuple[Any, ...] = ()
        if self._flagged is not None:
            treated = self._flagged(samples, torch.stack([joined(view.detach()) for view in features.chunk(2)]))
        # Each of an image's two views is compared with the texts, and never with the other.
        return torch.stack([self._contrast(view, texts, *treated) for view in views]).mean()
