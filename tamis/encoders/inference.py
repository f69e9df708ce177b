"""Features of images at the speed of the network: images are decoded while it computes."""

import copy
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from tamis.device import has_bf16, repeatable_convolutions, resolve_device
from tamis.encoders.encoder import Encoder
from tamis.encoders.program import Program
from tamis.errors import InputError
from tamis.images import decode
from tamis.progress import Progress

Features: TypeAlias = npt.NDArray[np.float32]

# Pixels of a batch: enough to keep a device busy, few enough that what lies between two layers takes little memory.
BATCH_PIXELS = {"cpu": 2**19, "cuda": 2**23}
MAX_BATCH = 256
# Batches that are decoded, or being decoded, while one is computed.
AHEAD = 2
# Images that a thread takes at a time: small ones are decoded faster than they are handed over one by one.
CHUNK = 8
# The sides of the crops among the views, as a share of the image's.
CROP = 7 / 8
NAMED = 5


@dataclass(frozen=True)
class Embedder:
    """An encoder made ready on a device: convolutions hold their batch norms, and compute in bf16 where the hardware
    does. The same pixels, encoder and machine give the same bits. Changes of the encoder do not reach it.

    Against float32, bf16 changes the direction of features by a cosine of at least 0.999.
    """

    encoder: Encoder
    device: torch.device
    bf16: bool

    @classmethod
    def of(cls, encoder: Encoder, device: str = "auto", bf16: bool | None = None) -> "Embedder":
        """bf16: None where the device computes it in hardware. Raises InputError when there is no such device."""
        place = resolve_device(device)
        ready = copy.deepcopy(encoder).eval()
        program = encoder.trunk if isinstance(encoder.trunk, Program) else None
        ready.trunk = _folded(ready.trunk) if program is None else Program(program.content, place)
        ready.to(place).to(memory_format=torch.channels_last)
        return cls(ready, place, has_bf16(place) if bf16 is None else bf16)

    @property
    def batch_size(self) -> int:
        return max(1, min(MAX_BATCH, BATCH_PIXELS[self.device.type] // self.encoder.spec.image_size**2))

    def of_images(self, images: Sequence[bytes], names: Sequence[str], progress: Progress | None = None) -> Features:
        """N image files -> (N, d). names: of the images, for errors. progress(done, N) counts images.

        Raises InputError that names an image which cannot be decoded, or of which the encoder makes no numbers.
        """

        def fill(place: npt.NDArray[np.uint8], row: int) -> None:
            place[:] = self._pixels(images[row], names[row])

        return _useful(self._features(len(images), fill, progress), names)

    def of_blends(
        self,
        images: Sequence[bytes],
        names: Sequence[str],
        first: npt.NDArray[np.int64],
        second: npt.NDArray[np.int64],
    ) -> Features:
        """(B,) and (B,) places in `images` -> (B, d), of the mean of the two images' pixels, as the encoder sees them.

        Raises InputError that names an image which cannot be decoded. All images' pixels are in memory at once.
        """
        pixels = np.stack([self._pixels(*image) for image in zip(images, names, strict=True)]).astype(np.uint16)

        def fill(place: npt.NDArray[np.uint8], row: int) -> None:
            place[:] = (pixels[first[row]] + pixels[second[row]] + 1) // 2

        return self._features(len(first), fill, None)

    def of_pixels(
        self, pixels: npt.NDArray[np.uint8], names: Sequence[str] | None = None, progress: Progress | None = None
    ) -> Features:
        """(N, 3, S, S) uint8, in memory or mapped -> (N, d). names, progress: as of `of_images`.

        Raises InputError for other pixels, and where names are given that names an image of which the encoder makes no
        numbers.
        """
        size = self.encoder.spec.image_size
        if pixels.shape[1:] != (3, size, size) or pixels.dtype != np.uint8:
            raise InputError(
                f"The pixels are {pixels.dtype} of shape {pixels.shape}.",
                f"The encoder takes uint8 of shape (N, 3, {size}, {size}).",
            )

        def fill(place: npt.NDArray[np.uint8], row: int) -> None:
            place[:] = pixels[row]

        features = self._features(len(pixels), fill, progress)
        return features if names is None else _useful(features, names)

    def of_batch(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) uint8 on the device -> (B, d) float32: the mean of the views' unit features, where there are."""
        views = self.encoder.spec.views
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16),
            repeatable_convolutions(),
        ):
            x = batch.contiguous(memory_format=torch.channels_last).float() / 255
            if views == 1:
                found: torch.Tensor = self.encoder(x)
                return found
            return torch.stack([functional.normalize(self.encoder(view), dim=1) for view in _views(x, views)]).mean(0)

    def _pixels(self, image: bytes, name: str) -> npt.NDArray[np.uint8]:
        try:
            return self.encoder.spec.pixels(decode(image))
        except InputError as error:
            raise InputError(f"{name} cannot be embedded: {error.message}.", "Ingest it again.") from error

    def _features(
        self, count: int, fill: Callable[[npt.NDArray[np.uint8], int], None], progress: Progress | None
    ) -> Features:
        """fill: writes the pixels of a row, in a thread."""
        size, batch = self.encoder.spec.image_size, self.batch_size
        features = np.empty((count, self.encoder.dimension), np.float32)
        # One more than are ahead, for the one that is being computed.
        buffers = [
            torch.empty((batch, 3, size, size), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
            for _ in range(AHEAD + 1)
        ]
        starts = range(0, count, batch)

        def decode_rows(start: int, first: int, last: int) -> None:
            pixels = buffers[start // batch % len(buffers)].numpy()
            for row in range(first, last):
                fill(pixels[row - start], row)

        def begin(start: int) -> list[Future[None]]:
            end = min(start + batch, count)
            return [pool.submit(decode_rows, start, row, min(row + CHUNK, end)) for row in range(start, end, CHUNK)]

        with ThreadPoolExecutor(os.cpu_count(), "decode") as pool:
            decoding = deque(begin(start) for start in starts[:AHEAD])
            computing: tuple[int, torch.Tensor] | None = None
            for start in starts:
                for future in decoding.popleft():
                    future.result()
                pixels = buffers[start // batch % len(buffers)][: count - start]
                found = self.of_batch(pixels.to(self.device, non_blocking=True))
                if computing is not None:
                    _collect(computing, features, count, progress)
                computing = start, found
                # Into the buffer of the batch that was collected.
                if start + AHEAD * batch < count:
                    decoding.append(begin(start + AHEAD * batch))
            if computing is not None:
                _collect(computing, features, count, progress)
        return features


def embed(
    encoder: Encoder, pixels: npt.NDArray[np.uint8], device: str = "auto", progress: Progress | None = None
) -> Features:
    """`Embedder.of_pixels`, for one use of an encoder."""
    return Embedder.of(encoder, device).of_pixels(pixels, progress=progress)


def _useful(features: Features, names: Sequence[str]) -> Features:
    useless = np.flatnonzero(~(np.isfinite(features).all(1) & features.any(1)))
    if len(useless):
        listed = ", ".join(names[row] for row in useless[:NAMED]) + "..." * (len(useless) > NAMED)
        raise InputError(
            f"The encoder's features of {len(useless)} images are not numbers, or all zero: {listed}.",
            "Leave these images out, or use another encoder.",
        )
    return features


def _folded(network: nn.Module) -> nn.Module:
    """Batch norms computed by the convolutions before them: the same function, with fewer passes over memory."""
    try:
        folded = fx.symbolic_trace(network)
    except Exception:  # a network whose path depends on its input cannot be traced, and runs as it is
        return network
    calls = Counter(node.target for node in folded.graph.nodes if node.op == "call_module")
    for norm in list(folded.graph.nodes):
        before = norm.args[0] if norm.op == "call_module" and norm.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        convolution, batch_norm = folded.get_submodule(str(before.target)), folded.get_submodule(norm.target)
        # Subclasses may do anything else besides, and what else is made of the convolution's output needs it as it is.
        alone = len(before.users) == calls[before.target] == 1
        if (
            alone
            and type(convolution) is nn.Conv2d
            and type(batch_norm) is nn.BatchNorm2d
            and batch_norm.track_running_stats
        ):
            folded.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, batch_norm))
            norm.replace_all_uses_with(before)
            folded.graph.erase_node(norm)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded


def _collect(computed: tuple[int, torch.Tensor], features: Features, count: int, progress: Progress | None) -> None:
    """Waits for a batch, and with it for its pixels to have left their buffer."""
    start, found = computed
    features[start : start + len(found)] = found.cpu().numpy()
    if progress is not None:
        progress(start + len(found), count)


def _views(x: torch.Tensor, count: int) -> Iterator[torch.Tensor]:
    """The first of: the whole, the whole mirrored, then a corner at the image's size, mirrored, and so on."""
    size = x.shape[-1]
    part = round(CROP * size)
    far = size - part
    for number in range(count):
        view = x
        if number >= 2:
            top, left = ((0, 0), (far, far), (0, far), (far, 0))[number // 2 - 1]
            crop = x[:, :, top : top + part, left : left + part]
            view = functional.interpolate(crop, size=(size, size), mode="bilinear")
        yield view.flip(3) if number % 2 else view
