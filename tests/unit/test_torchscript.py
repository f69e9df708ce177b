"""Encoders that are programs: refused unless allowed, held to what an encoder gives, stored and named as they came."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from programs import payload, scripted
from samples import digit_files
from torch import nn
from torchvision import models

from tamis.encoders.encoder import encoder_bytes, fingerprint, with_views
from tamis.encoders.files import load_encoder
from tamis.encoders.inference import Embedder
from tamis.encoders.loading import load_named
from tamis.encoders.names import parse_encoder
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError
from tamis.images import decode

# What PyTorch says of TorchScript whenever it loads some.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")

PHOTOS = [content for _, content in digit_files(3)]
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def resnet() -> models.ResNet:
    torch.manual_seed(0)
    return models.resnet18().eval()


def headless(network: models.ResNet) -> nn.Module:
    """(B, 3, S, S) to maps (B, 512, S / 32, S / 32)."""
    return nn.Sequential(*list(network.children())[:-2]).eval()


def saved(value: object) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink)
    return sink.getvalue()


def test_it_runs_only_where_it_is_allowed(tmp_path: Path) -> None:
    file, target, images = (tmp_path / name for name in ("program.pt", "touched", "touched.images"))
    file.write_bytes(payload(target))
    told = r"a program.* with the rights of this process.*state_dict\(\).*TAMIS_ALLOW_TORCHSCRIPT=true"
    for asked in (f"checkpoint:{file}", f"torchvision:resnet18@{file}"):
        with pytest.raises(InputError, match=told):
            load_named(parse_encoder(asked), Path)
    assert not target.exists()
    assert load_named(parse_encoder(f"checkpoint:{file}"), Path, allow_torchscript=True).dimension == 3
    # The refusals above were not for want of a program that shows.
    assert target.exists()
    assert images.exists()


def test_it_gives_the_features_of_the_network_it_was(resnet: models.ResNet) -> None:
    encoder = load_encoder(scripted(headless(resnet)), allow_torchscript=True)
    eager = load_encoder(saved(resnet.state_dict()))
    assert encoder.spec == replace(eager.spec, architecture="torchscript")
    assert encoder.dimension == 512
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack([encoder.spec.pixels(decode(photo)) for photo in PHOTOS])).float() / 255
        assert torch.equal(encoder(pixels), eager(pixels))
    for views in (1, 3):
        program, plain = (Embedder.of(with_views(each, views), "cpu", bf16=False) for each in (encoder, eager))
        found = program.of_images(PHOTOS, NAMES)
        assert found == pytest.approx(plain.of_images(PHOTOS, NAMES), rel=1e-3, abs=1e-4)
        assert np.array_equal(found, program.of_images(PHOTOS, NAMES))


def test_it_is_stored_as_its_file_and_named_by_its_bytes(resnet: models.ResNet) -> None:
    content = scripted(headless(resnet), image_size=64, resize=72, mean=[0.4, 0.4, 0.4], architecture="torchvision:x")
    encoder = load_encoder(content, allow_torchscript=True)
    assert encoder.spec == EncoderSpec("torchscript", 64, resize=72, mean=(0.4, 0.4, 0.4))
    assert encoder_bytes(encoder) == encoder_bytes(with_views(encoder, 2)) == content
    again = load_encoder(encoder_bytes(encoder), allow_torchscript=True)
    plain = load_encoder(scripted(headless(resnet)), allow_torchscript=True)
    assert fingerprint(again) == fingerprint(encoder)
    assert len({fingerprint(each) for each in (encoder, with_views(encoder, 2), plain)}) == 3


class Wrong(nn.Module):
    """Makes of images what no encoder makes, in a way of several."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = x.mean((2, 3))
        if self.way == "a number an image":
            return features[:, 0]
        if self.way == "no batch":
            return features.squeeze()
        if self.way == "three axes":
            return x[:, 0]
        if self.way == "not numbers":
            return features / 0
        if self.way == "integers":
            return features.int()
        if self.way == "other widths":
            return features[:, : x.shape[0]]
        raise ValueError("no images today")


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean((2, 3)), x


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Wrong("a number an image"), r"makes \(1,\) of \(1, 3, 224, 224\).*\(batch, d\)"),
        (Wrong("no batch"), r"makes \(3,\) of \(1, 3"),
        (Wrong("three axes"), r"makes \(1, 224, 224\) of"),
        (Wrong("not numbers"), "features are not numbers"),
        (Wrong("integers"), "no tensor of floats"),
        (Wrong("other widths"), r"makes \[1, 3\] features"),
        (Wrong("fails"), "fails on images: .*no images today"),
        (Pair(), "no tensor of floats"),
        (nn.Linear(2, 2), "fails on images: .*shapes cannot be multiplied"),
    ],
    ids=lambda value: getattr(value, "way", ""),
)
def test_what_makes_no_features_is_refused(network: nn.Module, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_encoder(scripted(network), allow_torchscript=True)


def archive(name: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr(name, b"")
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "architecture", "told"),
    [
        (lambda: scripted(Wrong("fails"), image_size=4096), None, "image size is 4096"),
        (lambda: scripted(Wrong("fails"), resize=96), None, "something else"),
        (lambda: scripted(Wrong("fails")), "torchvision:resnet18", "brings its own network.*checkpoint:FILE"),
        (lambda: scripted(Wrong("fails"))[:-40], None, "damaged"),
        (lambda: archive("x/constants.pkl"), None, "TorchScript that cannot be loaded: .+"),
        (
            lambda: saved(
                {
                    "format": "tamis-encoder-1",
                    "spec": {"architecture": "torchscript", "image_size": 224},
                    "state": {"w": torch.ones(1)},
                }
            ),
            None,
            "no TorchScript here",
        ),
    ],
    ids=["huge images", "no image size", "named", "cut", "empty", "weights alone"],
)
def test_what_is_described_or_named_wrongly_is_refused(
    content: Callable[[], bytes], architecture: str | None, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        load_encoder(content(), architecture, allow_torchscript=True)
