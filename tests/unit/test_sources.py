import contextlib
import gzip
import hashlib
import io
import os
import socket
import stat
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import (
    PACKERS,
    TREE,
    Files,
    idx_images,
    idx_labels,
    kept,
    png,
    refused,
    tar_bytes,
    tar_gz_bytes,
    upload,
    write,
    zip_bytes,
)

from tamis.client import packing
from tamis.errors import InputError
from tamis.images import decode
from tamis.ingest.linked import file_of
from tamis.sources import RawSample, Refused, Source, open_source
from tamis.sources.tar_archive import SMALL
from tamis.sources.tar_headers import BLOCK, DamagedTar, members


def test_every_container_gives_bytes_and_folder_names_as_labels(opener: Callable[[Files], Source]) -> None:
    samples = kept(opener(TREE))
    assert {name: sample.data for name, sample in samples.items()} == TREE
    assert {name: sample.label for name, sample in samples.items()} == {
        "b/2.png": "b",
        "a/1.png": "a",
        "top.png": None,
        "a/deep/3.jpg": "a",
    }


def test_a_source_can_be_gone_through_again_and_twice_at_once(opener: Callable[[Files], Source]) -> None:
    source = opener(TREE)
    first, second = list(source), list(source)
    assert first == second
    assert [pair[0] for pair in zip(source, source, strict=True)] == first


def test_hidden_files_are_left_out(opener: Callable[[Files], Source]) -> None:
    source = opener({"a/1.png": png(), ".DS_Store": b"x", "a/.cache/2.png": png(), "__MACOSX/a/1.png": b"x"})
    assert [name for name in kept(source) if not name.startswith("__MACOSX")] == ["a/1.png"]
    assert refused(source) == {}


def test_nested_archives_are_refused_and_other_files_are_left_to_ingest(opener: Callable[[Files], Source]) -> None:
    inner = zip_bytes({"x.png": png()})
    source = opener({"1.png": png(), "labels.csv": b"a,b", "in.zip": inner, "in.tar": tar_bytes({"y": b""})})
    assert set(kept(source)) == {"1.png", "labels.csv"}
    assert set(refused(source)) == {"in.zip", "in.tar"}
    assert all("archive inside" in reason for reason in refused(source).values())


def test_the_total_is_what_is_yielded_where_it_is_known(opener: Callable[[Files], Source]) -> None:
    files = {**TREE, ".hidden": b"", "m-images-idx3-ubyte": idx_images(5), "m-labels-idx1-ubyte": idx_labels([0] * 5)}
    source = opener(files)
    assert source.total in {None, len(list(source))}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("labels_first", [True, False])
def test_idx_inside_a_container_becomes_labelled_images(
    opener: Callable[[Files], Source], suffix: str, labels_first: bool
) -> None:
    pack = gzip.compress if suffix else bytes
    pair = [(f"d/t-images-idx3-ubyte{suffix}", pack(idx_images(3))), ("d/t-labels-idx1-ubyte", idx_labels([7, 0, 255]))]
    source = opener(dict(reversed(pair) if labels_first else pair))
    samples = kept(source)
    assert list(samples) == [f"d/t-images-idx3-ubyte/{number:06}.png" for number in range(3)]
    assert [sample.label for sample in samples.values()] == ["7", "0", "255"]
    assert refused(source) == {}
    pixels = np.asarray(decode(samples["d/t-images-idx3-ubyte/000001.png"].data))[..., 0]
    assert pixels.tolist() == [[6, 7], [8, 9], [10, 11]]


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (idx_images(3)[:-1], "its header says 3 images"),
        (idx_images(3) + b"x", "its header says 3 images"),
        (b"\x89PNG", "does not begin with the header"),
        (struct.pack(">4sIII", b"\0\0\x08\x03", 1, 2**20, 2**20), "pixels"),
        (idx_images(0, 0, 0), "pixels"),
    ],
)
def test_idx_that_contradicts_its_header_is_refused(
    opener: Callable[[Files], Source], images: bytes, reason: str
) -> None:
    source = opener({"t-images.idx3-ubyte": images, "1.png": png()})
    assert set(kept(source)) == {"1.png"}
    assert reason in refused(source)["t-images.idx3-ubyte"]


