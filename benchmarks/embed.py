"""Embedding image files against the network alone on pixels that are there already, and against a plain DataLoader."""

import io
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import machine
from tamis.encoders.encoder import Encoder, build_encoder
from tamis.encoders.inference import Embedder
from tamis.encoders.networks import library_spec
from tamis.encoders.spec import EncoderSpec
from tamis.images import decode

# A round takes as long with torchvision's ResNet-18 and so many times the images.
LIGHTER = 4
WARM_UP = 32


def run(count: int = 256, rounds: int = 3, image_size: int = 64) -> Iterator[tuple[str, Any]]:
    """Yields each figure as it is known: images a second, medians over rounds in which all take turns, and ratios.

    Once with the ResNet-18 that is trained here on images of 64 pixels, once with torchvision's, whose stem leaves a
    fifteenth of the work, so that decoding weighs more.
    """
    yield "machine", machine()
    files = jpegs(LIGHTER * count, image_size)
    yield "size", {"pixels": image_size, "bytes": sum(map(len, files)) // len(files), "rounds": rounds}
    yield "resnet18", compare(EncoderSpec("resnet18", image_size), files[:count], rounds)
    published = replace(library_spec("torchvision:resnet18"), image_size=image_size, resize=image_size)
    yield "torchvision:resnet18", compare(published, files, rounds)


def compare(spec: EncoderSpec, files: Sequence[bytes], rounds: int) -> dict[str, Any]:
    encoder = build_encoder(spec, 0).eval()
    ours, plain = Embedder.of(encoder), Embedder.of(encoder, bf16=False)
    encoder = encoder.to(ours.device)
    names = [str(number) for number in range(len(files))]
    works: dict[str, Callable[[Sequence[bytes]], Any]] = {
        "ours": lambda files: ours.of_images(files, names),
        "network alone": lambda files: alone(ours, len(files)),
        "network alone, f32": lambda files: alone(plain, len(files)),
        "DataLoader, f32": lambda files: with_data_loader(encoder, files, ours.batch_size),
    }
    for work in works.values():
        work(files[:WARM_UP])
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work(files)
            times[name].append(time.perf_counter() - start)
    # Ratios of neighbours in time: what else the machine does changes from round to round.
    ratios = {
        name: statistics.median(theirs / own for theirs, own in zip(times[name], times["ours"], strict=True))
        for name in works
        if name != "ours"
    }
    return {
        "precision": "bf16" if ours.bf16 else "f32",
        "batch": ours.batch_size,
        "images": len(files),
        "images_per_second": {name: len(files) / statistics.median(taken) for name, taken in times.items()},
        "ours_as_share_of": ratios,
        "least_cosine_to_f32": least_cosine(ours.of_images(files, names), plain.of_images(files, names)),
    }


def alone(embedder: Embedder, count: int) -> None:
    """The network in the same batches, on random numbers that lie on the device as it likes them best."""
    size, batch = embedder.encoder.spec.image_size, embedder.batch_size
    x = torch.randn(batch, 3, size, size, device=embedder.device).to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast(embedder.device.type, torch.bfloat16, enabled=embedder.bf16):
        for start in range(0, count, batch):
            embedder.encoder.trunk(x[: count - start])
    if embedder.device.type == "cuda":
        torch.cuda.synchronize()


class Files(Dataset[torch.Tensor]):
    """What a user would write: Pillow and a tensor."""

    def __init__(self, files: Sequence[bytes], spec: EncoderSpec) -> None:
        self._files, self._spec = files, spec

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(self._spec.pixels(decode(self._files[number]))).float() / 255


def with_data_loader(encoder: Encoder, files: Sequence[bytes], batch_size: int) -> npt.NDArray[np.float32]:
    device = next(encoder.parameters()).device
    loader = DataLoader(
        Files(files, encoder.spec), batch_size, num_workers=os.cpu_count() or 1, pin_memory=device.type == "cuda"
    )
    with torch.inference_mode():
        return np.concatenate([encoder(batch.to(device, non_blocking=True)).cpu().numpy() for batch in loader])


def least_cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def jpegs(count: int, size: int) -> list[bytes]:
    """Smooth random images, which compress about as photos do."""
    random = np.random.default_rng(0)
    files = []
    for coarse in random.integers(0, 256, (count, 8, 8, 3), np.uint8):
        sink = io.BytesIO()
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(sink, "jpeg", quality=90)
        files.append(sink.getvalue())
    return files
