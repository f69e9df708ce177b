"""A first look through a container, before its images are read: for labels files, folders, and how many there are."""

from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass

from tamis.sources import metadata, parquet, tiny_imagenet, webdataset
from tamis.sources.entries import MAX_ENTRY_BYTES, TWICE, Container, Entry, EntryError, Refused
from tamis.sources.formats import format_of, is_companion
from tamis.sources.labels import Labels, Stated, bases_of
from tamis.sources.names import clean, hidden, is_image, shown
from tamis.sources.tar_archive import TarArchive, is_tar_name

# Of all companions together, which are held in memory.
MAX_COMPANION_BYTES = MAX_ENTRY_BYTES


@dataclass(frozen=True)
class Survey:
    """companions: contents of the files that say something about others, by name.
    passed_over: the names of files that are no samples: the companions, and those that cannot be read.
    refused: what is wrong with these. labels: of files that are one image each.
    sharded: whether the tar archives in the container are its content. grouped: whether it is a WebDataset.
    referring: whether a file of many images may name others as images.
    tables: the files that each metadata table names.
    total: about how many samples there are, None if that is not known without reading them.
    """

    companions: dict[str, bytes]
    passed_over: frozenset[str]
    refused: tuple[Refused, ...]
    tables: dict[str, Collection[str]]
    labels: Labels
    sharded: bool
    grouped: bool
    referring: bool
    total: int | None

    def unnamed(self, seen: Set[str]) -> Iterator[Refused]:
        """The tables that name files which are not among the samples seen."""
        for name, files in self.tables.items():
            missing = [file for file in files if file not in seen]
            if missing:
                told = f"{len(missing):,} of its {len(files):,} rows name no image that is here, such as {missing[0]}"
                yield Refused(name, told)


def entries(container: Container) -> Iterator[Entry | Refused]:
    """What is not hidden, by clean names."""
    for entry in container:
        try:
            name = clean(entry.name)
        except EntryError as error:
            yield Refused(shown(entry.name) or "(no name)", str(error))
            continue
        if not hidden(name):
            named = entry if name == entry.name else entry._replace(name=name)
            yield Refused(name, entry.refusal) if entry.refusal else named


def survey(container: Container, nested: bool = False) -> Survey:
    """nested: whether it is an archive in another container: then those in it are not read. Raises InputError where the
    container is damaged."""
    found = _Finds(nested)
    for entry in entries(container):
        found.add(entry)
    return found.summed_up(container)


class _Finds:
    """What has been seen so far."""

    def __init__(self, nested: bool) -> None:
        self.nested = nested
        self.contents: dict[str, bytes] = {}
        self.failed: dict[str, str] = {}
        self.wanted: set[str] = set()
        self.folders: dict[str, set[str]] = {}
        self.direct: set[str] = set()
        self.held = self.counted = self.images = 0
        self.unknown = self.tars = self.grouped = self.referring = self.described = False
        self.last = "", False

    def add(self, entry: Entry | Refused) -> None:
        if isinstance(entry, Refused):
            self.counted += 1
            return
        if is_image(entry.name):
            self._image(entry.name)
            return
        holder = format_of(entry.name)
        if holder is not None:
            self.referring = self.referring or holder is parquet.FORMAT
            self.wanted |= holder.companions(entry.name)
            try:
                count = holder.count(entry)
            except EntryError:
                count = 1
            self.counted, self.unknown = self.counted + (count or 0), self.unknown or count is None
        elif is_companion(entry.name) or metadata.is_metadata(entry.name) or tiny_imagenet.is_companion(entry.name):
            self.described = self.described or metadata.is_metadata(entry.name)
            self._take(entry)
        else:
            self.counted += 1
            self.tars = self.tars or (is_tar_name(entry.name) and entry.seekable)
            if webdataset.is_label(entry.name):
                self._member(entry.name, image=False)

    def _take(self, entry: Entry) -> None:
        try:
            if entry.name in self.contents:
                raise EntryError(TWICE)
            if entry.size is None or self.held + entry.size > MAX_COMPANION_BYTES:
                raise EntryError(f"labels files of more than {MAX_COMPANION_BYTES} bytes together are not taken")
            with entry.open() as file:
                self.contents[entry.name] = file.read()
            self.held += entry.size
        except EntryError as error:
            self.failed[entry.name] = str(error)

    def _image(self, name: str) -> None:
        self.counted += 1
        self.images += 1
        folder = name.rpartition("/")[0]
        self.direct.add(folder)
        while folder:
            parent, _, last = folder.rpartition("/")
            beside = self.folders.setdefault(parent, set())
            if last in beside:
                break
            beside.add(last)
            folder = parent
        self._member(name, image=True)

    def _member(self, name: str, image: bool) -> None:
        """Of what would be a WebDataset's: images and labels that share a key follow each other."""
        key = webdataset.split(name)[0]
        self.grouped = self.grouped or self.last == (key, not image)
        self.last = key, image

    def summed_up(self, container: Container) -> Survey:
        stated = Stated()
        tables: dict[str, Collection[str]] = {}
        labelled: set[str] = set()
        refused = [Refused(name, reason) for name, reason in self.failed.items()]
        roots = {tiny_imagenet.root(name) for name in self.contents if name.endswith(tiny_imagenet.CLASSES)}
        companions: dict[str, bytes] = {}
        for name, content in self.contents.items():
            if tiny_imagenet.is_companion(name) and tiny_imagenet.root(name) in roots:
                if name.endswith(tiny_imagenet.ANNOTATIONS):
                    for file, said in tiny_imagenet.read_annotations(name, content):
                        stated.add(file, said)
            elif metadata.is_metadata(name):
                try:
                    table = metadata.read_metadata(name, content)
                except EntryError as error:
                    table = metadata.Table((), False, [Refused(name, str(error))])
                refused += table.refused
                tables[name] = dict.fromkeys(file for file, _ in table.rows)
                if table.labelled:
                    for file, said in table.rows:
                        stated.add(file, said)
                    labelled.add(name.rpartition("/")[0])
            elif name not in self.wanted:
                continue
            companions[name] = content
        refused += stated.contradictions()
        # Where a table names the images, files beside them are captions, as in a folder.
        grouped = self.grouped and not container.listed and not self.described
        of_folder = not container.archived or (isinstance(container, TarArchive) and container.listed)
        sharded = self.tars and not self.images and not self.nested and of_folder
        plain = self.images if grouped else self.counted + len(self.contents) - len(companions)
        return Survey(
            companions=companions,
            passed_over=frozenset(companions) | frozenset(self.failed),
            refused=tuple(refused),
            tables=tables,
            labels=Labels(stated.labels(), labelled, bases_of(self.folders, self.direct)),
            sharded=sharded,
            grouped=grouped,
            referring=self.referring,
            total=None if self.unknown or sharded else plain + len(refused),
        )