@pytest.mark.parametrize("labels", [idx_labels([1, 2]), idx_labels([1, 2, 3])[:-1], b"text"])
def test_idx_labels_that_do_not_fit_are_refused_but_not_their_images(
    opener: Callable[[Files], Source], labels: bytes
) -> None:
    source = opener({"t-images-idx3-ubyte": idx_images(3), "t-labels-idx1-ubyte": labels})
    assert [sample.label for sample in kept(source).values()] == [None] * 3
    assert list(refused(source)) == ["t-labels-idx1-ubyte"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_file_finds_the_labels_beside_it(tmp_path: Path, suffix: str) -> None:
    pack = gzip.compress if suffix else bytes
    write(tmp_path, {f"t-images-idx3-ubyte{suffix}": pack(idx_images(2)), "t-labels-idx1-ubyte": idx_labels([4, 5])})
    source = open_source(tmp_path / f"t-images-idx3-ubyte{suffix}")
    assert source.total == 2
    assert {name: sample.label for name, sample in kept(source).items()} == {
        "t-images-idx3-ubyte/000000.png": "4",
        "t-images-idx3-ubyte/000001.png": "5",
    }


@pytest.mark.parametrize(
    ("name", "folder"),
    [("t-images-idx3-ubyte.gz", "t-images-idx3-ubyte"), (None, "images-idx3-ubyte"), ("../x", "images-idx3-ubyte")],
)
def test_an_uploaded_idx_file_is_known_by_its_content(name: str | None, folder: str) -> None:
    samples = kept(upload(gzip.compress(idx_images(2)), name))
    assert list(samples) == [f"{folder}/000000.png", f"{folder}/000001.png"]
    assert {(sample.label, sample.uri) for sample in samples.values()} == {(None, "")}


def test_idx_images_have_the_same_bytes_everywhere() -> None:
    digest = hashlib.sha256()
    for sample in kept(upload(idx_images(2, 300, 260))).values():
        digest.update(sample.data)
    assert digest.hexdigest() == "228141dc413f1486058cc73147043519345280fd89b0dee0c562ca13ca43bde4"


@pytest.mark.parametrize("content", [idx_images(3)[:-1], idx_images(3) + b"x", idx_images(3)[:15]])
def test_a_lone_idx_file_of_the_wrong_length_is_an_error(content: bytes) -> None:
    with pytest.raises(InputError, match="not a whole IDX file"):
        upload(content)
    with pytest.raises(InputError, match="not a whole IDX file"):
        list(upload(gzip.compress(content)))


def test_folders_are_read_packed_and_sorted_in_one_order(tmp_path: Path) -> None:
    names = ["a/b.png", "a.png", "a-b/c.png", "a/b/c.png", "B.png", "a0.png", "a b/c.png", "a.b/c.png"]
    folder = write(tmp_path, dict.fromkeys(names, png()))
    in_order = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    assert in_order[:4] == ["B.png", "a/b/c.png", "a/b.png", "a b/c.png"]
    assert list(kept(open_source(folder))) == in_order
    assert [info.name for _, info in packing.pack(folder).members] == in_order


def test_classes_come_in_the_order_of_torchvision(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    folder = write(
        tmp_path, {f"{label}/{n}.png": png() for label in ("cat-wild", "cat", "cat+", "dog") for n in (0, 1)}
    )
    in_order = [Path(path).relative_to(folder).as_posix() for path, _ in ImageFolder(folder).samples]
    assert list(kept(open_source(folder))) == in_order


def test_archives_are_read_in_their_own_order() -> None:
    for pack in PACKERS.values():
        assert list(kept(upload(pack(TREE)))) == list(TREE)


def test_uris_lead_to_the_file_on_this_machine(opener: Callable[[Files], Source]) -> None:
    name = "a b/ü#1%.png"
    uri = urlsplit(kept(opener({name: png()}))[name].uri)
    path = Path(unquote(uri.path))
    assert path.is_file()
    assert path.suffix == ".png" or unquote(uri.fragment) == name


def test_links_out_of_a_folder_and_special_files_are_refused_unopened(tmp_path: Path) -> None:
    write(tmp_path, {"secret.png": png(), "data/a/1.png": png()})
    data = tmp_path / "data"
    (data / "out.png").symlink_to(tmp_path / "secret.png")
    (data / "gone.png").symlink_to("nowhere.png")
    (data / "loop.png").symlink_to("loop.png")
    (data / "up").symlink_to("..")
    (data / "again").symlink_to("a")
    (data / "inside.png").symlink_to("a/1.png")
    os.mkfifo(data / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(data / "socket.png"))
        others = {"gone.png", "loop.png", "up", "again", "pipe.png", "socket.png"}
        on_a_server = open_source(data, roots=[tmp_path])
        assert set(kept(on_a_server)) == {"a/1.png", "inside.png"}
        assert set(refused(on_a_server)) == {"out.png", *others}
        assert set(kept(open_source(data))) == {"a/1.png", "inside.png", "out.png"}
        assert set(refused(open_source(data))) == others


def test_folders_of_links_are_read_by_ones_own_rights_and_circles_end(tmp_path: Path) -> None:
    write(tmp_path, {"all/cat/1.png": png(1), "all/cat/deep/2.png": png(2), "all/dog/3.png": png(3), "blobs/4": png(4)})
    subset = tmp_path / "subset"
    subset.mkdir()
    (subset / "cat").symlink_to("../all/cat")
    (subset / "4.png").symlink_to("../blobs/4")
    (tmp_path / "all/cat/around").symlink_to("../../all")
    (tmp_path / "all/cat/home").symlink_to("../../subset")
    source = open_source(subset)
    assert {name: sample.label for name, sample in kept(source).items()} == {
        "4.png": None,
        "cat/1.png": "cat",
        "cat/deep/2.png": "cat",
    }
    assert set(refused(source)) == {"cat/around", "cat/home"}
    assert [read_file(sample.uri) for sample in kept(source).values()] == [png(4), png(1), png(2)]
    assert not kept(open_source(subset, roots=[tmp_path]))


def read_file(uri: str) -> bytes:
    path = file_of(uri)
    assert path is not None
    return path.read_bytes()


def test_a_file_that_went_away_is_refused(tmp_path: Path) -> None:
    entries = iter(open_source(write(tmp_path, {"1.png": png(), "2.png": png(), "3.png": png()})))
    next(entries)
    (tmp_path / "2.png").unlink()
    second, third = entries
    assert isinstance(second, Refused)
    assert "cannot be read" in second.reason
    assert isinstance(third, RawSample)


def test_names_are_composed_and_without_empty_parts(opener: Callable[[Files], Source]) -> None:
    assert list(kept(opener({"e\u0301/./u\u0308.png": png()}))) == ["\u00e9/\u00fc.png"]
    assert list(kept(upload(tar_bytes({"./a//1.png": png()})))) == ["a/1.png"]


BAD_NAMES = {
    "/etc/passwd": "absolute",
    "../up.png": '".."',
    "a/../../up.png": '".."',
    "..\\up.png": "backslash",
    "C:/up.png": "drive",
    "new\nline.png": "control",
    "bell\x07.png": "control",
    "\u202egnp.exe": "direction",
    "./": "empty",
}


@pytest.mark.parametrize("pack", [zip_bytes, tar_bytes, tar_gz_bytes])
def test_dangerous_names_are_refused_with_the_cause(pack: Callable[[Files], bytes]) -> None:
    names = {name: reason for name, reason in BAD_NAMES.items() if not name.endswith("/")}
    found = refused(upload(pack(dict.fromkeys([*names, "good.png"], png()))))
    assert len(found) == len(names)
    for (name, reason), (shown, given_reason) in zip(names.items(), found.items(), strict=True):
        assert reason in given_reason, name
        assert shown.isprintable()


def test_a_zip_name_with_nul_is_refused() -> None:
    content = zip_bytes({"a.pngX.exe": png(), "b.png": png()}).replace(b"a.pngX", b"a.png\0")
    assert refused(upload(content)) == {"a.png\\x00.exe": "the name holds a control character"}


def test_a_tar_name_that_is_no_unicode_is_refused() -> None:
    content = tar_bytes([("\udcff.png", png()), ("b.png", png())], tarfile.GNU_FORMAT)
    assert refused(upload(content)) == {"\\udcff.png": "the name is not valid Unicode"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [zip_bytes, tar_bytes])
def test_the_second_of_two_equal_names_is_refused(
    pack: Callable[[Iterable[tuple[str, bytes]]], bytes],
) -> None:
    source = upload(pack([("é.png", png(1)), ("x/../y.png", png(9)), ("./e\u0301.png", png(2)), ("é.png", png(3))]))
    assert kept(source)["é.png"].data == png(1)
    twice = [entry for entry in source if isinstance(entry, Refused) and "twice; the first was kept" in entry.reason]
    assert len(twice) == 2


def test_encrypted_zip_members_are_refused_one_by_one() -> None:
    content = bytearray(zip_bytes({"1.png": png(1), "2.png": png(2)}))
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1
    source = upload(bytes(content))
    assert set(kept(source)) == {"2.png"}
    assert "encrypted" in refused(source)["1.png"]


def test_zip_links_are_refused() -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    source = upload(zip_bytes([(link, b"/etc/passwd"), ("1.png", png())]))
    assert set(kept(source)) == {"1.png"}
    assert "link" in refused(source)["link.png"]


def test_zip_bombs_are_refused_unread() -> None:
    source = upload(zip_bytes({"bomb.png": bytes(2**24 + 1), "1.png": png()}, zipfile.ZIP_DEFLATED))
    assert set(kept(source)) == {"1.png"}
    assert "expand" in refused(source)["bomb.png"]


def test_a_zip_whose_members_overlap_is_an_error() -> None:
    content = zip_bytes({"1.png": os.urandom(1000)})
    entry, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    directory = b"".join(content[entry:end].replace(b"1.png", b"%d.png" % number) for number in range(9))
    total = struct.pack("<HHI", 9, 9, len(directory))
    with pytest.raises(InputError, match="overlap"):
        upload(content[:entry] + directory + content[end : end + 8] + total + content[end + 16 :])


def test_a_damaged_zip_member_is_refused_alone() -> None:
    source = upload(zip_bytes({"1.png": png(1), "2.png": b"some text"}).replace(b"some text", b"some tEXt"))
    assert set(kept(source)) == {"1.png"}
    assert "damaged" in refused(source)["2.png"]


def test_entries_too_large_are_refused_unread(
    monkeypatch: pytest.MonkeyPatch, opener: Callable[[Files], Source]
) -> None:
    monkeypatch.setattr("tamis.sources.samples.MAX_ENTRY_BYTES", 1000)
    source = opener({"big.png": os.urandom(1001), "t-images-idx3-ubyte": idx_images(400), "1.png": png()})
    assert list(refused(source)) == ["big.png"]
    assert len(kept(source)) == 401


def test_more_entries_than_allowed_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tamis.sources.samples.MAX_ENTRIES", 3)
    with pytest.raises(InputError, match="more than 3"):
        list(upload(tar_bytes(TREE)))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_tar_links_and_devices_are_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("x.png")
    info.type, info.linkname = kind, "/etc/passwd"
    source = upload(tar_bytes([("1.png", png()), (info, b""), ("2.png", png())]))
    assert set(kept(source)) == {"1.png", "2.png"}
    assert "link or device" in refused(source)["x.png"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_from_tars_of_every_kind(form: int) -> None:
    name = f"{'d' * 90}/{'f' * 90}.png"
    assert list(kept(upload(tar_bytes({name: png()}, form)))) == [name]


def test_a_tar_that_ends_early_is_an_error_wherever_it_was_cut() -> None:
    content = tar_bytes({"1.png": png(), "2.png": os.urandom(700)})[: -10 * BLOCK]
    content = content.rstrip(b"\0")
    for length in range(BLOCK, len(content) + 1, 64):
        with pytest.raises(InputError, match="ends early"):
            list(upload(content[:length]))


# Of size, checksum, type and names: a member's mode, owner and time are not looked at.
HEADER_PLACES = st.one_of(st.integers(124, 135), st.integers(148, 328), st.integers(345, 511))
PAX_VALUES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=20)
HEADERS_BEFORE_A_MEMBER = (b"L", b"K", b"x", b"X", b"g")


@given(
    name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=130),
    size=st.integers(0, 8**11 - 1),
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.CONTTYPE]),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    edits=st.lists(st.tuples(HEADER_PLACES, st.sampled_from(b"\0 0179a\xff")), max_size=3),
    summed=st.sampled_from(["", "unsigned", "signed"]),
)
@settings(max_examples=500)
def test_a_tar_header_is_read_as_the_standard_library_reads_it(
    name: str, size: int, kind: bytes, form: int, edits: list[tuple[int, int]], summed: str
) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    try:
        header = bytearray(info.tobuf(form)[-BLOCK:])
    except ValueError:
        return
    for place, value in edits:
        header[place] = value
    if summed:
        counted = header[:148] + header[156:]
        signed = 256 * sum(byte >= 128 for byte in counted) if summed == "signed" else 0
        header[148:156] = b"%06o\0 " % max(sum(counted) + 8 * 32 - signed, 0)
    if header[156:157] in HEADERS_BEFORE_A_MEMBER:
        return
    read = members(io.BytesIO(header), sys.maxsize)
    try:
        standard = tarfile.TarInfo.frombuf(bytes(header), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        with pytest.raises(DamagedTar):
            next(read)
        return
    if standard.size < 0:
        with pytest.raises(DamagedTar):
            next(read)
        return
    member = next(read)
    assert member.size == standard.size
    if standard.isreg() and (header[257:263] == b"ustar\0" or not header[345]):
        assert (member.name, member.kind) == (standard.name, standard.type)


@given(
    stored=st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300),
            st.sampled_from([tarfile.REGTYPE, tarfile.CONTTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE]),
            st.sampled_from([0, 1, 511, 512, 513, 5000]),
            st.dictionaries(st.sampled_from(["path", "comment", "mtime"]), PAX_VALUES),
        ),
        max_size=5,
    ),
    everywhere=st.dictionaries(st.sampled_from(["path", "linkpath", "comment"]), PAX_VALUES),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_a_whole_tar_is_read_as_the_standard_library_reads_it(
    stored: list[tuple[str, bytes, int, dict[str, str]]], everywhere: dict[str, str], form: int
) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form, pax_headers=everywhere) as archive:
        for name, kind, size, said in [*stored, ("last.png", tarfile.REGTYPE, 7, {})]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.pax_headers = kind, name[::-1], said
            info.size = size if info.isreg() else 0
            # A name may be too long for the format.
            with contextlib.suppress(ValueError):
                archive.addfile(info, io.BytesIO(bytes(info.size)))
    sink.seek(0)
    with tarfile.open(fileobj=sink) as archive:
        standard = [(info.name, info.type, info.offset_data, info.size, info.linkname) for info in archive]
    found = [(member.name, member.kind, member.start, member.size, member.target) for member in members(sink, 2**30)]
    assert [(name.rstrip("/"), *rest) for name, *rest in found] == [
        (name.rstrip("/"), *rest) for name, *rest in standard
    ]


