"""What a curation is asked for: the same values in a command, in a row of the catalogue and in a manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Request:
    """encoder: as tamis/encoders/names.py has them, without a file's path.

    architecture, image_size, epochs, steps: of the `simclr` encoder, see `choose_spec` and `Recipe`. views: of each
    image, whose features are averaged. device: auto is what the place has. The rest: as of `tamis.curate`.
    """

    encoder: str = "simclr"
    architecture: str = "auto"
    image_size: int | Literal["auto"] = "auto"
    epochs: int | None = None
    steps: int | None = None
    views: int = 1
    classes: int | Literal["auto"] = "auto"
    pos_high: float | Literal["auto"] = "auto"
    pos_low: float = 0.95
    neighbours: int = 64
    score: str = "blend"
    seed: int = 0
    device: str = "auto"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def request_from(parameters: Mapping[str, Any]) -> Request:
    """The request that a row's parameters are; what an earlier version did not know has its default."""
    known = {field.name for field in fields(Request)}
    return Request(**{name: value for name, value in parameters.items() if name in known})
