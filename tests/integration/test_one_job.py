"""One job, two executors: `tamis curate` and a server make the same tables of the same images and settings."""

from pathlib import Path
from typing import Any

import pytest
from harness import Server, serving
from samples import digit_embeddings, digit_files, write_folder, write_tar

import tamis
from worker.local import curate_source

COUNT = 300
FILES = ("samples.parquet", "pairs.parquet", "features.npy", "manifest.json")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A broken one and one that comes twice are among them.
    files = (*digit_files(COUNT), ("0/broken.png", b"\x89PNG\r\n\x1a\nno more"), ("9/twice.png", digit_files(1)[0][1]))
    return write_folder(tmp_path_factory.mktemp("images") / "digits", files)


@pytest.fixture(scope="module")
def located(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(
        tmp_path_factory.mktemp("located") / "data", env={"TAMIS_ALLOWED_ROOTS": str(images.parent)}
    ) as server:
        yield server


def served(server: Server, dataset: str, folder: Path, **asked: Any) -> dict[str, bytes]:
    treatment = {name: asked.pop(name) for name in ("strategy", "fraction", "duplicates") if name in asked}
    curation = server.client.curate(dataset, **asked)["id"]
    server.client.wait(f"/curations/{curation}", timeout=120)
    return written(server.client.manifest(curation, folder, **treatment))


def written(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}


@pytest.mark.parametrize(
    "asked",
    [
        {"epochs": 2, "strategy": "combined", "duplicates": "near"},
        {
            "steps": 5,
            "image_size": 16,
            "views": 2,
            "score": "band",
            "classes": 7,
            "seed": 3,
            "strategy": "remove",
            "fraction": 0.1,
        },
    ],
    ids=["defaults", "settings"],
)
def test_a_folder_gives_the_same_bytes_on_a_server_and_without_one(
    located: Server, images: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    dataset = located.client.wait(f"/datasets/{located.client.register(images.as_uri(), 'digits')['id']}")["id"]
    curate_source(images, tmp_path / "own", **asked)
    assert served(located, dataset, tmp_path / "served", **asked) == written(tmp_path / "own")
    encoder = tamis.read_manifest(tmp_path / "own").description["encoder"]
    assert encoder["trained"]["device"] == "cpu"
    assert encoder["architecture"] == "small"
    assert (tmp_path / "served" / "features.npy").is_file() == (asked.get("strategy") != "remove")


def test_an_upload_differs_in_where_its_images_are_alone(located: Server, images: Path, tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "digits.tar", digit_files(60))
    dataset = located.client.wait(f"/datasets/{located.client.upload(archive, 'sent')['id']}")["id"]
    served(located, dataset, tmp_path / "served", steps=5)
    curate_source(archive, tmp_path / "own", steps=5)
    one, other = (tamis.read_manifest(tmp_path / name) for name in ("served", "own"))
    assert one.description == other.description
    assert one.pairs.equals(other.pairs)
    assert one.samples.drop(["uri"]).equals(other.samples.drop(["uri"]))


def test_embeddings_give_the_same_bytes_too(located: Server, images: Path, tmp_path: Path) -> None:
    import numpy as np

    folder = write_folder(tmp_path / "few", digit_files(80))
    np.save(tmp_path / "own.npy", digit_embeddings(80))
    archive = write_tar(tmp_path / "few.tar", digit_files(80))
    dataset = located.client.wait(f"/datasets/{located.client.upload(archive, 'few')['id']}")["id"]
    located.client.send_embeddings(dataset, tmp_path / "own.npy")
    served(located, dataset, tmp_path / "served", encoder="embeddings")
    curate_source(folder, tmp_path / "own", encoder=f"embeddings:{tmp_path / 'own.npy'}")
    one, other = (tamis.read_manifest(tmp_path / name) for name in ("served", "own"))
    assert one.description == other.description
    assert one.samples.drop(["uri"]).equals(other.samples.drop(["uri"]))
