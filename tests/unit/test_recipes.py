"""Recipes as files: what they say, what is typed over them, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from service.bodies import Arm, NewTraining
from service.routes.trainings import ARMS as DEFAULT_ARMS
from tamis.errors import InputError
from trainer.arms import ARMS, CONTROLS
from trainer.augmentation import SIMCLR
from trainer.recipe import FLAG_SOURCES, LOSSES, METHODS, OF_TEXTS, Recipe
from trainer.recipes import OWN, read_recipe, taught


def test_the_five_sets_are_taught_as_their_papers_say() -> None:
    found = {name: taught({}, name) for name in OWN}
    assert {name: (each.architecture, each.image_size, each.recipe.epochs) for name, each in found.items()} == {
        "cifar10": ("resnet18", 32, 1000),
        "cifar100": ("resnet18", 32, 1000),
        "stl10": ("resnet18", 64, 2000),
        "tiny-imagenet": ("resnet18", 64, 1000),
        "imagenet": ("resnet50", 224, 100),
    }
    assert {name: each.pos_high for name, each in found.items()} == {
        "cifar10": 0.1,
        "cifar100": 0.2,
        "stl10": 0.1,
        "tiny-imagenet": 0.005,
        "imagenet": 0.001,
    }
    ermolov = found["cifar10"].recipe
    assert (ermolov.batch_size, ermolov.temperature, ermolov.learning_rate) == (512, 0.5, 3e-3)
    assert ermolov.augmentation == replace(SIMCLR, grayscale=0.1, blur=0.0)
    chen = found["imagenet"].recipe
    assert (chen.optimiser, chen.batch_size, chen.learning_rate, chen.warm_up) == ("lars", 4096, 4.8, 0.1)
    assert chen.augmentation == replace(
        SIMCLR, scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2
    )


def test_what_is_typed_is_over_what_the_recipe_says() -> None:
    given = {"batch_size": 8, "steps": 5, "architecture": "small", "method": None}
    found = taught(given, "cifar10")
    assert (found.architecture, found.image_size, found.pos_high) == ("small", 32, 0.1)
    assert (found.recipe.batch_size, found.recipe.steps, found.recipe.epochs) == (8, 5, None)
    assert (found.recipe.method, found.recipe.temperature) == ("simclr", 0.5)
    assert taught({}).recipe == Recipe()


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('method = "moco"\nqueue = 100\npos_low = 0.9\n[augmentation]\nflip = 0.0\n')
    found = taught({}, str(tmp_path / "own.toml"))
    assert (found.recipe.method, found.recipe.queue, found.pos_low) == ("moco", 100, 0.9)
    assert found.recipe.augmentation == replace(SIMCLR, flip=0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "names 'epoch', which is of no recipe"),
        ("seed = 3", "names 'seed', which is of no recipe"),
        ("epochs = 3\nsteps = 4", "Both epochs and steps"),
        ("epochs = 0", "epochs is 0"),
        ('epochs = "3"', "gives a value of a wrong type"),
        ("temperature = 0.0", "temperature is 0.0"),
        ('optimiser = "adam"', "no optimiser 'adam'. Use adamw or sgd or lars"),
        ('architecture = "vgg"', "no architecture 'vgg'"),
        ("image_size = 3", "image size is 3"),
        ("[augmentation]\nflip = 2.0", "augmentation flip is 2.0"),
        ("augmentation = 3", "Augmentations are names with values"),
        ("= 3", "does not parse"),
    ],
)
def test_what_is_no_recipe_is_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(str(tmp_path / "own.toml"))


def test_a_recipe_that_there_is_not_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no recipe cifar\. Use cifar10, cifar100, imagenet, stl10"):
        read_recipe("cifar")
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(str(tmp_path / "nowhere.toml"))


def test_the_service_knows_the_names_that_the_trainer_does() -> None:
    """It may not import the trainer, whose names a request's body repeats."""

    def names(field: str) -> tuple[str, ...]:
        annotation = NewTraining.model_fields[field].annotation
        return tuple(name for name in (get_args(get_args(annotation)[0]) or get_args(annotation)) if name)

    # A server has no texts.
    assert names("method") == tuple(method for method in METHODS if method != OF_TEXTS)
    assert names("loss") == LOSSES
    assert names("flags") == FLAG_SOURCES
    assert names("recipe") == tuple(OWN)
    assert set(get_args(Arm)) == {*ARMS, *(control for controls in CONTROLS.values() for control in controls)}
    assert tuple(DEFAULT_ARMS) == tuple(CONTROLS)