def gnu_header(info: tarfile.TarInfo, accessed: int) -> bytes:
    """As GNU tar --listed-incremental writes it: with the time of the last access."""
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[345:357] = b"%011o\0" % accessed
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_times_in_the_headers_of_an_incremental_tar_are_no_part_of_names() -> None:
    folder, image = tarfile.TarInfo("cat/"), tarfile.TarInfo("cat/1.png")
    folder.type, folder.size, image.size = b"D", 7, len(png())
    members = [(folder, b"Y1.png\0"), (image, png())]
    content = b"".join(gnu_header(info, 10**9) + data + bytes(-len(data) % BLOCK) for info, data in members)
    source = upload(content + bytes(1024))
    assert [(sample.sample_id, sample.label) for sample in kept(source).values()] == [("cat/1.png", "cat")]
    assert not refused(source)


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_hard_link_in_a_tar_is_the_file_that_it_is_another_name_of(form: int, zipped: bool) -> None:
    first, large = f"{'d' * 40}/{'f' * 40}.png", "b/large.png"
    members = [
        (first, png(1)),
        (hard_link("a/1.png", first), b""),
        (large, png(2) + os.urandom(2 * SMALL)),
        (hard_link("a/2.png", large), b""),
        (hard_link("a/3.png", first), b""),
        (hard_link("a/4.png", "a/1.png"), b""),
        ("5.png", png(5)),
    ]
    content = tar_bytes(members, form)
    source = upload(gzip.compress(content) if zipped else content)
    samples = kept(source)
    assert list(samples) == [first, large, "5.png", "a/1.png", "a/3.png", "a/2.png"]
    assert samples["a/1.png"].data == samples["a/3.png"].data == png(1)
    assert samples["a/2.png"].data == samples[large].data
    assert samples["a/2.png"].label == "a"
    assert refused(source) == {"a/4.png": "a link or device, not a file"}
    assert list(source) == list(source)


