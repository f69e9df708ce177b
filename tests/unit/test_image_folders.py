"""The folders of images that `tamis bench first-contact` makes."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import image_folders
from benchmarks.image_folders import DAMAGES, icons, make, mixture, photos

SUFFIXES = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF"}


def test_icons_and_photos_have_the_size_they_are_said_to_have(tmp_path: Path) -> None:
    for planned, size, kind in ((icons(5), (64, 64), "PNG"), (photos(5), (500, 375), "JPEG")):
        folder = tmp_path / kind
        assert make(folder, planned) == sum(file.stat().st_size for file in folder.iterdir())
        files = sorted(folder.iterdir())
        assert [(image.size, image.format) for image in map(Image.open, files)] == [(size, kind)] * 5
        assert len({file.read_bytes() for file in files}) == 5


def test_a_mixture_has_all_formats_modes_and_sizes_and_as_much_damage_as_it_says(tmp_path: Path) -> None:
    # Its proportions as planned, for to make as many would take minutes; of a few, the files.
    plan = mixture(8000)
    sides = [max(one.size) for one in plan]
    assert min(min(one.size) for one in plan) == 16
    assert 2900 < max(sides) <= 3000
    assert sum(side < 200 for side in sides) > 2000
    assert sum(side > 1000 for side in sides) > 1000
    assert {one.format for one in plan} == set(SUFFIXES)
    assert {one.mode for one in plan} == {"RGB", "RGBA", "L", "LA", "P"}
    damage = Counter(one.damage for one in plan)
    assert damage[None] == 7920
    assert all(20 <= damage[kind] <= 30 for kind in DAMAGES)

    few = mixture(40)
    make(tmp_path / "few", few)
    assert sorted(str(file.relative_to(tmp_path / "few")) for file in (tmp_path / "few").rglob("*.*")) == sorted(
        one.name for one in few
    )
    for one in few:
        path = tmp_path / "few" / one.name
        if one.damage is None:
            with Image.open(path) as image:
                image.load()
                assert (image.size, image.format) == (one.size, SUFFIXES[one.format])
                # A GIF, or a palette, of which every colour is a shade of grey is opened as grey.
                assert image.mode == one.mode or (one.mode, image.mode) == ("P", "L")
        else:
            with pytest.raises((OSError, SyntaxError)), Image.open(path) as image:
                image.load()


def test_the_same_images_are_made_again_but_not_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = mixture(12)
    make(tmp_path / "one", planned)
    make(tmp_path / "other", planned)
    for one in planned:
        assert (tmp_path / "one" / one.name).read_bytes() == (tmp_path / "other" / one.name).read_bytes()
    changed = {file: file.stat().st_mtime_ns for file in (tmp_path / "one").rglob("*.*")}
    make(tmp_path / "one", planned)
    assert changed == {file: file.stat().st_mtime_ns for file in (tmp_path / "one").rglob("*.*")}


def test_shapes_are_drawn_where_no_pictures_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_emoji", "_cutouts", "_photographs"):
        monkeypatch.setattr(image_folders, name, tuple)
    make(tmp_path / "icons", icons(3))
    for file in (tmp_path / "icons").iterdir():
        with Image.open(file) as image:
            assert image.size == (64, 64)
            assert len(image.getcolors(64 * 64) or []) > 1
