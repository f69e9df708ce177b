"""Weights saved by other programs, brought to the names of a network: prefixes stripped, heads left out."""

import re
from dataclasses import dataclass

import torch
from torch import nn

State = dict[str, torch.Tensor]

# lightly keeps a ResNet as a sequence of its children.
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
IN_SEQUENCE = re.compile(r"(.*\b)4\.0\.conv1\.weight")
# A count that nothing depends on; older checkpoints lack it.
UNNEEDED = "num_batches_tracked"
NAMED = 3


@dataclass(frozen=True)
class Match:
    """weights: by the network's names, as far as they are found. missing, unexpected, other: names, of what is not
    there, of what the network does not know, and of what has another shape."""

    weights: State
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def found(self) -> bool:
        """Whether most of the network is there."""
        return len(self.weights) > len(self.missing) + len(self.other)

    @property
    def wrong(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.other)

    @property
    def problems(self) -> list[str]:
        """In words, with the first names of each kind."""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.other))
        return [
            f"{len(names)} {what}: {', '.join(names[:NAMED])}{'...' if len(names) > NAMED else ''}"
            for what, names in kinds
            if names
        ]


def match(state: State, network: nn.Module) -> Match:
    """What of a file's weights is the network's: below the prefix at which most of it is found, the first of equals.

    What lies beside the network's own modules, and where its classifier was, is not expected to fit and left out.
    """
    wanted = network.state_dict()
    state = _children_named(state)
    anchor = next(iter(wanted))
    prefixes = [name.removesuffix(anchor) for name in state if name == anchor or name.endswith(f".{anchor}")]
    prefix = max(prefixes, key=lambda prefix: sum(prefix + name in state for name in wanted), default="")
    below = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    modules = {name.partition(".")[0] for name in wanted}
    removed = {name for name, module in network.named_modules() if isinstance(module, nn.Identity)}
    return Match(
        weights={name: value for name, value in below.items() if name in wanted},
        missing=tuple(name for name in wanted if name not in below and not name.endswith(UNNEEDED)),
        unexpected=tuple(
            name
            for name in below
            if name not in wanted and name.partition(".")[0] in modules and name.rpartition(".")[0] not in removed
        ),
        other=tuple(name for name in wanted if name in below and below[name].shape != wanted[name].shape),
    )


def _children_named(state: State) -> State:
    places = [found.group(1) for name in state if (found := IN_SEQUENCE.fullmatch(name))]
    if not places:
        return state
    prefix = min(places, key=len)
    named = {}
    for name, value in state.items():
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            named[f"{prefix}{CHILDREN.get(number, number)}.{rest}"] = value
    return named
