"""The headers of a tar archive: what its members are, and where their contents lie.

They are read here and not by `tarfile`, which keeps every member in memory, takes a damaged header for the archive's
end, and reads a header of any length. Sources: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Extended
Header"; GNU tar's manual, "Basic Tar Format" and "Storing Sparse Files".
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK = 512
HALF = BLOCK // 2
# Names and attributes of a member; a reader that takes any length can be made to fill memory.
MAX_HEADER_BYTES = 64 * 2**10

FILE, OLD_FILE, CONTIGUOUS, HARD_LINK, FOLDER, SPARSE = b"0", b"\0", b"7", b"1", b"5", b"S"
# Of GNU tar --listed-incremental; its content is a list of names.
FOLDER_DUMP = b"D"
_LONG_NAME, _LONG_TARGET, _PAX, _SOLARIS_PAX, _GLOBAL_PAX = b"L", b"K", b"x", b"X", b"g"
_HEADERS = (_LONG_NAME, _LONG_TARGET, _PAX, _SOLARIS_PAX, _GLOBAL_PAX)
# Links, devices, folders and pipes: whatever size they state, no content follows.
_WITHOUT_CONTENT = (HARD_LINK, b"2", b"3", b"4", FOLDER, b"6")

_PATH, _TARGET, _SIZE = "path", "linkpath", "size"
# Any keyword that begins so tells that a member is sparse.
_SPARSE, _SPARSE_NAME = "GNU.sparse.", "GNU.sparse.name"
# By which a client of ours says what it did not pack, and why.
_REFUSED = "TAMIS.refused"
_ZEROS = bytes(BLOCK)
# What stands for whatever follows the end of the archive and is no other one.
AFTER_THE_END = "(after the end of the archive)"


class DamagedTar(Exception):  # noqa: N818  a finding, which the archive words in its way
    """The archive ends early, or a header is not what was written or cannot be true."""


class Member(NamedTuple):
    """name, target: as stored; the target is a link's. kind: the type flag. start, size: of its content, in bytes.

    sparse: whether its content is not the file itself but the parts of it that are not zeros.
    refused: why it is not to be read, as the archive says, or its reader; "" if it may.
    """

    name: str
    kind: bytes
    start: int
    size: int
    target: str
    sparse: bool
    refused: str = ""


def members(stream: BinaryIO, end: int) -> Iterator[Member]:
    """Every member of the archive in `stream`, in order, up to the block of zeros that ends it, and of archives that
    follow, as where files were joined; then AFTER_THE_END, if something else does. Between two of them the stream may
    be read anywhere. end: the length of the archive, or anything above where that is not known.

    Raises DamagedTar, before a member that would end beyond `end`.
    """
    position, ended = 0, False
    everywhere: dict[str, str] = {}
    said: dict[str, str] = {}
    while True:
        stream.seek(position)
        block = stream.read(BLOCK)
        if is_end(block) and not said:
            position, ended, everywhere = position + BLOCK, True, {}
            continue
        if ended and not is_tar(block):
            if any(block):
                told = "data that is no tar archive follows the end of this one; it is left out"
                yield Member(AFTER_THE_END, FILE, position, 0, "", sparse=False, refused=told)
            return
        ended = False
        _check(block)
        start, kind = position + BLOCK, block[156:157]
        if kind in _HEADERS:
            size = _number(block[124:136])
            # Of two that say the same of one member, the first counts.
            if kind == _GLOBAL_PAX:
                everywhere |= _read_header(stream, kind, size)
            else:
                said = _read_header(stream, kind, size) | said
            position = start + _padded(size)
            continue
        if kind == SPARSE:
            start = _after_sparse_map(stream, start, block)
        member = _member(block, start, everywhere | said if everywhere else said)
        position = start + (0 if member.kind in _WITHOUT_CONTENT else _padded(member.size))
        if member.size < 0 or position > end:
            raise DamagedTar("unexpected end of data")
        yield member
        said = {}


def is_end(block: bytes) -> bool:
    return block == _ZEROS


def is_tar(block: bytes) -> bool:
    """Whether `block`, the first 512 bytes of a file, begins a tar archive, be it an empty one."""
    if not is_end(block):
        try:
            _check(block)
        except DamagedTar:
            return False
    return True


def is_packed_folder(head: bytes) -> bool:
    """Whether an archive that begins so is a folder that `tamis upload` packed, by the header that it puts first."""
    return head[156:157] == _GLOBAL_PAX and head[BLOCK : 2 * BLOCK].rstrip(b"\0").endswith(b" TAMIS.packed=folder\n")


def _check(block: bytes) -> None:
    """Raises DamagedTar unless the block is a header whose checksum is right."""
    if len(block) < BLOCK:
        raise DamagedTar("unexpected end of data")
    stated = _number(block[148:156])
    # The checksum counts its own eight bytes as spaces. Some old programs added up signed bytes.
    total = _sum(block[:HALF]) + _sum(block[HALF:]) - sum(block[148:156]) + 8 * 32
    if stated != total and stated != total - 256 * sum(byte >= 128 for byte in block[:148] + block[156:]):
        raise DamagedTar("a header is not what was written")


def _sum(part: bytes) -> int:
    """Of the values of at most 256 bytes: the lower half of their Adler-32, which is quicker than adding them up."""
    return (zlib.adler32(part) & 0xFFFF) - 1


def _member(block: bytes, start: int, said: dict[str, str]) -> Member:
    """said: by the headers before this one, in the keywords of pax."""
    kind = block[156:157]
    sparse = kind == SPARSE
    name, size = _name(block), _number(block[124:136])
    target = _text(block[157:257]) if block[157] else ""
    if said:
        name = said.get(_SPARSE_NAME) or said.get(_PATH) or name
        target = said.get(_TARGET) or target
        size = _decimal(said[_SIZE]) if said.get(_SIZE) else size
        sparse = sparse or _SPARSE in said
    if kind == OLD_FILE and name.endswith("/"):
        kind = FOLDER
    return Member(name, kind, start, size, target, sparse, said.get(_REFUSED, ""))


def _name(block: bytes) -> str:
    name = _text(block[:100])
    # GNU tar's own headers, which end in "ustar  ", keep times where POSIX keeps the front part of long names.
    return f"{_text(block[345:500])}/{name}" if block[257:263] == b"ustar\0" and block[345] else name


def _read_header(stream: BinaryIO, kind: bytes, size: int) -> dict[str, str]:
    """What a header that precedes a member says of it."""
    if not 0 <= size <= MAX_HEADER_BYTES:
        raise DamagedTar(f"a header of {size} bytes")
    content = stream.read(size)
    if len(content) < size:
        raise DamagedTar("unexpected end of data")
    if kind in (_LONG_NAME, _LONG_TARGET):
        return {_PATH if kind == _LONG_NAME else _TARGET: _text(content)}
    return dict(_records(content))


def _records(content: bytes) -> Iterator[tuple[str, str]]:
    """Of a pax header, those that matter here. Each is `LENGTH KEYWORD=VALUE\\n`; the length counts itself."""
    place = 0
    while place < len(content) and content[place]:
        digits, _, _ = content[place : place + 20].partition(b" ")
        after = place + _decimal(digits)
        keyword, equals, value = content[place + len(digits) + 1 : after - 1].partition(b"=")
        if not keyword or not equals or content[after - 1 : after] != b"\n":
            raise DamagedTar("a header is not what was written")
        said = _text(keyword)
        if said in (_PATH, _TARGET, _SIZE, _SPARSE_NAME, _REFUSED):
            yield said, value.decode("utf-8", "surrogateescape")
        if said.startswith(_SPARSE):
            yield _SPARSE, ""
        place = after


def _after_sparse_map(stream: BinaryIO, start: int, block: bytes) -> int:
    """Where the content of an old GNU sparse member begins: its map may go on in blocks of its own."""
    goes_on = block[482]
    while goes_on:
        more = stream.read(BLOCK)
        if len(more) < BLOCK:
            raise DamagedTar("unexpected end of data")
        start, goes_on = start + BLOCK, more[504]
    return start


def _padded(size: int) -> int:
    return -(size // -BLOCK) * BLOCK


def _number(field: bytes) -> int:
    """Octal digits between spaces, to a NUL or the field's end; or, as GNU writes large ones, 0x80 and a binary number.
    Below 0 for anything else."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    if not digits:
        return 0
    try:
        return int(digits, 8) if digits.isdigit() else -1
    except ValueError:
        return -1


def _decimal(digits: str | bytes) -> int:
    """-1 for anything else."""
    return int(digits) if digits.isdigit() and digits.isascii() and len(digits) < 20 else -1


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")
