"""Labels of images that are files of their own: what a labels file says, or else the name of a folder they are in."""

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from tamis.sources.entries import EntryError, Refused
from tamis.sources.names import shown

# Of tables, and of JSON beside an image: the first of these that is there.
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "class_name", "category", "target", "cls")
MAX_LABEL = 1000
_KINDS: dict[type, str] = {list: "a list", dict: "a struct"}
# The folder that some layouts have between a split, or a class, and its images.
NO_CLASSES = {"images", "img", "imgs", "image"}
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing", "unlabeled"}


def label_text(value: object) -> str | None:
    """A label as some file holds it, fit to be stored and shown; None for what is empty, NaN or missing.

    Raises EntryError, naming what it is instead, for what is no single text, number or date.
    """
    if value is None or value != value:
        return None
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise EntryError("bytes that are no UTF-8") from error
    if not isinstance(value, str | int | float):
        raise EntryError(_KINDS.get(type(value)) or f"a {type(value).__name__}")
    if isinstance(value, int) and abs(value) >= 2**64:
        raise EntryError("a number of more than 64 bits")
    return shown(str(value).strip())[:MAX_LABEL] or None


def lines_of(content: bytes) -> list[str]:
    """The lines of a file of names or labels, which end with a line feed alone, in order; empty ones too."""
    return [line.strip() for line in content.decode("utf-8-sig", "replace").split("\n")]


class Said(NamedTuple):
    """What one row says. table, noun, number: where it does, such as "a/metadata.csv", "line" and 3."""

    label: str | None
    table: str
    noun: str
    number: int

    def __str__(self) -> str:
        return f"{self.noun} {self.number} of {self.table} says {self.label or 'nothing'}"


class Stated:
    """What rows of tables say of files. Where two contradict each other, that is told and neither counts."""

    def __init__(self) -> None:
        self._said: dict[str, Said] = {}
        self._against: dict[str, Said] = {}

    def add(self, file: str, said: Said) -> None:
        before = self._said.get(file)
        if before is None or before.label is None:
            self._said[file] = said
        elif said.label not in (None, before.label):
            self._against.setdefault(file, said)

    def labels(self) -> dict[str, str | None]:
        """By the names of files; None says that a file has none."""
        return {file: None if file in self._against else said.label for file, said in self._said.items()}

    def contradictions(self) -> Iterator[Refused]:
        for file, said in islice(self._against.items(), 1):
            told = f"{self._said[file]}, {said}"
            what = f"rows contradict each other, and {len(self._against):,} of the images go without a label"
            yield Refused(said.table, f"{what}, such as {file}: {told}; give each image one label")


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
