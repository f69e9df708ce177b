"""Labels of images that are files of their own: what a labels file says, or else the name of a folder they are in."""

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass

from tamis.sources.names import shown

# Of tables, and of JSON beside an image: the first of these that is there.
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "class_name", "category", "target", "cls")
MAX_LABEL = 1000
# The folder that some layouts have between a split, or a class, and its images.
NO_CLASSES = {"images", "img", "imgs", "image"}
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing", "unlabeled"}


def label_text(value: object) -> str | None:
    """A label as some file holds it, fit to be stored and shown; None for what is empty, NaN or no single value."""
    if not isinstance(value, str | int | float) or (isinstance(value, int) and abs(value) >= 2**63) or value != value:
        return None
    return shown(str(value).strip())[:MAX_LABEL] or None


@dataclass(frozen=True)
class Labels:
    """stated: labels by the names of files; None says that a file has none.
    tables: folders in which a table says the labels, so that what it does not name has none.
    bases: folders whose folders are classes.
    """

    stated: Mapping[str, str | None]
    tables: Set[str]
    bases: Set[str]

    def of(self, name: str) -> str | None:
        """What is stated of a file, or else its topmost folder that tells classes apart."""
        if name in self.stated:
            return self.stated[name]
        folder, inner = name.rpartition("/")[0], ""
        if self.tables and any(above in self.tables for above in _and_above(folder)):
            return None
        while folder and folder not in self.bases:
            folder, _, inner = folder.rpartition("/")
        return inner or None


def _and_above(folder: str) -> Iterator[str]:
    yield folder
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def bases_of(folders: Mapping[str, Collection[str]], direct: Set[str]) -> set[str]:
    """The folders whose folders are classes, as torchvision's ImageFolder has it: the outermost one; where there are
    splits, each of these; where there is but one folder, and in it others, that one.

    folders: the names of those in each folder that lead to images. direct: folders with images of their own.
    """

    def leads_on(item: tuple[str, str]) -> bool:
        name, folder = item
        return folder in folders or name.lower() in NO_CLASSES

    bases: set[str] = set()
    pending = [""]
    while pending:
        base = pending.pop()
        names = folders.get(base, ())
        inner = {name: f"{base}/{name}".removeprefix("/") for name in names}
        splits = [name for name in names if name.lower() in SPLITS]
        if splits and (len(splits) > 1 or len(splits) == len(names)):
            # Else `train` may be a class of locomotives: it is a split where nothing else is beside, or another split.
            pending += [inner[name] for name in splits]
            bases.add(base)
        elif len(names) == 1 and base not in direct and all(map(leads_on, inner.items())):
            pending += inner.values()
        else:
            bases.add(base)
    return bases
