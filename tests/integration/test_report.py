"""The report of a manifest: one file that needs nothing else, and says what is true."""

import json
import re
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import Server
from samples import digit_embeddings, digit_files, write_folder, write_tar

import tamis
from tamis.commands.cli import main
from tamis.manifest import read_manifest
from tamis.report.findings import findings
from tamis.report.labels import judged
from tamis.report.page import report

COUNT = 300
PROVENANCE = {"dataset": "0" * 64, "encoder": {"encoder": "embeddings"}}
HOSTILE = "8/<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = dict(digit_files(COUNT))
    (_, first), *others = files.items()
    # The first again under another name, and one whose name means harm.
    copies = [("9/copy.png", first), (HOSTILE, others[3][1])]
    return write_folder(tmp_path_factory.mktemp("photos"), (*files.items(), *copies))


@pytest.fixture(scope="module")
def manifest(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    rows, names = digit_embeddings(COUNT), [name for name, _ in digit_files(COUNT)]
    table = {"sample_id": [*names, "9/copy.png", HOSTILE], "row": [*rows, rows[0], rows[4]]}
    pq.write_table(pa.table(table), folder / "e.parquet")
    typed = ["curate", str(photos), "-o", str(folder / "out"), "--encoder", f"embeddings:{folder / 'e.parquet'}"]
    assert main([*typed, "--classes", "8", "--strategy", "combined", "--fraction", "0.2", "--quiet"]) == 0
    return folder / "out"


def test_a_report_is_whole_true_and_the_same_again(manifest: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(manifest), "-o", str(out), "--quiet"]) == 0
    text = out.read_text()
    assert len(text) < 5e6
    # It refers to nothing outside itself, and names are text.
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "<img src=x" not in text
    assert "data:image/png;base64," in text
    found = read_manifest(manifest)
    kept = sum(found.samples["keep"].to_pylist())
    assert f"<b>{COUNT + 2 - kept}</b> images" in text
    assert "is not there any more" not in text
    assert report(found, "out") == report(found, "out", images=photos) == text
    assert main(["report", str(manifest), "-o", str(tmp_path), "--quiet"]) == 2
    assert main(["report", str(tmp_path / "none"), "-o", str(out), "--quiet"]) == 2


def test_what_it_tells_is_in_the_manifest(manifest: Path) -> None:
    made = read_manifest(manifest)
    found = findings(made)
    names, labels = made.samples["sample_id"].to_pylist(), made.samples["label"].to_pylist()
    hardest = made.pairs.slice(0, 1).to_pylist()[0]
    assert [names[number] for number in found.pairs[0][:2]] == [hardest["a"], hardest["b"]]
    (first, _), *others = digit_files(COUNT)
    groups = [{names[number] for number in numbers} for numbers in found.repeated]
    assert sorted(groups, key=min) == sorted([{first, "9/copy.png"}, {others[3][0], HOSTILE}], key=min)
    assert sum(group.samples for group in found.clusters) == len(names)
    assert sum(group.dropped for group in found.labels.balance) == len(names) - sum(made.samples["keep"].to_pylist())
    label = dict(zip(names, labels, strict=True))
    listed = [(label[row["a"]], label[row["b"]]) for row in made.pairs.to_pylist() if row["in_band"]]
    assert found.labels.apart == pytest.approx(sum(one != other for one, other in listed) / len(listed))
    one, other, count = found.labels.confused[0]
    assert count == sum({one, other} == set(pair) for pair in listed)


def test_classes_of_which_clearly_more_is_left_out_are_named() -> None:
    curation = tamis.curate(digit_embeddings(COUNT), classes=8)
    made = curation.select("remove", 0.1)
    keep = np.ones(COUNT, bool)
    keep[:30] = False
    labels = ["a"] * 60 + ["b"] * (COUNT - 60)
    samples = made.samples
    for name, values in {"keep": keep, "label": labels}.items():
        at = samples.column_names.index(name)
        samples = samples.set_column(at, samples.schema.field(at), [values])
    found = findings(tamis.Manifest(samples, made.pairs, made.description, made.features))
    assert found.labels.shifts == ["b", "a"]


def test_images_that_are_gone_are_blanks(manifest: Path, tmp_path: Path) -> None:
    text = report(read_manifest(manifest), "out", images=write_folder(tmp_path, digit_files(2)))
    assert "is not there any more" in text


def test_a_server_reports_with_the_images_it_stores(server: Server, tmp_path: Path) -> None:
    dataset = server.client.upload(write_tar(tmp_path / "digits.tar", digit_files(60)), "Digits & more")["id"]
    server.client.wait(f"/datasets/{dataset}", timeout=60)
    np.save(tmp_path / "e.npy", digit_embeddings(60))
    server.client.send_embeddings(dataset, tmp_path / "e.npy")
    curation = server.client.curate(dataset, encoder="embeddings", classes=5)["id"]
    server.client.wait(f"/curations/{curation}", timeout=60)
    out = tmp_path / "report.html"
    assert main(["report", curation, "-o", str(out), "--server", server.url, "--quiet"]) == 0
    text = out.read_text()
    assert "Digits &amp; more" in text
    assert "is not there any more" not in text
    (made,) = server.client.manifests()[:1]
    answer = httpx.get(f"{server.url}/api/v1/manifests/{made['id']}/report")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.text == text


@pytest.mark.parametrize(
    "rows", [np.random.default_rng(0).normal(size=(50, 8)), digit_embeddings(20)], ids=["noise", "few"]
)
@pytest.mark.parametrize("strategy", ["auto", "remove", "margin"])
def test_every_manifest_has_a_report(rows: "np.typing.NDArray[np.float64]", strategy: str) -> None:
    made = tamis.curate(rows).select(strategy)
    text = report(tamis.Manifest(made.samples, made.pairs, {**made.description, **PROVENANCE}, made.features), "any")
    assert "What to do next" in text


def test_curate_tells_what_labels_say_of_the_manifest(
    manifest: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--encoder", f"embeddings:{manifest.parent / 'e.parquet'}", "--classes", "8", "--json", "--quiet"]
    assert main(["curate", str(photos), "-o", str(tmp_path / "out"), "--strategy", "temperature", *given]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    found = judged(read_manifest(tmp_path / "out"))
    assert found is not None
    assert json.loads(last)["labels"] == json.loads(json.dumps(found.as_json()))
    assert found.describe()
    assert set(found.describe()) <= set(lines)
