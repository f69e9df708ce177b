"""Each recipe's own data set, in its exact format and a few images long, through the one command that starts it."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from layouts import cifar10_binary, cifar100_binary, stl10_images, write
from PIL import Image
from samples import digit_files

from tamis.commands.cli import main
from tamis.manifest import read_manifest

TRAIN, TEST = 40, 20
SHORT = ["--arms", "baseline", "--seeds", "2", "--steps", "1", "--batch-size", "8", "--classes", "5", "--quiet"]


def digits(side: int) -> tuple[np.ndarray, list[int]]:
    """(TRAIN + TEST, side, side, 3) uint8 and the labels: of each digit that is there some in both."""
    files = digit_files(TRAIN + TEST)
    order = np.random.default_rng(0).permutation(len(files))
    images = [Image.open(io.BytesIO(files[row][1])).convert("RGB").resize((side, side)) for row in order]
    return np.stack([np.asarray(image) for image in images]), [int(files[row][0][0]) for row in order]


def jpeg(pixels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "jpeg")
    return sink.getvalue()


def cifar10(folder: Path) -> None:
    images, labels = digits(32)
    write(
        folder / "cifar-10-batches-bin",
        {
            "batches.meta.txt": b"".join(b"class %d\n" % label for label in range(10)),
            "data_batch_1.bin": cifar10_binary(images[:TRAIN], labels[:TRAIN]),
            "test_batch.bin": cifar10_binary(images[TRAIN:], labels[TRAIN:]),
        },
    )


def cifar100(folder: Path) -> None:
    images, labels = digits(32)
    sides = {"train.bin": slice(TRAIN), "test.bin": slice(TRAIN, None)}
    write(
        folder / "cifar-100-binary",
        {name: cifar100_binary(images[side], labels[side], [0] * len(labels[side])) for name, side in sides.items()},
    )


def stl10(folder: Path) -> None:
    images, labels = digits(96)
    classes = bytes(label + 1 for label in labels)
    write(
        folder / "stl10_binary",
        {
            "class_names.txt": b"".join(b"class %d\n" % label for label in range(10)),
            "train_X.bin": stl10_images(images[:TRAIN]),
            "train_y.bin": classes[:TRAIN],
            "test_X.bin": stl10_images(images[TRAIN:]),
            "test_y.bin": classes[TRAIN:],
            "unlabeled_X.bin": stl10_images(images[:10, ::-1]),
        },
    )


def tiny_imagenet(folder: Path) -> None:
    images, labels = digits(64)
    words = [f"n0000000{label}" for label in labels]
    files = {
        "wnids.txt": "\n".join(sorted(set(words))).encode(),
        "words.txt": b"",
        "test/images/test_0.JPEG": jpeg(images[0, ::-1]),
        "val/val_annotations.txt": "".join(
            f"val_{row}.JPEG\t{words[row]}\t0\t0\t63\t63\n" for row in range(TRAIN, TRAIN + TEST)
        ).encode(),
    }
    files |= {f"train/{words[row]}/images/{words[row]}_{row}.JPEG": jpeg(images[row]) for row in range(TRAIN)}
    files |= {f"val/images/val_{row}.JPEG": jpeg(images[row]) for row in range(TRAIN, TRAIN + TEST)}
    write(folder / "tiny-imagenet-200", files)


def imagenet(folder: Path) -> None:
    images, labels = digits(80)
    split = ["train"] * TRAIN + ["val"] * TEST
    files = {
        f"{part}/n0000000{label}/ILSVRC2012_{part}_{row}.JPEG": jpeg(images[row])
        for row, (part, label) in enumerate(zip(split, labels, strict=True))
    }
    write(folder, files)


@pytest.mark.parametrize(
    ("name", "make", "more"),
    [
        ("cifar10", cifar10, []),
        # One network as it is; the others would only take longer.
        ("cifar100", cifar100, ["--architecture", "small"]),
        ("stl10", stl10, ["--architecture", "small"]),
        ("tiny-imagenet", tiny_imagenet, ["--architecture", "small"]),
        ("imagenet", imagenet, ["--architecture", "small", "--image-size", "32"]),
    ],
)
def test_a_recipe_is_started_by_one_command(
    name: str, make: object, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(make)
    source, out = tmp_path / "data", tmp_path / "out"
    make(source)
    assert main(["experiment", str(source), "--recipe", name, "-o", str(out), *SHORT, *more, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["runs"] == 6
    table = pq.read_table(out / "runs.parquet")
    settings = json.loads(table.schema.metadata[b"tamis"])
    assert settings["tested"] == TEST + (name == "tiny-imagenet")
    assert settings["network"]["architecture"] == ("resnet18" if name == "cifar10" else "small")
    assert settings["recipe"]["optimiser"] == ("lars" if name == "imagenet" else "adamw")
    asked = read_manifest(out / "manifests" / "auto").description["request"]
    assert asked["pos_high"] == {"cifar100": 0.2, "tiny-imagenet": 0.005, "imagenet": 0.001}.get(name, 0.1)
