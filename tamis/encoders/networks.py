"""Networks by the name of their architecture, without weights and without a classifier."""

import importlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tamis.encoders.names import ARCHITECTURES, TORCHSCRIPT
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError

# With few pixels the max-pool and the wide stem of an ImageNet network would leave nothing to look at.
PLAIN_STEM_UP_TO = 64
# Their features are not those before one last linear layer, or they change the pixels by themselves.
UNFIT = ("googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1")
WEIGHTS_MADE_BY = (torch.empty, torch.zeros, torch.ones, torch.full)


def build_network(spec: EncoderSpec) -> tuple[nn.Module, int]:
    """A network that takes (B, 3, S, S), and the number d of its features: (B, d), or maps (B, d, H, W) to be averaged.

    Raises InputError when a library has no such network or is not installed.
    """
    library, _, name = spec.architecture.partition(":")
    if library == "torchvision":
        return _of_torchvision(name, spec.image_size)
    if library == "timm":
        return _of_timm(name, spec.image_size)
    if library == TORCHSCRIPT:
        raise InputError("There is no TorchScript here to go with these weights.", "Send the TorchScript file itself.")
    return _small() if library == "small" else _resnet(library, spec.image_size)


def outline(spec: EncoderSpec) -> nn.Module:
    """The same network without memory for its weights, of which it knows names, types and shapes."""
    with _Weightless():
        return build_network(spec)[0]


def library_spec(architecture: str) -> EncoderSpec:
    """How a library says that images are prepared for `torchvision:NAME[.WEIGHTS]` or `timm:NAME`.

    Raises InputError when it has no such network or is not installed.
    """
    library, _, name = architecture.partition(":")
    if library == "torchvision":
        name, weights = torchvision_weights(name)
        found = weights.transforms()
        size, resize, mean, deviation = found.crop_size[0], found.resize_size[0], found.mean, found.std
        interpolation = found.interpolation.value
    else:
        config = timm().data.resolve_data_config(pretrained_cfg=timm_config(name))
        _, size, width = config["input_size"]
        if width != size or config["crop_mode"] != "center":
            raise InputError(f"timm:{name} takes images of a form that Tamis does not prepare.", "Use another.")
        resize, mean, deviation = int(size / config["crop_pct"]), config["mean"], config["std"]
        interpolation = config["interpolation"]
    return EncoderSpec(
        f"{library}:{name}",
        size,
        resize=max(size, resize),
        interpolation=interpolation,
        mean=_three(mean),
        deviation=_three(deviation),
    )


def torchvision_weights(name: str) -> tuple[str, Any]:
    """The network's name and the entry of torchvision's registry for NAME or NAME.WEIGHTS; without WEIGHTS its best."""
    from torchvision import models

    model, _, tag = name.partition(".")
    known = [name for name in models.list_models(module=models) if name not in UNFIT]
    if model not in known:
        raise InputError(f"There is no encoder torchvision:{model}.", f"torchvision has {', '.join(known)}.")
    entries = models.get_model_weights(model)
    if tag and tag not in entries.__members__:
        raise InputError(f"{model} has no weights {tag!r}.", f"torchvision has {', '.join(entries.__members__)}.")
    return model, entries[tag or "DEFAULT"]


def timm() -> Any:
    """The library. Raises InputError when it is not installed."""
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise InputError("timm is not installed.", "Install it with `pip install 'tamis[timm]'`.") from error


def timm_config(name: str) -> dict[str, Any]:
    library = timm()
    # Other names could lead to a remote repository or a folder.
    if not library.is_model(name) or not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"There is no encoder timm:{name}.", f"timm.list_models('{name[:4]}*') lists what is like it.")
    config = library.get_pretrained_cfg(name)
    if config is None:
        raise InputError(f"timm does not say how images are prepared for {name}.", "Use one of timm.list_pretrained().")
    return {key: value for key, value in config.to_dict().items() if value is not None}


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _of_torchvision(name: str, image_size: int) -> tuple[nn.Module, int]:
    from torchvision import models

    name, _ = torchvision_weights(name)
    # A vision transformer has a learnt embedding of each position.
    network = models.get_model(name, weights=None, **({"image_size": image_size} if name.startswith("vit_") else {}))
    path, last = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    network.set_submodule(path, nn.Identity())
    return network, last.in_features


def _of_timm(name: str, image_size: int) -> tuple[nn.Module, int]:
    # A vision transformer has a learnt embedding of each position.
    sized = {"img_size": image_size} if timm_config(name).get("fixed_input_size") else {}
    network = timm().create_model(name, pretrained=False, num_classes=0, **sized)
    return network, int(getattr(network, "head_hidden_size", network.num_features))


def _small() -> tuple[nn.Module, int]:
    """Three residual stages of 32, 64 and 128 channels at 1/2, 1/4 and 1/8 of the image's side."""
    widths = (32, 64, 128)
    stem = [nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    stages = [
        _Residual(before, after, stride)
        for before, after, stride in zip((widths[0], *widths), widths, (1, 2, 2), strict=False)
    ]
    return nn.Sequential(*stem, *stages), widths[-1]


def _resnet(name: str, image_size: int) -> tuple[nn.Module, int]:
    from torchvision import models

    assert name in ARCHITECTURES
    network: Any = models.get_model(name, weights=None)
    layers = OrderedDict(list(network.named_children())[:-2])
    if image_size <= PLAIN_STEM_UP_TO:
        layers["conv1"] = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        del layers["maxpool"]
    return nn.Sequential(layers), network.fc.in_features


class _Weightless(TorchFunctionMode):
    """Like `torch.device("meta")`, but not for ranges and chance: some networks read these while they are built."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if func in WEIGHTS_MADE_BY else {})})


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
