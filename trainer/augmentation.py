"""What views of an image may differ by, and how it is read from a file. Light to import."""

import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

from tamis.errors import InputError

Range: TypeAlias = tuple[float, float]

# What each field may be at most; all are 0 or more.
MOST = {"scale": 1.0, "ratio": math.inf, "hue": 0.5}


@dataclass(frozen=True)
class Augmentation:
    """What is drawn at random, for each view of each image alike; by default as SimCLR does (Chen et al. 2020,
    appendix A), with strengths halved as it has them for CIFAR-10, which is `SIMCLR`.

    scale, ratio: area of the crop as a share of the image, and its aspect ratio; both as in Inception's crop.
    flip: probability of mirroring left and right.
    jitter: probability of a change of brightness, contrast and saturation, each by a factor within 1 +- its strength,
        and of hue, by a turn within +- its share of a full one.
    grayscale: probability of losing all colour.
    blur: probability of a Gaussian blur, on images of 64 pixels or more.
    Raises InputError for a value that is out of range.
    """

    scale: Range = (0.2, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 0.5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            most = MOST.get(name, 1.0)
            if name in ("scale", "ratio"):
                if not (_is_range(value) and 0 < value[0] <= value[1] <= most):
                    upper = f", of at most {most:g}" if math.isfinite(most) else ""
                    raise InputError(
                        f"The augmentation {name} is {value!r:.99}.",
                        f"Use two numbers above 0{upper}, the lower one first.",
                    )
            elif not (_is_number(value) and 0 <= value <= most):
                raise InputError(f"The augmentation {name} is {value!r:.99}.", f"Use a number from 0 to {most:g}.")


def read_augmentation(file: str | Path) -> Augmentation:
    """Of a .toml or .json file that names some of the fields; the others are as they are by default.

    Raises InputError for what is no such file, and for fields that there are not or whose values are out of range.
    """
    path = Path(file)
    readers = {".toml": tomllib.loads, ".json": json.loads}
    if path.suffix not in readers:
        raise InputError(f"{path} is neither TOML nor JSON.", "Name a file that ends in .toml or .json.")
    return as_augmentation(parsed(path, readers[path.suffix], "augmentations"))


def parsed(path: Path, reader: Callable[[str], Any], what: str) -> Any:
    """What a reader makes of a file's text. what: it is the file of. Raises InputError where there is no such text."""
    try:
        return reader(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).", f"Give the file of the {what}.") from error
    except ValueError as error:
        raise InputError(f"{path} does not parse ({error}).", "Correct it there.") from error


def as_augmentation(given: Any) -> Augmentation:
    """Of names and values as TOML and JSON have them."""
    names = [field.name for field in fields(Augmentation)]
    if not isinstance(given, dict):
        raise InputError("Augmentations are names with values.", f"Use some of {', '.join(names)}.")
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(f"There is no augmentation {unknown[0]!r:.99}.", f"Use some of {', '.join(names)}.")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Augmentation(**values)


def _is_range(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


SIMCLR = Augmentation()
