"""Tiny ImageNet: wnids.txt lists the classes; images are in train/CLASS/images, val/images and test/images.

The classes of the images in val are in val/val_annotations.txt. Labels are WordNet ids, as the names of the folders.
"""

from collections.abc import Iterator

from tamis.sources.labels import Said, label_text, lines_of
from tamis.sources.names import beside, last_part

CLASSES, ANNOTATIONS = "wnids.txt", "val_annotations.txt"
_FILES = {CLASSES, ANNOTATIONS, "words.txt"}


def is_companion(name: str) -> bool:
    return last_part(name) in _FILES


def root(name: str) -> str:
    """The folder of the data set, "" for the outermost, that a companion of this name would belong to."""
    folder = name.rpartition("/")[0]
    return folder.rpartition("/")[0] if last_part(name) == ANNOTATIONS else folder


def read_annotations(name: str, content: bytes) -> Iterator[tuple[str, Said]]:
    """Names of files in the container, and what is said of each."""
    for number, line in enumerate(lines_of(content), 1):
        image, _, rest = line.partition("\t")
        yield beside(name, f"images/{image}"), Said(label_text(rest.partition("\t")[0]), name, "line", number)
