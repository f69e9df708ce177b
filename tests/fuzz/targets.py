"""What the fuzzer calls: every way a stranger's bytes come in. Only InputError may come out, soon, naming no path."""

import gzip
import io
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st
from seeds import IMAGES, PICKLES, SHARDS, SOURCES

from tamis.errors import InputError
from tamis.images import decode, inspect
from tamis.ingest.shards import ingest, read_shard
from tamis.sources import Refused, open_source
from tamis.sources.entries import EntryError
from tamis.sources.gunzip import GZIP_MAGIC
from tamis.sources.pickles import read_array, read_pickle

SECONDS_A_CASE = 10.0
_PLACES = {tempfile.gettempdir(), str(Path.home()), str(Path.cwd()), sys.prefix, str(Path(__file__).parents[2])}
_PATHS = re.compile("|".join(re.escape(place) for place in _PLACES if len(place) > 1))

# A seed, and what is changed in it: places and bytes put there instead of so many, and where it is cut.
_EDITS = st.lists(st.tuples(st.integers(0, 2**20), st.binary(max_size=8), st.integers(0, 12)), max_size=6)
_CUT = st.one_of(st.none(), st.none(), st.integers(0, 2**20))
# Values that lengths, counts and offsets are read as.
_NUMBERS = st.sampled_from(
    [b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\x80", b"\x80" + b"\0" * 11]
)
_EDITS_OF_NUMBERS = st.lists(st.tuples(st.integers(0, 2**20), _NUMBERS, st.sampled_from([4, 8, 12])), max_size=3)


def mutated(seed: bytes, edits: list[tuple[int, bytes, int]], cut: int | None) -> bytes:
    data = bytearray(seed)
    for place, replacement, length in edits:
        start = place % (len(data) + 1)
        data[start : start + length] = replacement
    return bytes(data if cut is None else data[: cut % (len(data) + 1)])


def mutated_inside(seed: bytes, edits: list[tuple[int, bytes, int]], cut: int | None) -> bytes:
    """Mutated where checksums would show it at once: below gzip, and in the headers of tar, which are summed anew."""
    gzipped = seed.startswith(GZIP_MAGIC)
    data = bytearray(mutated(gzip.decompress(seed) if gzipped else seed, edits, cut))
    for start in range(0, len(data) - 511, 512):
        header = data[start : start + 512]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return gzip.compress(data, 1) if gzipped else bytes(data)


def mutations(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    arguments = (st.sampled_from(seeds), st.one_of(_EDITS, _EDITS_OF_NUMBERS), _CUT)
    return st.one_of(st.builds(mutated, *arguments), st.builds(mutated_inside, *arguments))


def _source(case: tuple[str, bytes]) -> list[str]:
    name, content = case
    said = []
    source = open_source(io.BytesIO(content), name)
    for entry in source:
        said += [entry.name, entry.reason] if isinstance(entry, Refused) else [entry.sample_id, entry.label or ""]
    assert source.total is None or source.total >= 0
    if any(not isinstance(entry, Refused) for entry in source):
        quarantine = ingest(source, lambda key, content: None).quarantine
        said += [*quarantine["name"].to_pylist(), *quarantine["reason"].to_pylist()]
    return said


def _image(content: bytes) -> list[str]:
    refusals = [_refusal(read, content) for read in (decode, inspect)]
    assert refusals[0] == refusals[1], refusals
    return [] if refusals[0] is None else [refusals[0]]


def _refusal(read: Callable[[bytes], object], content: bytes) -> str | None:
    try:
        read(content)
    except InputError as error:
        return error.message
    return None


def _pickle(content: bytes) -> list[str]:
    try:
        value = read_pickle(content)
        for each in value.values() if isinstance(value, dict) else [value]:
            read_array(each)
    except EntryError as error:
        return [str(error)]
    return []


def _shard(content: bytes) -> list[str]:
    read_shard(content)
    return []


_SOURCE_CASES = st.sampled_from(SOURCES).flatmap(lambda seed: st.tuples(st.just(seed[0]), mutations((seed[1],))))
TARGETS: dict[str, tuple[Callable[..., list[str]], st.SearchStrategy[object]]] = {
    "sources": (_source, _SOURCE_CASES),
    "images": (_image, mutations(IMAGES)),
    "pickles": (_pickle, mutations(PICKLES)),
    "shards": (_shard, mutations((*SHARDS.values(), *(data for name, data in SOURCES if name == "x.parquet")))),
}


def check(target: str, case: object) -> None:
    """Raises AssertionError, or what came out that is no InputError."""
    start = time.perf_counter()
    try:
        said = TARGETS[target][0](case)
    except InputError as error:
        said = [str(error)]
    assert time.perf_counter() - start < SECONDS_A_CASE
    for words in said:
        words.encode()
        assert not _PATHS.search(words), words
