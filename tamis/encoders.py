"""Image encoders: built from a seed, stored without code, named by a fingerprint of their weights; and embeddings."""

import hashlib
import io
import json
import math
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

from tamis.device import resolve_device
from tamis.errors import InputError

ARCHITECTURES = ("small", "resnet18")
MIN_SIZE, MAX_SIZE = 16, 224
SMALL_UP_TO = 40
# With few pixels the max-pool and the wide stem of an ImageNet network would leave nothing to look at.
PLAIN_STEM_UP_TO = 64
FORMAT = "tamis-encoder-1"
MEAN, DEVIATION = 0.5, 0.25


@dataclass(frozen=True)
class EncoderSpec:
    """What determines an encoder but for its weights. Raises InputError for an unknown architecture or size."""

    architecture: str
    image_size: int

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise InputError(f"There is no architecture {self.architecture!r}.", f"Use {' or '.join(ARCHITECTURES)}.")
        if type(self.image_size) is not int or not MIN_SIZE <= self.image_size <= MAX_SIZE:
            raise InputError(f"The image size is {self.image_size!r}.", f"Use {MIN_SIZE} to {MAX_SIZE} pixels.")


class Encoder(nn.Module):
    """(B, 3, S, S) float within 0 to 1 -> (B, dimension) float32, before any projection head."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.trunk, self.dimension = _small() if spec.architecture == "small" else _resnet18(spec.image_size)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.trunk((x - MEAN) / DEVIATION)
        return maps.float().mean((2, 3))


def build_encoder(spec: EncoderSpec, seed: int) -> Encoder:
    """An untrained encoder on the CPU. The same seed gives the same weights; torch's global generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(spec)


def choose_spec(widths: npt.ArrayLike, heights: npt.ArrayLike) -> EncoderSpec:
    """The spec for images of these sizes in pixels.

    The image size is the multiple of 8 nearest to the median shorter side, between 16 and 224 (halfway between two the
    lower, which is cheaper: 28 gives 24). The small architecture serves up to 40 pixels, then ResNet-18.
    Raises InputError when there are no images, or one has no size.
    """
    sides = np.minimum(np.asarray(widths), np.asarray(heights))
    if sides.size == 0 or sides.min() < 1:
        raise InputError("Images without a width and a height cannot be trained on.", "Curate from the images.")
    size = min(max(8 * math.ceil(float(np.median(sides)) / 8 - 0.5), MIN_SIZE), MAX_SIZE)
    return EncoderSpec("small" if size <= SMALL_UP_TO else "resnet18", size)


def encoder_bytes(encoder: Encoder) -> bytes:
    """The encoder as a file's content, for `load_encoder`."""
    state = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    sink = io.BytesIO()
    torch.save({"format": FORMAT, "spec": asdict(encoder.spec), "state": state}, sink)
    return sink.getvalue()


def load_encoder(content: bytes | Path) -> Encoder:
    """The encoder in a file or its content, on the CPU, in evaluation mode.

    Only tensors and plain values are read: pickled objects and TorchScript are refused, and no code in them is run.
    Raises InputError for anything that `encoder_bytes` did not write.
    """
    name, hint = ("The checkpoint", "Give an encoder.pt that Tamis wrote.")
    try:
        if isinstance(content, Path):
            name = str(content)
            content = content.read_bytes()
        stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.", hint) from error
    except Exception as error:  # torch.load raises whatever a damaged file makes it stumble over
        raise InputError(f"{name} is not an encoder checkpoint.", hint) from error
    try:
        if stored["format"] != FORMAT:
            raise InputError(f"{name} has format {stored['format']!r}; this version reads {FORMAT!r}.", hint)
        encoder = build_encoder(EncoderSpec(**stored["spec"]), 0)
        encoder.load_state_dict(stored["state"])
    except (AttributeError, KeyError, TypeError, IndexError, RuntimeError) as error:
        raise InputError(f"{name} holds something else than an encoder.", hint) from error
    return encoder.eval()