def test_hard_links_that_would_expand_a_tar_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tamis.sources.tar_archive.MAX_UNSUSPECTED_BYTES", 2500)
    monkeypatch.setattr("tamis.sources.tar_archive.MAX_RATIO", 0)
    links = [(hard_link(f"{number}.png", "x.png"), b"") for number in range(5)]
    source = upload(tar_bytes([("x.png", os.urandom(1000)), *links]))
    assert set(kept(source)) == {"x.png", "0.png", "1.png"}
    assert all("expand the archive" in reason for reason in refused(source).values())


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("between", [b"", bytes(9 * BLOCK)])
def test_tars_that_were_joined_are_read_to_the_end(zipped: bool, between: bytes) -> None:
    parts = (
        tar_bytes({"1.png": png(1)}),
        between,
        tar_bytes({"d" * 200 + "/3.png": png(3), "4.png": png(4)}),
        bytes(700),
    )
    source = upload(b"".join(map(gzip.compress, parts) if zipped else parts))
    assert [sample.data for sample in kept(source).values()] == [png(1), png(3), png(4)]
    assert refused(source) == {}
    with pytest.raises(InputError, match="damaged"):
        list(upload(tar_bytes({"1.png": png(1)}) + tar_bytes({"2.png": png(2)})[: 2 * BLOCK - 9]))


