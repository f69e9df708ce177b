"""Exports, opened by the libraries they are for."""

import hashlib
import json
import os
import subprocess
import venv
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import Server
from layouts import png
from samples import digit_embeddings, digit_files, write_folder, write_tar
from torchvision.datasets import ImageFolder

from tamis.commands.cli import main
from tamis.errors import InputError
from tamis.exports import COLUMNS, exported, write_export
from tamis.manifest import read_manifest

COUNT = 60


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("photos"), digit_files(COUNT))


@pytest.fixture(scope="module")
def manifest(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    np.save(folder / "e.npy", digit_embeddings(COUNT))
    typed = ["curate", str(photos), "-o", str(folder / "out"), "--encoder", f"embeddings:{folder / 'e.npy'}"]
    assert main([*typed, "--classes", "5", "--strategy", "remove", "--fraction", "0.2", "--quiet"]) == 0
    return folder / "out"


def kept(manifest: Path) -> dict[str, dict[str, Any]]:
    """The rows of the kept samples by sha256."""
    rows = read_manifest(manifest).samples.to_pylist()
    found = {row["sha256"]: row for row in rows if row["keep"]}
    assert 0 < len(found) < COUNT
    return found


def export(manifest: Path | str, form: str, out: Path, *more: str) -> Path:
    assert main(["export", str(manifest), "--format", form, "-o", str(out), "--quiet", *more]) == 0
    return out


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("link", [False, True])
def test_datasets_reads_images_labels_and_weights(manifest: Path, tmp_path: Path, link: bool) -> None:
    import datasets

    out = export(manifest, "hf", tmp_path / "out", *(["--link"] if link else []))
    found = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"), split="train")
    wanted = kept(manifest)
    assert {row["sha256"]: row["label"] for row in found} == {key: row["label"] for key, row in wanted.items()}
    first = found[0]
    assert first["image"].size == (8, 8)
    assert first["difficulty"] == pytest.approx(wanted[first["sha256"]]["difficulty"])
    images = sorted((out / "images").rglob("*.png"))
    assert {sha256(path) for path in images} == set(wanted)
    assert all(path.is_symlink() == link for path in images)


def test_webdataset_reads_shards(manifest: Path, tmp_path: Path) -> None:
    import webdataset

    out = export(manifest, "webdataset", tmp_path / "out")
    rows = list(webdataset.WebDataset(str(out / "00000.tar"), shardshuffle=False).decode("rgb8"))
    classes = (out / "classes.txt").read_text().splitlines()
    wanted = kept(manifest)
    assert {row["json"]["sha256"] for row in rows} == set(wanted)
    assert all(classes[row["cls"]] == row["json"]["label"] for row in rows)
    assert rows[0]["png"].shape == (8, 8, 3)


def test_fiftyones_form_is_as_its_importer_reads_it(manifest: Path, tmp_path: Path) -> None:
    out = export(manifest, "fiftyone", tmp_path / "out")
    described = json.loads((out / "labels.json").read_text())
    # It finds the images by their paths without endings.
    files = {str(path.relative_to(out / "data").with_suffix("")): path for path in (out / "data").rglob("*.png")}
    wanted = kept(manifest)
    assert files.keys() == described["labels"].keys()
    for name, told in described["labels"].items():
        row = wanted[sha256(files[name])]
        assert described["classes"][told["label"]] == row["label"]
        assert told["attributes"]["sample_id"] == row["sample_id"]


IMPORTED = """
import json, sys
from fiftyone.utils.data.importers import FiftyOneImageClassificationDatasetImporter

with FiftyOneImageClassificationDatasetImporter(dataset_dir=sys.argv[1]) as importer:
    print(json.dumps([(path, said.label, said["sample_id"]) for path, _, said in importer]))
"""


@pytest.fixture(scope="module")
def with_fiftyone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment of its own: what FiftyOne needs is not to be beside what Tamis does."""
    folder = tmp_path_factory.mktemp("fiftyone") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "fiftyone"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"FiftyOne cannot be installed here: {done.stderr[-200:]}")
    return python


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fiftyones_own_importer_reads_it(manifest: Path, with_fiftyone: Path, tmp_path: Path) -> None:
    out = export(manifest, "fiftyone", tmp_path / "out")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = subprocess.run([with_fiftyone, "-c", IMPORTED, out], check=True, capture_output=True, env=environment)
    found = {sha256(Path(path)): (label, sample_id) for path, label, sample_id in json.loads(told.stdout)}
    assert found == {key: (row["label"], row["sample_id"]) for key, row in kept(manifest).items()}


def test_folders_of_labels_are_classes(manifest: Path, tmp_path: Path) -> None:
    found = ImageFolder(str(export(manifest, "lightly", tmp_path / "out")))
    wanted = kept(manifest)
    assert {sha256(Path(path)): found.classes[label] for path, label in found.samples} == {
        key: row["label"] for key, row in wanted.items()
    }


@pytest.mark.parametrize("label", ["a/b", "..", ".hidden", "\0", "é b", "x" * 1000, "%2F", None])
def test_no_label_leads_out_of_the_folder(label: str | None, tmp_path: Path) -> None:
    content = png()
    row = dict.fromkeys(COLUMNS) | {"sample_id": "0.png", "sha256": hashlib.sha256(content).hexdigest(), "label": label}
    samples = pa.Table.from_pylist([row | {"keep": True, "uri": ""}]).cast(
        pa.schema([(name, pa.bool_() if name == "keep" else pa.string()) for name in (*COLUMNS, "keep", "uri")])
    )
    write_export(exported(samples, "lightly", find=lambda names: iter([(0, content)])), tmp_path / "out")
    (file,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert not file.parent.name.startswith(".")
    assert (file.parent == tmp_path / "out") == (label is None)


def test_lists_lead_to_the_images(manifest: Path, photos: Path, tmp_path: Path) -> None:
    table = pd.read_csv(export(manifest, "csv", tmp_path / "csv") / "samples.csv", dtype={"label": str})
    rows = [json.loads(line) for line in (export(manifest, "jsonl", tmp_path / "jsonl") / "samples.jsonl").open()]
    assert table["sample_id"].tolist() == [row["sample_id"] for row in rows]
    assert {sha256(Path(path)) for path in table["path"]} == set(kept(manifest))
    assert {row["path"] for row in rows} == {str(photos / row["sample_id"]) for row in rows}


def test_what_is_gone_altered_or_in_the_way_is_told(
    manifest: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = read_manifest(manifest).samples
    first, second = (row["sample_id"] for row in list(kept(manifest).values())[:2])
    moved = tmp_path / "moved"
    files = {name: data for name, data in digit_files(COUNT) if name != first}
    write_folder(moved, tuple({**files, second: b"else"}.items()))
    with pytest.raises(InputError, match=f"1 missing: {first}; 1 altered or damaged: {second}"):
        list(exported(samples, "hf", images=moved))
    assert main(["export", str(manifest), "--format", "hf", "-o", str(photos), "--quiet"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "nowhere"), "--format", "hf", "-o", str(tmp_path / "o"), "--quiet"]) == 2
    assert main(["export", str(manifest), "--format", "hf", "-o", str(tmp_path / "o"), "--images", str(photos)]) == 0


def test_a_server_exports_with_the_images_it_stores(server: Server, tmp_path: Path) -> None:
    dataset = server.client.upload(write_tar(tmp_path / "digits.tar", digit_files(COUNT)), "digits")["id"]
    server.client.wait(f"/datasets/{dataset}", timeout=60)
    np.save(tmp_path / "e.npy", digit_embeddings(COUNT))
    server.client.send_embeddings(dataset, tmp_path / "e.npy")
    curation = server.client.curate(dataset, encoder="embeddings", classes=5)["id"]
    server.client.wait(f"/curations/{curation}", timeout=60)
    made = server.client.make_manifest(curation, "remove", fraction=0.2)["id"]
    server.client.wait(f"/manifests/{made}", timeout=60)
    out = export(made, "hf", tmp_path / "hf", "--server", server.url)
    table = pq.read_table(out / "metadata.parquet").to_pylist()
    assert 0 < len(table) < COUNT
    assert {row["sha256"] for row in table} == {sha256(out / row["file_name"]) for row in table}
    address = f"{server.url}/api/v1/manifests"
    assert httpx.get(f"{address}/{made}/export", params={"format": "none"}).status_code == 422
    assert httpx.get(f"{address}/mf_none/export", params={"format": "hf"}).status_code == 404