def fingerprint(encoder: Encoder) -> str:
    """sha256 over the spec and each tensor's name, type, shape and bytes: independent of the file that holds them."""
    digest = hashlib.sha256(json.dumps(asdict(encoder.spec), sort_keys=True).encode())
    for name, value in sorted(encoder.state_dict().items()):
        array = value.detach().cpu().contiguous().numpy()
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def to_pixels(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """(3, size, size) uint8: the centred square of an RGB image, resampled with antialiasing.

    The same as shrinking the shorter side to `size` and cutting out the centre, at no cost for the rest of the image.
    """
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    resized = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def embed(
    encoder: Encoder, pixels: npt.NDArray[np.uint8], device: str = "auto", batch_size: int = 256
) -> npt.NDArray[np.float32]:
    """(N, 3, S, S) uint8, in memory or mapped -> (N, d) float32 features, in evaluation mode.

    The same pixels, batch size and machine give the same bits. The encoder is moved to the device and left there.
    Raises InputError when S is not the encoder's image size, or there is no such device.
    """
    size = encoder.spec.image_size
    if pixels.shape[1:] != (3, size, size) or pixels.dtype != np.uint8:
        raise InputError(
            f"The pixels are {pixels.dtype} of shape {pixels.shape}; the encoder takes uint8 (N, 3, {size}, {size})."
        )
    place = resolve_device(device)
    encoder.to(place).eval()
    features = np.empty((len(pixels), encoder.dimension), np.float32)
    with torch.inference_mode(), torch.backends.cudnn.flags(benchmark=False, deterministic=True):
        for start in range(0, len(pixels), batch_size):
            batch = torch.from_numpy(np.array(pixels[start : start + batch_size])).to(place)
            with torch.autocast(place.type, torch.bfloat16, enabled=place.type == "cuda"):
                found = encoder(batch.to(memory_format=torch.channels_last).float() / 255)
            features[start : start + batch_size] = found.cpu().numpy()
    return features


def load_embeddings(path: Path) -> npt.NDArray[np.floating[Any]]:
    """Embeddings a user brings: (N, d) floats from .npy (mapped, not read) or Parquet, told apart by their content.

    A Parquet file has one column of equally long lists of floats, or float columns only.
    Raises InputError for other files, pickled objects, other shapes and types, nulls and ragged rows.
    """
    hint = "Give an (N, d) float array as .npy, or a Parquet file with one list column or d columns of floats."
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic == b"\x93NUMPY":
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        elif magic[:4] == b"PAR1":
            array = _matrix(pq.read_table(path))
        else:
            raise ValueError("it is neither .npy nor Parquet")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", hint) from error
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} does not hold embeddings: {error}.", hint) from error
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind != "f":
        raise InputError(f"{path} holds {array.dtype} of shape {array.shape}.", hint)
    return array


def _matrix(table: pa.Table) -> npt.NDArray[Any]:
    columns = [column.combine_chunks() for column in table.itercolumns()]
    if any(column.null_count for column in columns):
        raise ValueError("there are nulls")
    if len(columns) == 1 and not pa.types.is_floating(columns[0].type):
        column = columns[0]
        if not hasattr(column.type, "value_type") or not pa.types.is_floating(column.type.value_type):
            raise ValueError(f"its column is of type {column.type}")
        values = column.flatten()
        width = len(values) // max(1, len(column))
        if values.null_count or any(length.as_py() != width for length in column.value_lengths().unique()):
            raise ValueError("its lists are not equally long, or hold nulls")
        return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), width)
    if not columns or not all(pa.types.is_floating(column.type) for column in columns):
        raise ValueError(f"its columns are of types {', '.join(sorted({str(c.type) for c in columns}))}")
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)


def _small() -> tuple[nn.Module, int]:
    """Three residual stages of 32, 64 and 128 channels at 1/2, 1/4 and 1/8 of the image's side."""
    widths = (32, 64, 128)
    stem = [nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    stages = [
        _Residual(before, after, stride)
        for before, after, stride in zip((widths[0], *widths), widths, (1, 2, 2), strict=False)
    ]
    return nn.Sequential(*stem, *stages), widths[-1]


def _resnet18(image_size: int) -> tuple[nn.Module, int]:
    from torchvision.models import resnet18

    network: Any = resnet18(weights=None)
    layers = OrderedDict(list(network.named_children())[:-2])
    if image_size <= PLAIN_STEM_UP_TO:
        layers["conv1"] = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        del layers["maxpool"]
    return nn.Sequential(layers), 512


class _Residual(nn.Module):
    """The basic block of He et al. 2016, section 3.3."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(hidden)) + self.shortcut(x))