@pytest.mark.parametrize("rest", [b"x", b"x" * BLOCK, png(2) * 9, bytes(100) + b"x"])
def test_what_else_follows_the_end_of_a_tar_is_told(rest: bytes) -> None:
    source = upload(tar_bytes({"1.png": png(1)}) + rest)
    assert set(kept(source)) == {"1.png"}
    told = "data that is no tar archive follows the end of this one; it is left out"
    assert refused(source) == {"(after the end of the archive)": told}


def test_a_tar_with_nothing_but_what_is_said_of_all_members_holds_no_files() -> None:
    sink = io.BytesIO()
    tarfile.open(fileobj=sink, mode="w", pax_headers={"comment": "as of an empty commit"}).close()
    with pytest.raises(InputError, match="holds no files"):
        upload(sink.getvalue())


def test_a_tar_that_ends_after_what_is_said_of_the_next_member_is_an_error() -> None:
    content = tar_bytes({"1.png": png(), "é.png": png()})
    cut = content.index(b"PaxHeader") // BLOCK * BLOCK + 2 * BLOCK
    with pytest.raises(InputError, match="ends early"):
        list(upload(content[:cut] + bytes(1024)))


def test_a_tar_with_a_damaged_header_is_an_error() -> None:
    content = tar_bytes({"1.png": png(), "2.png": png(), "3.png": png()})
    with pytest.raises(InputError, match="ends early or its data"):
        list(upload(content.replace(b"2.png", b"X.png")))


