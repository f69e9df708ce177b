import io
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tamis import images
from tamis.errors import InputError
from tamis.images import AS_IT_IS, MAX_PIXELS, THUMBNAIL_SIZES, ImageFacts, decode, inspect, serves_as_it_is
from tamis.ingest.checking import checked
from tamis.sources import RawSample
from tamis.sources.pixels import picture


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def thumbnails(data: bytes) -> list[Image.Image | None]:
    """By size, those that were made."""
    return [made and Image.open(io.BytesIO(made)) for made in inspect(data).thumbnails]


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 8, columns * 6, rows + columns], axis=-1).astype(np.uint8))


def photo(width: int, height: int) -> Image.Image:
    """Without the steps of `gradient`, so that any two ways to reduce it agree."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * rows // height, 255 * columns // width, np.full_like(rows, 90)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_start(width: int, height: int) -> bytes:
    """A valid header, and hardly any pixel data."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT", b"x\x9c")
    )


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {})])
def test_lossless_formats_keep_every_pixel(kind: str, options: dict[str, object]) -> None:
    image = decode(encoded(gradient(), kind, **options))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(gradient()))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_decode(kind: str) -> None:
    image = decode(encoded(gradient(), kind))
    assert (image.mode, image.size) == ("RGB", (40, 30))


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    image = decode(encoded(Image.fromarray(values)))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_float_grey_is_scaled_from_its_own_range() -> None:
    values = np.array([[-1.0, 0.0, 1.0, np.nan]], dtype=np.float32)
    image = decode(encoded(Image.fromarray(values), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 128, 255, 128]


def test_alpha_is_composited_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 255, 0))
    assert np.asarray(decode(encoded(image)))[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_transparent_palette_entry_is_composited_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((1, 0), 1)
    assert np.asarray(decode(encoded(image, transparency=0)))[0].tolist() == [[255, 255, 255], [10, 20, 30]]


def test_cmyk_jpeg_becomes_rgb() -> None:
    image = decode(encoded(Image.new("RGB", (16, 16), (200, 30, 40)).convert("CMYK"), "JPEG", quality=95))
    assert image.mode == "RGB"
    assert np.allclose(np.asarray(image)[8, 8], [200, 30, 40], atol=6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    stored = gradient() if turn is None else gradient().transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(encoded(stored, exif=exif))
    assert np.array_equal(np.asarray(upright), np.asarray(gradient()))
    assert not upright.getexif()


def with_damaged_exif() -> bytes:
    data = encoded(gradient(), "JPEG")
    segment = b"Exif\0\0II*\0\xff\xff\xff\xff"
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


@pytest.mark.filterwarnings("error")
def test_damaged_exif_refuses_no_image_and_warns_nobody() -> None:
    assert decode(with_damaged_exif()).size == (40, 30)
    before = list(warnings.filters)
    with pytest.raises(InputError, match="more than"):
        decode(png_start(10_000, 10_000))
    assert warnings.filters == before


def test_nothing_is_written_to_the_screen_while_images_are_checked(capfd: pytest.CaptureFixture[str]) -> None:
    damaged = ("1.png", with_damaged_exif()), ("2.png", png_start(10_000, 10_000))
    (found,) = checked([RawSample(name, data, None, "") for name, data in damaged])
    assert [image.sample.sample_id for image in found.images] == ["1.png"]
    assert [one.name for one in found.refused] == ["2.png"]
    assert capfd.readouterr() == ("", "")


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    image = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.asarray(image)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"name,label\na.png,cat\n", "known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "known format"),
        (encoded(gradient(200, 200))[:400], "truncated"),
        (encoded(gradient(200, 200), "JPEG")[:1000], "truncated"),
        (png_start(0, 5), "intact"),
        (png_start(2**30, 2**30), "more than"),
        (png_start(8193, 8192), "more than"),
    ],
    ids=["empty", "text", "postscript", "cut-png", "cut-jpeg", "no-width", "bomb", "just-too-many-pixels"],
)
def test_what_is_no_image_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        decode(data)
    assert caught.value.hint


def test_only_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    assert MAX_PIXELS == 8192**2
    with pytest.raises(InputError, match="truncated"):
        decode(png_start(8192, 8192))


def test_the_reason_for_equal_files_is_equal() -> None:
    reasons = set()
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            decode(b"no image")
        reasons.add(str(caught.value))
    assert len(reasons) == 1


@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]),
    edits=st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=0, max_size=6), st.integers(0, 8)), max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 2000)),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.filterwarnings("ignore")
def test_any_mutation_decodes_or_is_refused(kind: str, edits: list[tuple[int, bytes, int]], cut: int | None) -> None:
    data = bytearray(encoded(gradient(), kind))
    for place, replacement, length in edits:
        start = place % (len(data) + 1)
        data[start : start + length] = replacement
    try:
        image = decode(bytes(data[:cut]))
    except InputError as error:
        with pytest.raises(InputError, match=re.escape(error.message)):
            inspect(bytes(data[:cut]))
        return
    assert image.mode == "RGB"
    facts = inspect(bytes(data[:cut]))
    assert (facts.width, facts.height) == image.size


