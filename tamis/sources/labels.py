"""Labels of images that are files of their own: what a labels file says, or else the name of the folder they are in."""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass

from tamis.sources.names import shown

# Of tables, and of JSON beside an image: the first of these that is there.
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "class_name", "category", "target", "cls")
MAX_LABEL = 1000
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing", "unlabeled"}


def label_text(value: object) -> str | None:
    """A label as some file holds it, fit to be stored and shown; None for what is empty or no single value."""
    if not isinstance(value, str | int | float) or (isinstance(value, int) and abs(value) >= 2**63):
        return None
    return shown(str(value).strip())[:MAX_LABEL] or None


@dataclass(frozen=True)
class Labels:
    """stated: labels by the names of files; None says that a file has none.
    splits: folders whose names are no labels.
    roots: folders of Tiny ImageNet, where a folder called `images` stands for the one it is in.
    """

    stated: Mapping[str, str | None]
    splits: Set[str]
    roots: Set[str]

    def of(self, name: str) -> str | None:
        if name in self.stated:
            return self.stated[name]
        folder = name.rpartition("/")[0]
        outer = folder.removesuffix("/images")
        if outer != folder and {above := outer.rpartition("/")[0], above.rpartition("/")[0]} & self.roots:
            folder = outer
        return None if folder in self.splits else folder.rpartition("/")[2] or None


def splits_of(folders: Mapping[str, Collection[str]]) -> set[str]:
    """Which of the folders in each folder are splits, rather than classes of locomotives: those named as one that no
    other kind of folder is beside, or another split is."""
    found: set[str] = set()
    for parent, names in folders.items():
        splits = [name for name in names if name.lower() in SPLITS]
        if len(splits) > 1 or len(splits) == len(names):
            found |= {f"{parent}/{name}".removeprefix("/") for name in splits}
    return found
