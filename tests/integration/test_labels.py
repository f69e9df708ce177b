"""Labels serve the evaluation alone: no curation, feature or score changes with them."""

import random
from pathlib import Path

from samples import digit_files, write_folder

import tamis
from worker.local import curate_source

COUNT = 60


def test_shuffled_labels_change_the_label_column_and_nothing_else(tmp_path: Path) -> None:
    files = tuple((name.replace("/", "-"), content) for name, content in digit_files(COUNT))
    labels = [name[0] for name, _ in files]
    made: dict[str, Path] = {}
    for kind in ("true", "shuffled", "none"):
        folder = write_folder(tmp_path / kind / "images", files)
        if kind != "none":
            rows = [f"{name},{label}" for (name, _), label in zip(files, labels, strict=True)]
            (folder / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
        made[kind] = tmp_path / kind / "manifest"
        curate_source(folder, made[kind], epochs=1, strategy="combined")
        random.Random(0).shuffle(labels)
    tables = {kind: tamis.read_manifest(folder).samples.drop(["label", "uri"]) for kind, folder in made.items()}
    assert tables["true"].equals(tables["shuffled"])
    assert tables["true"].equals(tables["none"])
    for file in ("pairs.parquet", "encoder.pt"):
        contents = {kind: (folder / file).read_bytes() for kind, folder in made.items()}
        assert contents["true"] == contents["shuffled"] == contents["none"]
    column = {kind: tamis.read_manifest(folder).samples["label"].to_pylist() for kind, folder in made.items()}
    assert column["true"] == [name[0] for name, _ in files]
    assert sorted(column["shuffled"]) == sorted(column["true"])
    assert column["shuffled"] != column["true"]
    assert column["none"] == [None] * COUNT
