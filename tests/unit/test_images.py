import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tamis.errors import InputError
from tamis.images import MAX_PIXELS, decode, thumbnail


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 8, columns * 6, rows + columns], axis=-1).astype(np.uint8))


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


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_refuses_no_image() -> None:
    data = encoded(gradient(), "JPEG")
    segment = b"Exif\0\0II*\0\xff\xff\xff\xff"
    assert decode(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]).size == (40, 30)


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
    except InputError:
        return
    assert image.mode == "RGB"
    assert thumbnail(image)


def test_thumbnails_fit_and_keep_the_shape() -> None:
    small = Image.open(io.BytesIO(thumbnail(gradient(400, 200))))
    assert (small.format, small.size) == ("WEBP", (96, 48))


def test_thumbnails_of_images_of_their_own_size_are_not_resized() -> None:
    assert Image.open(io.BytesIO(thumbnail(gradient(70, 50)))).size == (70, 50)


def test_thumbnails_of_small_images_are_enlarged_by_whole_pixels() -> None:
    image = gradient(8, 7)
    enlarged = Image.open(io.BytesIO(thumbnail(image))).convert("RGB")
    assert enlarged.size == (96, 84)
    assert np.array_equal(np.asarray(enlarged), np.asarray(image).repeat(12, axis=0).repeat(12, axis=1))


def test_thumbnails_of_long_images_have_a_pixel_at_least() -> None:
    assert Image.open(io.BytesIO(thumbnail(gradient(2000, 1)))).size == (96, 1)


def test_equal_images_give_equal_thumbnails() -> None:
    assert thumbnail(gradient(300, 300)) == thumbnail(gradient(300, 300))
    assert thumbnail(gradient(10, 10)) == thumbnail(gradient(10, 10))
