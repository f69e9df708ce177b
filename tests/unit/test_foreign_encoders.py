"""Encoders with weights of other programs: recognised, prepared as their weights expect, never run as code."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save
from torch import nn
from torchvision import models

from tamis.encoders.encoder import build_encoder, encoder_bytes, fingerprint, with_views
from tamis.encoders.files import load_encoder
from tamis.encoders.inference import Embedder
from tamis.encoders.loading import load_named
from tamis.encoders.names import encoder_forms, parse_encoder
from tamis.encoders.networks import outline
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError
from tamis.images import decode

State = dict[str, torch.Tensor]
SMALL_OF_TIMM = "test_resnet"
# 2.6 GB of weights.
HUGE = "torchvision:regnet_y_128gf"


def randomised(network: nn.Module) -> nn.Module:
    """With batch norms that do something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean = torch.randn(module.num_features) / 10
            module.running_var = torch.rand(module.num_features) + 0.5
    return network.eval()


@pytest.fixture(scope="module")
def resnet() -> models.ResNet:
    network = randomised(models.resnet18())
    assert isinstance(network, models.ResNet)
    return network


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """PNG files of uneven sides."""
    random = np.random.default_rng(0)
    files = []
    for width, height in ((300, 200), (91, 130), (256, 256)):
        sink = io.BytesIO()
        coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(sink, "png")
        files.append(sink.getvalue())
    return files


def names(images: list[bytes]) -> list[str]:
    return [f"{number}.png" for number in range(len(images))]


def saved(value: object) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink)
    return sink.getvalue()


def without_classifier(network: models.ResNet, images: list[torch.Tensor]) -> npt.NDArray[np.float32]:
    headless = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
    with torch.inference_mode():
        return np.asarray(headless(torch.stack(images)))


def test_a_torchvision_checkpoint_gives_the_features_of_torchvision(resnet: models.ResNet, photos: list[bytes]) -> None:
    encoder = load_encoder(saved(resnet.state_dict()))
    prepare = models.ResNet18_Weights.DEFAULT.transforms()
    expected = without_classifier(resnet, [prepare(decode(photo)) for photo in photos])
    features = Embedder.of(encoder, "cpu", bf16=False).of_images(photos, names(photos))
    assert encoder.spec.architecture == "torchvision:resnet18"
    # Where an image is enlarged, a pixel may be rounded to the next of 256 values.
    assert features == pytest.approx(expected, rel=1e-3, abs=2e-3)


def solo_learn(state: State) -> Any:
    heads = {"projector.0.weight": torch.ones(4, 4), "classifier.bias": torch.ones(10)}
    momentum = prefixed("momentum_backbone.", state, -1)
    return {"epoch": 3, "state_dict": {**prefixed("backbone.", state), **momentum, **heads}}


def moco(state: State) -> Any:
    query = {**prefixed("module.encoder_q.", state), "module.encoder_q.fc.0.weight": torch.ones(4, 4)}
    return {"state_dict": {**query, **prefixed("module.encoder_k.", state, -1), "module.queue": torch.ones(4, 8)}}


def lightly(state: State) -> Any:
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    children = {
        ".".join([numbers[name.partition(".")[0]], name.partition(".")[2]]): value
        for name, value in state.items()
        if not name.startswith("fc")
    }
    return {"state_dict": {**prefixed("backbone.", children), "projection_head.layers.0.weight": torch.ones(4, 4)}}


