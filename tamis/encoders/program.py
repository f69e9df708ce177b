"""TorchScript: a network as a program, which runs with the rights of the process that loads it."""

import io
from typing import Any

import torch
from torch import nn

from tamis.errors import InputError

# Where a file says how images are prepared, among TorchScript's extra files.
DESCRIPTION = "tamis"
# The last batch of a data set may hold a single image.
PROBES = (1, 3)
SAID = 200
HINT = "It is to take normalised images, (batch, 3, S, S), and to give features, (batch, d), or maps, (batch, d, h, w)."


class Program(nn.Module):
    """(B, 3, S, S) float, normalised -> (B, d) or (B, d, h, w) float, in evaluation mode.

    content: the file's. description: what it says of itself, None if nothing. Raises InputError when it cannot be
    loaded, and where it fails on images or makes something else of them.
    """

    def __init__(self, content: bytes, device: torch.device | str = "cpu") -> None:
        super().__init__()
        extra: dict[str, Any] = {DESCRIPTION: b""}
        load: Any = torch.jit.load
        try:
            self.network = load(io.BytesIO(content), map_location=device, _extra_files=extra).eval()
        except Exception as error:  # a program can run, and fail, while it is loaded
            raise InputError(f"It is TorchScript that cannot be loaded: {_said(error, 0)}", HINT) from error
        self.content, self.description = content, extra[DESCRIPTION] or None

    def __deepcopy__(self, memo: object) -> "Program":
        """Itself: it is never changed, and loaded once more for another device, where a copy would leave constants."""
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            # What the optimiser makes of a program after a few batches would give other bits than the first.
            with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # documented, yet not exported
                found = self.network(x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a program raises what it likes
            raise InputError(f"The TorchScript program fails on images: {_said(error, -1)}", HINT) from error
        if not isinstance(found, torch.Tensor) or not found.is_floating_point():
            raise InputError("The TorchScript program returns no tensor of floats.", HINT)
        if found.ndim not in {2, 4} or found.numel() == 0 or len(found) != len(x):
            raise InputError(f"The TorchScript program makes {tuple(found.shape)} of {tuple(x.shape)}.", HINT)
        return found

    def dimension(self, image_size: int) -> int:
        """d, found by a try. Raises InputError for features that are not numbers, or differ in number."""
        images = torch.linspace(-2, 2, max(PROBES) * 3 * image_size**2).view(-1, 3, image_size, image_size)
        with torch.inference_mode():
            tries = [self(images[:count]) for count in PROBES]
        if not all(found.isfinite().all() for found in tries):
            raise InputError("The TorchScript program's features are not numbers.", "Use another encoder.")
        widths = sorted({int(found.shape[1]) for found in tries})
        if len(widths) > 1:
            raise InputError(f"The TorchScript program makes {widths} features of an image.", "Use another encoder.")
        return widths[0]


def _said(error: Exception, line: int) -> str:
    """A line of the error, for TorchScript tells where in the program it was, too."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[line].strip()[:SAID].rstrip('.')}."
