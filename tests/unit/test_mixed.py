"""Mixed images: as many as asked for, each of two labels, with their names and everything else as it was."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import digit_files, write_folder

import tamis
from tamis import InputError
from tamis.images import decode
from trainer.arms import shares_of
from trainer.mixed import MARK, known, mixed_table, write_mixed
from trainer.probe import held_out

COUNT = 60


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("mixed") / "digits", digit_files(COUNT))
    (folder / "0" / "broken.png").write_bytes(b"\x89PNG no more")
    return folder


def written(folder: Path) -> dict[str, Path]:
    """Each image by its label, as the metadata say, and its name."""
    lines = (folder / "metadata.csv").read_text().splitlines()[1:]
    found = {f"{label}/{name}": folder / name for name, label in (line.split(",") for line in lines)}
    assert len(list(folder.iterdir())) == len(found) + 1
    return found


def test_a_share_is_mixed_with_images_of_other_labels_and_the_rest_is_as_it_was(source: Path, tmp_path: Path) -> None:
    write_mixed(source, tmp_path / "made", 0.25, apart=False)
    made = written(tmp_path / "made" / "train")
    mixed = {name: path for name, path in made.items() if name.endswith(MARK)}
    assert (len(made), len(mixed)) == (COUNT, COUNT // 4)
    originals = {data: name[0] for name, data in digit_files(COUNT)}
    pixels = {label: [] for label in "0123456789"}  # type: ignore[var-annotated]
    for data, label in originals.items():
        pixels[label].append(np.asarray(decode(data), np.float64))
    for name, path in made.items():
        if name not in mixed:
            assert originals[path.read_bytes()] == name[0]
    for name, path in mixed.items():
        found = np.asarray(Image.open(path), np.float64)
        own, others = pixels[name[0]], [each for label in pixels if label != name[0] for each in pixels[label]]
        closest = min(np.abs(found - (one + other) / 2).max() for one in own for other in others)
        assert closest <= 1, name
    write_mixed(source, tmp_path / "again", 0.25, apart=False)
    again = written(tmp_path / "again" / "train")
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in made.items()
    }


def test_what_is_tested_on_is_never_mixed(source: Path, tmp_path: Path) -> None:
    write_mixed(source, tmp_path / "made", 0.5, apart=True)
    tested = written(tmp_path / "made" / "test")
    assert {path.read_bytes() for path in tested.values()} == {
        data for _, data in digit_files(COUNT) if held_out([hashlib.sha256(data).hexdigest()])[0]
    }
    trained = written(tmp_path / "made" / "train")
    assert len(trained) == COUNT - len(tested)
    assert sum(name.endswith(MARK) for name in trained) == round(0.5 * len(trained))
    before = {path: path.stat().st_mtime_ns for path in trained.values()}
    write_mixed(source, tmp_path / "made", 0.5, apart=True)
    assert before == {path: path.stat().st_mtime_ns for path in trained.values()}


def test_images_of_one_label_cannot_be_mixed(tmp_path: Path) -> None:
    sink = io.BytesIO()
    Image.new("L", (8, 8)).save(sink, "png")
    files = tuple((f"only/{number}.png", sink.getvalue() + bytes([number])) for number in range(8))
    with pytest.raises(InputError, match="no image of another label"):
        write_mixed(write_folder(tmp_path / "one", files), tmp_path / "made", 0.5, apart=False)


def test_knowledge_drops_the_mixed_alone() -> None:
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    manifest = tamis.curate(rows, classes=2).select("remove", fraction=0.2)
    names = [f"{row}{MARK if row % 4 == 0 else '.png'}" for row in range(40)]
    place = manifest.samples.column_names.index("sample_id")
    renamed = tamis.Manifest(
        manifest.samples.set_column(place, "sample_id", [names]), manifest.pairs.slice(0, 0), manifest.description
    )
    found = known(renamed).samples
    assert found["keep"].to_pylist() == [row % 4 != 0 for row in range(40)]
    assert found["weight"].to_pylist() == [float(row % 4 != 0) for row in range(40)]


def test_the_table_compares_with_none_mixed_seed_by_seed() -> None:
    def rows(arm: str, *values: float) -> list[dict[str, object]]:
        return [{"arm": arm, "seed": seed, "linear": each, "nearest": each} for seed, each in enumerate(values)]

    table = mixed_table(
        {
            0.0: rows("kept", 0.80, 0.82),
            0.1: [
                *(*rows("kept", 0.79, 0.81), *rows("removed by score", 0.80, 0.82)),
                *(*rows("removed by chance", 0.70, 0.71), *rows("removed by knowledge", 0.81, 0.82)),
            ],
        }
    )
    assert "| 10% | kept | -1.0 (-1.0 to -1.0) | -1.0 (-1.0 to -1.0) |" in table
    assert "| 10% | removed by score | +0.0 (+0.0 to +0.0) | +0.0 (+0.0 to +0.0) |" in table
    assert len([line for line in table if line.startswith("| 10%")]) == 4


@pytest.mark.parametrize(("text", "shares"), [("", ()), ("0.1", (0.0, 0.1)), ("0.2,0,0.1", (0.0, 0.1, 0.2))])
def test_shares_are_read(text: str, shares: tuple[float, ...]) -> None:
    assert shares_of(text) == shares


@pytest.mark.parametrize("text", ["some", "0.6", "-0.1", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no list of shares"):
        shares_of(text)
