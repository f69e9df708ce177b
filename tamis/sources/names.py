"""Names of entries: what may become a sample id, and how to show what may not."""

import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress

from tamis.sources.entries import Entry, EntryError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DIRECTION = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
# Most names, which need no closer look: parts of ASCII letters, digits and a few signs, none beginning with a dot.
_PLAIN = re.compile(r"(?:[\w+=,@~-][\w+=,@~. -]*/)*[\w+=,@~-][\w+=,@~. -]*", re.ASCII)
# By which a file is taken for an image; which it is, its content says.
_IMAGE_SUFFIXES = {"png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"}
# How the files of most formats begin.
_SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"RIFF": ".webp",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
_UNSHOWABLE = re.compile("|".join(pattern.pattern for pattern in (_CONTROL, _DIRECTION, _SURROGATE)))


def clean(name: str) -> str:
    """`name` as a relative path: forward slashes, Unicode NFC, no empty or "." parts.

    Raises EntryError, naming the cause, for names that could leave a folder, mean another file on another system or
    show as something else than they are.
    """
    if _PLAIN.fullmatch(name):
        return name
    causes = {
        "the name holds a control character": _CONTROL.search(name),
        "the name holds a character that reverses the direction of text": _DIRECTION.search(name),
        "the name is not valid Unicode": _SURROGATE.search(name),
        "the name holds a backslash": "\\" in name,
        "the name is an absolute path": name.startswith("/"),
        "the name begins with a drive letter": _DRIVE.match(name),
        'the name holds ".."': ".." in name.split("/"),
    }
    for cause, applies in causes.items():
        if applies:
            raise EntryError(cause)
    path = "/".join(part for part in name.split("/") if part not in {"", "."})
    if not path:
        raise EntryError("the name is empty")
    return unicodedata.normalize("NFC", path)


def by_clean_name(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Of two that have the same name the first; without those whose names are refused."""
    named: dict[str, Entry] = {}
    for entry in entries:
        with suppress(EntryError):
            named.setdefault(clean(entry.name), entry)
    return named


def last_part(name: str) -> str:
    """The name of a file without its folder. Quicker than pathlib, for it is asked of every file."""
    return name.rpartition("/")[2]


def is_image(name: str) -> bool:
    """Whether a file is called like an image."""
    return name.rpartition(".")[2].lower() in _IMAGE_SUFFIXES


def image_suffix(content: bytes) -> str:
    """How the name of an image file with this content ends; "" where its beginning does not tell."""
    return next((suffix for magic, suffix in _SUFFIXES.items() if content.startswith(magic)), "")


def beside(name: str, other: str) -> str:
    """The name of the file `other` in the folder of `name`."""
    folder, slash, _ = name.rpartition("/")
    return f"{folder}{slash}{other}"


def hidden(name: str) -> bool:
    """Whether any part of a clean name is hidden, or is macOS's folder of resource forks."""
    return name.startswith((".", "__MACOSX/")) or "/." in name or "/__MACOSX/" in name


def shown(name: str) -> str:
    """`name` with the characters that cannot be stored or shown written as escapes."""
    return _UNSHOWABLE.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), name)