def prefixed(prefix: str, state: State, factor: float = 1) -> State:
    return {prefix + name: value * factor if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.parametrize(
    "form",
    [
        lambda state: saved(solo_learn(state)),
        lambda state: saved(moco(state)),
        lambda state: saved(lightly(state)),
        lambda state: saved(prefixed("module.", state)),
        lambda state: saved({"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}),
        lambda state: save(state),
        lambda state: save(prefixed("encoder.", state), {"format": "pt"}),
    ],
    ids=["solo-learn", "moco", "lightly", "parallel", "with optimiser", "safetensors", "safetensors with prefix"],
)
def test_checkpoints_of_training_programs_give_the_same_encoder(
    form: Callable[[State], bytes], resnet: models.ResNet
) -> None:
    state = resnet.state_dict()
    assert fingerprint(load_encoder(form(state))) == fingerprint(load_encoder(saved(state)))


def test_a_resnet_with_a_stem_for_cifar_is_shown_images_as_cifars() -> None:
    network = models.resnet18()
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    spec = load_encoder(saved(network.state_dict())).spec
    assert (spec.architecture, spec.image_size, spec.mean) == ("resnet18", 32, (0.4914, 0.4822, 0.4465))


def test_the_metadata_of_a_safetensors_file_say_what_it_is(resnet: models.ResNet) -> None:
    described = {"architecture": "torchvision:resnet18", "image_size": 96, "mean": [0.4, 0.4, 0.4], "resize": 112}
    spec = load_encoder(save(resnet.state_dict(), {"tamis": json.dumps(described)})).spec
    assert (spec.image_size, spec.resize, spec.mean) == (96, 112, (0.4, 0.4, 0.4))


def less(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith("layer4.1.conv2")}


def more(state: State) -> State:
    return {**state, "layer4.2.conv1.weight": torch.ones(1)}


@pytest.mark.parametrize(
    ("content", "architecture", "told"),
    [
        (lambda state: saved(less(state)), None, r"resnet18, but 1 missing: layer4\.1\.conv2\.weight"),
        (lambda state: saved(more(state)), None, r"resnet18, but 1 unexpected: layer4\.2\.conv1\.weight"),
        (lambda state: saved(state), "torchvision:resnet50", r"does not fit torchvision:resnet50: \d+ missing: "),
        (lambda state: saved(state), "torchvision:resnet99", "There is no encoder torchvision:resnet99"),
        (lambda state: saved(state), "timm:nonesuch", "There is no encoder timm:nonesuch"),
        (lambda state: saved({"a.weight": torch.ones(2)}), None, r"recognises: a\.weight.*NAME@FILE"),
        (lambda state: saved({"epoch": 3}), None, "no weights by name"),
        (lambda state: save(state)[:-9], None, "damaged safetensors|not an encoder checkpoint"),
        (lambda state: save(state, {"tamis": '{"architecture": "small"}'}), None, "something else"),
        (lambda state: save(state, {"tamis": "{"}), None, "something else"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_what_is_wrong(
    content: Callable[[State], bytes], architecture: str | None, told: str, resnet: models.ResNet, tmp_path: Path
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(content(resnet.state_dict()))
    with pytest.raises(InputError, match=told) as refused:
        load_encoder(file, architecture)
    assert architecture in {"torchvision:resnet99", "timm:nonesuch"} or str(file) in refused.value.message


LOAD_EACH = """
import sys, time
from pathlib import Path
from tamis.encoders.files import load_encoder
from tamis.errors import InputError

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024

load_encoder(Path(sys.argv[1]))
for name in sys.argv[2:]:
    before, began = peak(), time.monotonic()
    try:
        load_encoder(Path(name))
        print("taken", end=" ")
    except InputError as error:
        print("refused", end=" ")
    print(name, peak() - before, time.monotonic() - began)
"""


def compressed(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as small:
        for entry in archive.infolist():
            small.writestr(entry.filename, archive.read(entry))
    return sink.getvalue()


def test_a_small_file_that_claims_a_huge_network_takes_neither_memory_nor_time(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"architecture": HUGE, "image_size": 224}
    shapes = {name: value.shape for name, value in outline(EncoderSpec(**spec)).state_dict().items()}
    assert sum(shape.numel() for shape in shapes.values()) > 6e8
    repeated = {f"trunk.{name}": torch.zeros((1,) * len(shape)).expand(shape) for name, shape in shapes.items()}
    own = {"format": "tamis-encoder-1", "spec": spec}
    claims = {
        "own": saved({**own, "state": {"trunk.stem.0.weight": torch.zeros(1)}}),
        "described": save({"stem.0.weight": torch.zeros(1)}, {"tamis": json.dumps(spec)}),
        "repeated": saved({**own, "state": repeated}),
        "compressed": compressed(saved({"stem.0.weight": torch.zeros(2**26)})),
    }
    # Loaded first, for the memory of what is imported.
    real = build_encoder(EncoderSpec("torchvision:shufflenet_v2_x0_5", 32), 0)
    (tmp_path / "real").write_bytes(encoder_bytes(real))
    for name, content in claims.items():
        assert len(content) < 2**20
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_EACH, "real", *claims], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    told = [line.split() for line in done.stdout.splitlines()]
    assert [(verdict, name) for verdict, name, _, _ in told] == [("refused", name) for name in claims]
    for _, name, megabytes, seconds in told:
        assert float(megabytes) < 100, name
        assert float(seconds) < 10, name


def test_torchvisions_weights_are_taken_from_its_cache(
    resnet: models.ResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    torch.save(resnet.state_dict(), cached)
    asked = parse_encoder("torchvision:resnet18")
    assert fingerprint(load_named(asked, Path)) == fingerprint(load_encoder(saved(resnet.state_dict())))
    assert fingerprint(load_named(parse_encoder(f"torchvision:resnet18.IMAGENET1K_V1@{cached}"), Path)) == fingerprint(
        load_named(asked, Path)
    )


def test_weights_that_are_not_there_are_named_with_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # Nothing answers there, whatever network the tests run on.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"hub/checkpoints/resnet34-b627a593\.pth.*Put the file there.*resnet34@FILE"):
        load_named(parse_encoder("torchvision:resnet34"), Path)
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []


def test_a_network_of_timm_is_prepared_as_timm_says(photos: list[bytes], tmp_path: Path) -> None:
    network = randomised(timm.create_model(SMALL_OF_TIMM))
    file = tmp_path / "weights.safetensors"
    file.write_bytes(save(network.state_dict()))
    encoder = load_named(parse_encoder(f"timm:{SMALL_OF_TIMM}@{file}"), Path)
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    with torch.inference_mode():
        maps = network.forward_features(torch.stack([prepare(decode(photo)) for photo in photos]))
        expected = np.asarray(network.forward_head(maps, pre_logits=True))
    features = Embedder.of(encoder, "cpu", bf16=False).of_images(photos, names(photos))
    assert features == pytest.approx(expected, abs=2e-3)


def test_timms_weights_are_taken_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomised(timm.create_model(SMALL_OF_TIMM))
    model = tmp_path / "models--timm--test_resnet.r160_in1k"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(save(network.state_dict()))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = load_named(parse_encoder(f"timm:{SMALL_OF_TIMM}"), Path)
    named = load_encoder(saved(network.state_dict()), f"timm:{SMALL_OF_TIMM}")
    assert fingerprint(cached) == fingerprint(named)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'tamis\[timm\]'"):
        load_named(parse_encoder(f"timm:{SMALL_OF_TIMM}"), Path)


def test_bf16_and_folded_norms_hardly_turn_the_features(resnet: models.ResNet, photos: list[bytes]) -> None:
    encoder = load_encoder(saved(resnet.state_dict()))
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack([encoder.spec.pixels(decode(photo)) for photo in photos]))
        plain = np.asarray(encoder(pixels.float() / 255))
    for bf16 in (False, True):
        found = Embedder.of(encoder, "cpu", bf16).of_images(photos, names(photos))
        again = Embedder.of(encoder, "cpu", bf16).of_images(photos, names(photos))
        assert np.array_equal(found, again)
        cosine = (found * plain).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(plain, axis=1)
        assert cosine.min() > (0.999 if bf16 else 0.99999)


def test_views_are_averaged_and_change_the_fingerprint(photos: list[bytes]) -> None:
    encoder = build_encoder(EncoderSpec("small", 32), 0)
    mirrored = []
    for photo in photos:
        sink = io.BytesIO()
        decode(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(sink, "png")
        mirrored.append(sink.getvalue())
    one, two, ten = (
        Embedder.of(with_views(encoder, views), "cpu", bf16=False).of_images(photos, names(photos))
        for views in (1, 2, 10)
    )
    # An image and its mirror image are the same two views.
    both = Embedder.of(with_views(encoder, 2), "cpu", bf16=False).of_images(mirrored, names(mirrored))
    assert two == pytest.approx(both, abs=1e-3)
    assert not np.allclose(two, ten)
    assert np.linalg.norm(ten, axis=1).max() <= 1.0001
    assert encoder.spec.views == 1
    assert len({fingerprint(with_views(encoder, views)) for views in (1, 2, 10)}) == 3
    assert fingerprint(with_views(encoder, 1)) == fingerprint(encoder)
    assert one.shape == ten.shape
    with pytest.raises(InputError, match="number of views is 11"):
        with_views(encoder, 11)


def test_images_that_cannot_be_embedded_are_named(photos: list[bytes]) -> None:
    encoder = build_encoder(EncoderSpec("small", 16), 0)
    damaged = [*photos, photos[0][:200]]
    with pytest.raises(InputError, match=r"3\.png cannot be embedded: the image cannot be decoded"):
        Embedder.of(encoder, "cpu").of_images(damaged, names(damaged))
    with torch.no_grad():
        next(encoder.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match=r"features of 3 images are not numbers, or all zero: 0\.png, 1"):
        Embedder.of(encoder, "cpu").of_images(photos, names(photos))


def test_many_batches_are_embedded_in_order_and_counted(photos: list[bytes]) -> None:
    embedder = Embedder.of(build_encoder(EncoderSpec("small", 16), 0), "cpu")
    images = [photos[number % 3] for number in range(3 * embedder.batch_size + 5)]
    counted = []
    features = embedder.of_images(images, names(images), progress=lambda done, total: counted.append((done, total)))
    size = embedder.batch_size
    assert counted == [(done, len(images)) for done in (size, 2 * size, 3 * size, len(images))]
    one = embedder.of_images(photos, names(photos))
    for number in range(3):
        assert features[number::3] == pytest.approx(np.broadcast_to(one[number], features[number::3].shape), abs=0.02)


def test_embeddings_have_no_views() -> None:
    parse_encoder("embeddings:own.npy").check_options(views=1)
    with pytest.raises(InputError, match="no views"):
        parse_encoder("embeddings:own.npy").check_options(views=2)


@pytest.mark.parametrize("name", ["embeddings:own.npy", "torchvision:resnet18", "checkpoint:encoder.pt"])
def test_what_is_not_trained_takes_no_settings_of_training(name: str) -> None:
    usual = {"architecture": "auto", "image_size": "auto", "epochs": None, "steps": None}
    parse_encoder(name).check_options(1, **usual)
    for setting in ({"architecture": "small"}, {"image_size": 32}, {"epochs": 1}, {"steps": 1}):
        parse_encoder("simclr").check_options(1, **(usual | setting))
        with pytest.raises(InputError, match=f"not trained here: {next(iter(setting))} would do nothing"):
            parse_encoder(name).check_options(1, **(usual | setting))


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("vgg", False), ("simclr:x", False), ("checkpoint", False), ("embeddings:", False), ("torchvision:", False),
        ("torchvision:@file", False), ("timm:a@", False), ("embeddings:a.npy", True), ("torchvision:a@/etc/x", True),
    ],
)  # fmt: skip
def test_what_names_no_encoder_is_refused_with_the_forms(text: str, server: bool) -> None:
    with pytest.raises(InputError, match=r"Use .*\w"):
        parse_encoder(text, server=server)
    assert "checkpoint:FILE" in encoder_forms()
    assert "checkpoint:FINGERPRINT" in encoder_forms(server=True)