@pytest.mark.parametrize("size", [(900, 700), (400, 1600), (5000, 2)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_photo_is_measured_whole_and_upright(size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(*size), "JPEG", exif=exif)
    facts, image = inspect(data), decode(data)
    assert (facts.width, facts.height) == image.size
    for side, small in zip(THUMBNAIL_SIZES, thumbnails(data), strict=True):
        assert small is not None
        assert (small.format, max(small.size)) == ("WEBP", side)
        plain = image.resize(small.size, Image.Resampling.BOX)
        assert abs(np.asarray(small.convert("RGB"), float) - np.asarray(plain, float)).mean() < 6


@pytest.mark.parametrize("size", [(700, 900), (2000, 1500)])
def test_a_photo_is_refused_for_what_decoding_all_of_it_refuses(size: tuple[int, int]) -> None:
    data = encoded(gradient(*size), "JPEG")
    for cut in (len(data) // 3, len(data) - 40):
        with pytest.raises(InputError, match="truncated"):
            inspect(data[:cut])


def test_thumbnails_fit_and_keep_the_shape() -> None:
    for kind in ("PNG", "TIFF", "BMP"):
        small, large = thumbnails(encoded(gradient(400, 200), kind))
        assert small is not None
        assert large is not None
        assert (small.size, large.size) == ((96, 48), (192, 96))


def test_thumbnails_of_long_images_have_a_pixel_at_least() -> None:
    assert [small and small.size for small in thumbnails(encoded(gradient(2000, 1)))] == [(96, 1), (192, 1)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_small_file_that_browsers_show_is_its_own_thumbnail(kind: str) -> None:
    assert inspect(encoded(gradient(96, 60), kind)) == ImageFacts(96, 60, (None, None))
    small, large = inspect(encoded(gradient(97, 60), kind)).thumbnails
    assert small is not None
    assert large is None


def test_a_small_file_that_browsers_would_show_otherwise_gets_thumbnails_of_the_same_pixels() -> None:
    transparent = Image.new("RGBA", (9, 5), (255, 0, 0, 80))
    deep = Image.fromarray(np.arange(45, dtype=np.uint16).reshape(5, 9) * 1000)
    turned = Image.Exif()
    turned[0x0112] = 6
    files = [
        encoded(transparent),
        encoded(transparent, "WEBP"),
        encoded(gradient(9, 5), "BMP"),
        encoded(gradient(9, 5), "TIFF"),
        encoded(gradient(9, 5), "GIF"),
        encoded(deep),
        encoded(gradient(9, 5), exif=turned),
        encoded(gradient(9, 5).convert("CMYK"), "JPEG"),
        encoded(gradient(9, 5), save_all=True, append_images=[gradient(9, 5).rotate(180)]),
        encoded(gradient(9, 5)) + bytes(20_000),
    ]
    for data in files:
        for small in thumbnails(data):
            assert small is not None
            assert np.array_equal(np.asarray(small.convert("RGB")), np.asarray(decode(data)))


def test_equal_files_give_equal_thumbnails() -> None:
    for data in (encoded(gradient(300, 300), "JPEG"), encoded(gradient(10, 10), "BMP")):
        assert inspect(data) == inspect(data)


@given(
    size=st.tuples(st.integers(1, 100), st.integers(1, 100)),
    channels=st.sampled_from([(), (3,)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_said_of_an_image_made_here_is_what_decoding_it_shows(
    size: tuple[int, int], channels: tuple[int, ...], seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, *channels), dtype=np.uint8)
    made = picture("x", pixels, None)
    assert made.size is not None
    found = inspect(made.data)
    assert found[:2] == made.size
    assert serves_as_it_is(made.size, made.data) == (found.thumbnails == AS_IT_IS)
    np.testing.assert_array_equal(decode(made.data), np.broadcast_to(pixels.reshape(*size, -1), (*size, 3)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 300)),
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    seed=st.integers(0, 2**32 - 1),
    options=st.fixed_dictionaries(
        {"quality": st.integers(1, 100), "progressive": st.booleans()},
        optional={"subsampling": st.integers(0, 2), "orientation": st.integers(1, 8), "keep_rgb": st.just(True)},
    ),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
    length=st.none() | st.integers(1, 2000),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_jpeg_is_read_as_pillow_reads_it_whole_or_damaged(
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    mode: str,
    seed: int,
    options: dict[str, Any],
    edits: list[tuple[int, int]],
    length: int | None,
) -> None:
    channels = {"L": (), "RGB": (3,), "CMYK": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, *channels), dtype=np.uint8)
    if "keep_rgb" in options:
        options.pop("subsampling", None)
    if "orientation" in options:
        options = {**options, "exif": Image.Exif()}
        options["exif"][0x0112] = options.pop("orientation")
    data = bytearray(encoded(Image.fromarray(pixels, mode), "JPEG", **options))
    for place, value in edits:
        data[place % len(data)] = value
    content = bytes(data[:length])

    def outcome() -> tuple[object, ...]:
        try:
            facts = inspect(content)
            made = tuple(each is None for each in facts.thumbnails)
            return facts.width, facts.height, made, decode(content).tobytes()
        except InputError as error:
            return (error.message,)

    quick = outcome()
    with monkeypatch.context() as without:
        without.setattr(images, "simplejpeg", None)
        assert outcome() == quick


def test_plain_jpegs_do_not_need_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_opened", None)
    for mode in ("L", "RGB"):
        assert decode(encoded(gradient().convert(mode), "JPEG")).size == gradient().size


def test_what_libtiff_says_of_a_damaged_file_stays_off_the_screen(tmp_path: Path) -> None:
    sink = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(sink, "TIFF", compression="tiff_lzw")
    damaged = bytearray(sink.getvalue())
    damaged[40:600] = bytes(byte ^ 0x5A for byte in damaged[40:600])
    with pytest.raises(InputError, match="cannot be decoded"):
        decode(bytes(damaged))
    (tmp_path / "damaged.tif").write_bytes(damaged)
    program = (
        "import sys; from pathlib import Path; from tamis.ingest.checking import checked;"
        "from tamis.sources import open_source; "
        "found = list(checked(open_source(Path(sys.argv[1]))))[0]; assert len(found.refused) == 1"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
