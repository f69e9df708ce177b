"""What determines an encoder but for its weights, and the pixels it is shown."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from tamis.encoders.names import MAX_SIZE, MIN_SIZE, check_spec
from tamis.errors import InputError

TRAINED_UP_TO = 224
SMALL_UP_TO = 40
# On a CPU, where a step at 224 pixels takes a minute; docs/detection.md has what it costs.
ON_CPU_UP_TO = 32
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class EncoderSpec:
    """What determines an encoder but for its weights. Raises InputError for a value that is none.

    architecture: of ARCHITECTURES, or a library's network, as `torchvision:resnet50`, or TORCHSCRIPT. image_size: S,
    pixels of a side of what the network sees. resize: pixels of the shorter side from whose centre they are cut;
    image_size if None. mean, deviation: of each channel, of values within 0 to 1. views: of each image, whose features
    are averaged.
    """

    architecture: str
    image_size: int
    resize: int | None = None
    interpolation: str = "bilinear"
    mean: Channels = (0.5, 0.5, 0.5)
    deviation: Channels = (0.25, 0.25, 0.25)
    views: int = 1

    def __post_init__(self) -> None:
        check_spec(self.architecture, self.image_size, self.views)
        if self.resize is not None and not (
            type(self.resize) is int and self.image_size <= self.resize <= 2 * MAX_SIZE
        ):
            raise InputError(f"Images are resized to {self.resize!r} pixels.", "Use no less than the image size.")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"There is no interpolation {self.interpolation!r:.99}.", "Use bilinear or bicubic.")
        for name in ("mean", "deviation"):
            values = getattr(self, name)
            lowest = 0 if name == "mean" else 1e-3
            if len(values) != 3 or not all(isinstance(value, float) and lowest <= value <= 1 for value in values):
                raise InputError(f"The {name} of the channels is {values!r:.99}.", f"Use three numbers, {lowest} to 1.")

    def pixels(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """(3, S, S) uint8: what the encoder is shown of an RGB image."""
        return to_pixels(image, self.image_size, self.resize, self.interpolation)


def choose_spec(
    widths: npt.ArrayLike,
    heights: npt.ArrayLike,
    *,
    device: str,
    architecture: str = "auto",
    size: int | Literal["auto"] = "auto",
) -> EncoderSpec:
    """The spec of an encoder to be trained on images of these sizes in pixels, on a `cpu` or on `cuda`.

    size: auto is the multiple of 8 nearest to the median shorter side, halfway between two the lower, which is cheaper:
    28 gives 24. It is at least 16, and at most 224, or 32 on a CPU. architecture: auto is the small one up to 40 pixels
    and on a CPU, else ResNet-18. What follows from the kind of device, and not from a timing, is the same every time.
    Raises InputError when there are no images, or one has no size, and for values that `EncoderSpec` refuses.
    """
    sides = np.minimum(np.asarray(widths), np.asarray(heights))
    if sides.size == 0 or sides.min() < 1:
        raise InputError("Images without a width and a height cannot be trained on.", "Curate from the images.")
    largest = ON_CPU_UP_TO if device == "cpu" else TRAINED_UP_TO
    nearest = 8 * math.ceil(float(np.median(sides)) / 8 - 0.5)
    pixels = min(max(nearest, MIN_SIZE), largest) if size == "auto" else size
    if architecture == "auto":
        architecture = "small" if device == "cpu" or pixels <= SMALL_UP_TO else "resnet18"
    return EncoderSpec(architecture, pixels)


def to_pixels(
    image: Image.Image, size: int, resize: int | None = None, interpolation: str = "bilinear"
) -> npt.NDArray[np.uint8]:
    """(3, size, size) uint8: an RGB image's shorter side resampled to `resize` pixels, and the centre cut out.

    The same pixels as those of torchvision's Resize and CenterCrop, at no cost for the rest of the image.
    """
    resize = resize or size
    short = min(image.size)
    # Rounded as torchvision does.
    width, height = (int(resize * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    resized = image.resize((size, size), INTERPOLATIONS[interpolation], box=box)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))
