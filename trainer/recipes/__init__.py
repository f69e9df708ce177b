"""Recipes as files: how a data set of the literature is trained on, network and share of difficult pairs included."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tamis.encoders.names import check_network
from tamis.errors import InputError
from trainer.augmentation import as_augmentation, parsed
from trainer.recipe import USUAL, Recipe

OWN = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}
# What an experiment varies from run to run, or decides by the number of images.
LEFT_OUT = ("seed", "prior", "hardness", "usual_steps")


@dataclass(frozen=True)
class Taught:
    """All that a recipe says: how is trained, what determines the network, and which share of pairs is difficult.

    architecture, image_size: see `choose_spec`. pos_high, pos_low: see `tamis.curate`, which judges them. Raises
    InputError for a network that there is not.
    """

    recipe: Recipe = USUAL
    architecture: str = "auto"
    image_size: int | Literal["auto"] = "auto"
    pos_high: float | Literal["auto"] = "auto"
    pos_low: float = 0.95

    def __post_init__(self) -> None:
        check_network(self.architecture, self.image_size)


OF_RECIPE = [field.name for field in fields(Recipe) if field.name not in LEFT_OUT]
OF_ALL = [field.name for field in fields(Taught) if field.name != "recipe"]


def read_recipe(name: str) -> dict[str, Any]:
    """What a recipe states, by the names of OF_RECIPE and OF_ALL: one of OWN, or a TOML file of the same form.

    Raises InputError for what is no recipe, and for names or values that there are not.
    """
    path = OWN.get(name, Path(name))
    if path.suffix != ".toml":
        raise InputError(f"There is no recipe {name}.", f"Use {', '.join(OWN)}, or a file that ends in .toml.")
    given: dict[str, Any] = parsed(path, tomllib.loads, "recipe")
    unknown = [name for name in given if name not in (*OF_RECIPE, *OF_ALL)]
    if unknown:
        known = ", ".join((*OF_RECIPE, *OF_ALL))
        raise InputError(f"{path} names {unknown[0]!r:.99}, which is of no recipe.", f"Use some of {known}.")
    if "augmentation" in given:
        given["augmentation"] = as_augmentation(given["augmentation"])
    try:
        taught(given)
    except TypeError as error:
        raise InputError(f"{path} gives a value of a wrong type ({error}).", "Correct it there.") from error
    return given


def taught(given: Mapping[str, Any], recipe: str | None = None) -> Taught:
    """Of values by name, over what a recipe states; what is left out or None in both is as by default.

    Given steps replace a recipe's epochs, and the other way round. Raises InputError as `read_recipe`, `Recipe` and
    `Taught` do.
    """
    stated = {} if recipe is None else read_recipe(recipe)
    typed = {name: value for name, value in given.items() if value is not None}
    if typed.keys() & {"epochs", "steps"}:
        stated = {name: value for name, value in stated.items() if name not in ("epochs", "steps")}
    stated |= typed
    own = {field.name for field in fields(Recipe)}
    return Taught(
        Recipe(**{name: value for name, value in stated.items() if name in own}),
        **{name: value for name, value in stated.items() if name not in own},
    )
