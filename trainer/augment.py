"""SimCLR's augmentations (Chen et al. 2020, appendix A) as a few tensor operations on a whole batch."""

import math
from functools import cache

import torch
from torch.nn import functional

from trainer.augmentation import Augmentation

BLUR_FROM = 64
LUMA = (0.299, 0.587, 0.114)
CROSS = (0.0, -1.0, 1.0, 1.0, 0.0, -1.0, -1.0, 1.0, 0.0)


def augment(
    pixels: torch.Tensor, how: Augmentation, generator: torch.Generator, part: int = 0, parts: int = 1
) -> torch.Tensor:
    """One random view of each image.

    pixels: (B, 3, S, S) uint8, on the generator's device. Returns (B, 3, S, S) float32 within 0 to 1, in the
    channels-last layout that convolutions prefer. The same generator state gives the same views: of the images that are
    one part, from 0, of so many of a batch, those that they have in the whole batch.
    """
    draw = _Draw(len(pixels), generator, part, parts)
    image = pixels.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)
    view = _crop(image, how, draw)
    if min(view.shape[2:]) >= BLUR_FROM:
        view = _blur(view, how, draw)
    return _recolour(view, how, draw)


class _Draw:
    """Random numbers, one for each image of a part of a batch."""

    def __init__(self, count: int, generator: torch.Generator, part: int, parts: int) -> None:
        self._count, self._generator, self._part, self._parts = count, generator, part, parts

    def uniform(self, low: float, high: float) -> torch.Tensor:
        of_all = torch.empty(self._parts, self._count, device=self._generator.device)
        return of_all.uniform_(low, high, generator=self._generator)[self._part]

    def happens(self, probability: float) -> torch.Tensor:
        return self.uniform(0.0, 1.0) < probability


def _crop(image: torch.Tensor, how: Augmentation, draw: _Draw) -> torch.Tensor:
    """Random resized crop and flip, as one affine resampling. Crops lie wholly inside the image."""
    area = draw.uniform(*how.scale)
    ratio = torch.exp(draw.uniform(*(math.log(bound) for bound in how.ratio)))
    width, height = torch.sqrt(area * ratio).clamp_(max=1.0), torch.sqrt(area / ratio).clamp_(max=1.0)
    mirrored = torch.where(draw.happens(how.flip), -1.0, 1.0)
    zero = torch.zeros_like(width)
    across = torch.stack([width * mirrored, zero, draw.uniform(-1.0, 1.0) * (1 - width)], 1)
    down = torch.stack([zero, height, draw.uniform(-1.0, 1.0) * (1 - height)], 1)
    grid = functional.affine_grid(torch.stack([across, down], 1), list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _blur(image: torch.Tensor, how: Augmentation, draw: _Draw) -> torch.Tensor:
    """A separable Gaussian of sigma 0.1 to 2 pixels and a tenth of the image wide: a product with a band matrix from
    either side, which takes half the time that convolutions by a kernel for each image do."""
    batch, _, size, _ = image.shape
    reach = max(1, size // 20)
    offset = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float32)
    kernel = torch.softmax(-0.5 * (offset[None, :] / draw.uniform(0.1, 2.0)[:, None]) ** 2, dim=1)
    kernel = torch.where(draw.happens(how.blur)[:, None], kernel, (offset == 0).float()[None, :])
    band = (kernel @ _places(size, reach, image.device)).view(batch, size, size)
    down = band @ image.permute(0, 2, 3, 1).flatten(2)
    return torch.einsum("bvw,bhwc->bhvc", band, down.view(batch, size, size, -1)).permute(0, 3, 1, 2)


def _recolour(image: torch.Tensor, how: Augmentation, draw: _Draw) -> torch.Tensor:
    """Brightness, contrast, saturation, hue and grayscale composed into one affine map of the colours of an image.

    Each of them is affine in (r, g, b), so values are clipped once at the end instead of after each.
    """
    jittered = draw.happens(how.jitter)

    def factor(strength: float) -> torch.Tensor:
        return torch.where(jittered, draw.uniform(1 - strength, 1 + strength), 1.0)

    luma = _constant(LUMA, image.device)
    gray = luma.expand(3, 3)
    identity = torch.eye(3, device=image.device)
    brightness, contrast, saturation = factor(how.brightness), factor(how.contrast), factor(how.saturation)
    saturation = torch.where(draw.happens(how.grayscale), 0.0, saturation)[:, None, None]
    angle = torch.where(jittered, draw.uniform(-how.hue, how.hue), 0.0) * (2 * math.pi)
    colours = (saturation * identity + (1 - saturation) * gray) @ _hue_rotation(angle)
    mean_gray = (image.mean((2, 3)) @ luma) * brightness * (1 - contrast)
    flat = image.permute(0, 2, 3, 1).flatten(1, 2)
    recoloured = torch.baddbmm(
        mean_gray[:, None, None], flat, (colours * (brightness * contrast)[:, None, None]).transpose(1, 2)
    )
    return recoloured.clamp_(0.0, 1.0).view(len(image), *image.shape[2:], 3).permute(0, 3, 1, 2)


def _hue_rotation(angle: torch.Tensor) -> torch.Tensor:
    """(B, 3, 3): the turn of the colour plane by `angle` about the gray axis (Rodrigues' formula); keeps grays."""
    axis = torch.full((3,), 1 / math.sqrt(3), device=angle.device)
    cross = _constant(CROSS, angle.device).view(3, 3) / math.sqrt(3)
    cosine, sine = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return cosine * torch.eye(3, device=angle.device) + sine * cross + (1 - cosine) * torch.outer(axis, axis)


@cache
def _places(size: int, reach: int, device: torch.device) -> torch.Tensor:
    """(2 reach + 1, size size): where in a band matrix each weight of a kernel stands, reflected at the borders."""
    place = torch.arange(size)[:, None] + torch.arange(-reach, reach + 1)
    inside = (size - 1) - ((size - 1) - place.abs()).abs()
    return functional.one_hot(inside, size).permute(1, 0, 2).flatten(1).float().to(device)


@cache
def _constant(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Brought to the device once."""
    return torch.tensor(values, device=device)
