"""Labels of images that are files of their own: what a labels file says, or else the name of the folder they are in."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

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
    folders: the names of the folders with images in each folder.
    transparent: folders below which a folder called `images` stands for the one it is in.
    """

    stated: Mapping[str, str | None] = field(default_factory=dict)
    folders: Mapping[str, Collection[str]] = field(default_factory=dict)
    transparent: Collection[str] = ()

    def of(self, name: str) -> str | None:
        if name in self.stated:
            return self.stated[name]
        folder = name.rpartition("/")[0]
        if any(not top or folder.startswith(f"{top}/") for top in self.transparent):
            folder = folder.removesuffix("/images")
        parent, _, last = folder.rpartition("/")
        return None if not last or _is_split(last, self.folders.get(parent, ())) else last


def _is_split(name: str, siblings: Collection[str]) -> bool:
    """Whether a folder of that name is a split, rather than a class of locomotives: no other kind of folder is beside
    it, or another split is. siblings: the folder's own name among them."""
    if name.lower() not in SPLITS:
        return False
    splits = sum(other.lower() in SPLITS for other in siblings)
    return splits > 1 or splits == len(siblings)
