"""The main job from every kind of source, on this Python and on any other here that has what Tamis needs.

`make test-pythons` makes such Pythons and runs the whole suite on each; this is the short part of it.
"""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import Server
from layouts import (
    Files,
    cifar10_binary,
    cifar_pickle,
    image_column,
    parquet_bytes,
    pixels,
    stl10_images,
    tar_bytes,
    tar_gz_bytes,
    write,
    zip_bytes,
)
from lowest import lowest
from samples import digit_embeddings, digit_files

import tamis
from tamis.commands.cli import main

ROOT = Path(__file__).parents[2]
# Interpreters to run on, separated as in PATH; without it those that are found.
NAMED = "TAMIS_TEST_PYTHONS"
NEEDED = ("torch", "torchvision", "numba", "pyarrow", "sklearn", "simplejpeg", "fastapi", "dbos", "hypothesis", "moto")
COUNT = 20
DIGITS = dict(digit_files(COUNT))
COLOURS = pixels(COUNT, 32)
SHARD = {f"{n}.{kind}": data for n, png in enumerate(DIGITS.values()) for kind, data in (("png", png), ("cls", b"1"))}
IDX = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (COUNT, 28, 28)) + pixels(COUNT, 28)[..., 0].tobytes()
SOURCES: dict[str, bytes | Files] = {
    "folder": DIGITS,
    "digits.zip": zip_bytes(DIGITS),
    "digits.tar": tar_bytes(DIGITS),
    "digits.tar.gz": tar_gz_bytes(DIGITS),
    "shards": {"0.tar": tar_bytes(SHARD)},
    "digits.parquet": parquet_bytes({"image": image_column(DIGITS.values())}),
    "cifar": {"data_batch_1.bin": cifar10_binary(COLOURS, [0] * COUNT)},
    "cifar-python": {"data_batch_1": cifar_pickle(COLOURS, labels=[0] * COUNT)},
    "stl10": {"train_X.bin": stl10_images(pixels(COUNT, 96))},
    "train-images-idx3-ubyte": IDX,
    "train-images-idx3-ubyte.gz": gzip.compress(IDX),
}


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embeddings") / "embeddings.npy"
    np.save(path, digit_embeddings(COUNT))
    return path


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_source_is_curated(name: str, embeddings: Path, tmp_path: Path) -> None:
    content, source = SOURCES[name], tmp_path / name
    if isinstance(content, bytes):
        source.write_bytes(content)
    else:
        write(source, content)
    command = ["curate", str(source), "-o", str(tmp_path / "out"), "--encoder", f"embeddings:{embeddings}"]
    assert main([*command, "--classes", "10"]) == 0
    manifest = tamis.read_manifest(tmp_path / "out")
    assert manifest.samples.num_rows == COUNT
    assert not {"undecodable"} & set(manifest.samples["reason"].to_pylist())


def test_an_uploaded_folder_is_curated_by_a_server(server: Server, embeddings: Path, tmp_path: Path) -> None:
    dataset = server.client.upload(write(tmp_path / "digits", DIGITS), "uploaded on this Python")["id"]
    assert server.client.wait(f"/datasets/{dataset}", timeout=60)["samples"] == COUNT
    server.client.send_embeddings(dataset, embeddings)
    curation = server.client.curate(dataset, encoder="embeddings", classes=10)["id"]
    server.client.wait(f"/curations/{curation}", timeout=60)
    manifest = tamis.read_manifest(server.client.manifest(curation, tmp_path / "manifest", strategy="remove"))
    assert manifest.samples.num_rows == COUNT


def test_a_curated_folder_is_trained_on(embeddings: Path, tmp_path: Path) -> None:
    source, curated, trained = (tmp_path / name for name in ("digits", "curated", "trained"))
    write(source, DIGITS)
    options = ["--encoder", f"embeddings:{embeddings}", "--classes", "10"]
    assert main(["curate", str(source), "-o", str(curated), *options]) == 0
    assert main(["train", str(curated), "-o", str(trained), "--epochs", "1", "--batch-size", "8"]) == 0
    assert tamis.read_manifest(curated).description["counts"]["kept"] >= 4
    assert json.loads((trained / "result.json").read_text())["encoder_fingerprint"]


def others() -> list[str]:
    """Interpreters of other versions than this one, or with other releases of the dependencies, that have NEEDED."""
    named = os.environ.get(NAMED)
    if named is not None:
        return [python for python in named.split(os.pathsep) if python]
    kept = sorted(map(str, ROOT.glob(".pythons/*/bin/python")))
    on_path = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13) if minor != sys.version_info.minor]
    look = f"import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, {NEEDED})))"
    tried = [python for python in [*kept, *on_path] if python and Path(python).exists()]
    return [python for python in tried if not subprocess.run([python, "-c", look], capture_output=True).returncode]


def test_other_pythons_do_the_same() -> None:
    found = others()
    if not found:
        pytest.skip("no other Python here has what Tamis needs; `make test-pythons` makes them")
    for python in found:
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "not other_pythons"]
        # Not from an environment's own copy of Tamis.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), NAMED: ""}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{python}\n{run.stdout}"


def test_every_requirement_states_the_lowest_release_that_is_tried() -> None:
    found = lowest(ROOT / "pyproject.toml")
    assert {"numpy", "torch", "fastapi", "pytest"} <= set(found)