def test_a_tar_header_that_leads_back_is_an_error() -> None:
    info = tarfile.TarInfo("1.png")
    info.pax_headers = {"size": "-1024"}
    with pytest.raises(InputError, match="unexpected end of data"):
        list(upload(tar_bytes([(info, b"")])))


def test_a_tar_header_that_would_fill_memory_is_an_error() -> None:
    info = tarfile.TarInfo("1.png")
    info.pax_headers = {"comment": "x" * 2**17}
    long = tarfile.TarInfo("x" * 2**17)
    for content in (tar_bytes([(info, b"")]), tar_bytes([(long, b"")], tarfile.GNU_FORMAT)):
        with pytest.raises(InputError, match="header of"):
            list(upload(content))


def test_a_damaged_gzip_is_an_error() -> None:
    content = bytearray(tar_gz_bytes({"1.png": os.urandom(3000)}))
    for length in (5, 15):
        with pytest.raises(InputError, match="damaged"):
            upload(bytes(content[:length]))
    with pytest.raises(InputError, match="ends early"):
        list(upload(bytes(content[:-5])))
    content[-8] ^= 1
    with pytest.raises(InputError, match="ends early or its data"):
        list(upload(bytes(content)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"just a text", "no archive that Tamis knows"),
        (png(), "no archive that Tamis knows"),
        (gzip.compress(b"just a text"), "no archive that Tamis knows"),
        (idx_labels([1, 2]), "no archive that Tamis knows"),
        (zip_bytes(TREE)[:-10], "damaged zip"),
        (zip_bytes(TREE)[:100], "damaged zip"),
        (zip_bytes({}), "holds no files"),
        (zip_bytes({"folder/": b"", ".hidden": b""}), "holds no files"),
        (tar_bytes({}), "holds no files"),
        (tar_gz_bytes({}), "holds no files"),
    ],
    # The contents would not do: some hold the time.
    ids=[
        "nothing",
        "text",
        "image",
        "text in gzip",
        "labels alone",
        "zip without its end",
        "beginning of a zip",
        "empty zip",
        "zip of what is passed over",
        "empty tar",
        "empty tar.gz",
    ],
)
def test_what_cannot_be_read_at_all_is_an_error_at_once(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        with pytest.raises(InputError, match=message) as caught:
            open_source(source)
        assert caught.value.hint


def test_paths_that_lead_to_no_files_are_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path, message in [("none", "does not exist"), ("empty", "holds no files"), ("pipe", "is not a file or folder")]:
        with pytest.raises(InputError, match=message):
            open_source(str(tmp_path / path))


def test_an_upload_stays_open_and_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    for pack in PACKERS.values():
        path.write_bytes(pack(TREE))
        with path.open("rb") as file:
            file.seek(7)
            assert set(kept(open_source(file, "upload"))) == set(TREE)
            assert not file.closed


@pytest.mark.parametrize(("name", "told"), [("", "(no name)"), (".", ".")])
def test_a_file_without_a_name_is_refused(name: str, told: str) -> None:
    nameless = [entry for entry in upload(tar_bytes({"1.png": png(), name: png()})) if isinstance(entry, Refused)]
    assert nameless == [Refused(told, "the name is empty")]


MUTATED = [pack(TREE) for pack in PACKERS.values()] + [
    zip_bytes({"t-images-idx3-ubyte.gz": gzip.compress(idx_images(3)), "t-labels-idx1-ubyte": idx_labels([1, 2, 3])}),
    zip_bytes({"1.png": png() * 20}, zipfile.ZIP_DEFLATED),
    tar_bytes({"d" * 150 + "/1.png": png()}, tarfile.GNU_FORMAT),
    tar_bytes({"ü.png": png(), "d" * 150: png()}),
    gzip.compress(idx_images(3)),
    idx_images(3),
]


@given(
    content=st.sampled_from(MUTATED),
    edits=st.lists(st.tuples(st.integers(0, 2**16), st.binary(max_size=6), st.integers(0, 8)), max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 12_000)),
)
@settings(max_examples=500, deadline=None)
def test_any_mutation_of_an_archive_is_read_refused_or_an_error(
    content: bytes, edits: list[tuple[int, bytes, int]], cut: int | None
) -> None:
    data = bytearray(content)
    for place, replacement, length in edits:
        start = place % (len(data) + 1)
        data[start : start + length] = replacement
    try:
        entries = list(upload(bytes(data[:cut])))
    except InputError:
        return
    for entry in entries:
        assert (entry.name if isinstance(entry, Refused) else entry.sample_id).encode()
