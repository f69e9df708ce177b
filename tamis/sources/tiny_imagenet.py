"""Tiny ImageNet: wnids.txt lists the classes; images are in train/CLASS/images, val/images and test/images.

The classes of the images in val are in val/val_annotations.txt. Labels are WordNet ids, as the names of the folders.
"""

from tamis.sources.labels import label_text
from tamis.sources.names import beside, last_part

CLASSES, ANNOTATIONS = "wnids.txt", "val_annotations.txt"
_FILES = {CLASSES, ANNOTATIONS, "words.txt"}


def is_companion(name: str) -> bool:
    return last_part(name) in _FILES


def root(name: str) -> str:
    """The folder of the data set, "" for the outermost, that a companion of this name would belong to."""
    folder = name.rpartition("/")[0]
    return folder.rpartition("/")[0] if last_part(name) == ANNOTATIONS else folder


def read_annotations(name: str, content: bytes) -> dict[str, str | None]:
    """Labels by the names of the files in the container."""
    labels: dict[str, str | None] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        image, _, rest = line.partition("\t")
        labels[beside(name, f"images/{image}")] = label_text(rest.partition("\t")[0])
    return labels
