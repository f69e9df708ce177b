"""Image files of unknown origin to upright RGB pixels, and thumbnails of them."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from tamis.errors import InputError

try:
    import simplejpeg
except ImportError:
    # Where only the trainer's dependencies are: Pillow gives the same pixels.
    simplejpeg = None

# Where Pillow's warnings come from.
PILLOW = r"PIL\."
# Named one by one: Pillow's other plugins start programs (EPS) or are seldom tried against hostile files.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 2**26
# Pixels of the longer side: in a grid of images, and of two side by side.
THUMBNAIL_SIZES = (96, 192)

# What browsers show as `decode` reads it. A small file of these is its own thumbnail.
_SHOWN_FORMATS = {"PNG", "JPEG", "WEBP"}
_SHOWN_MODES = {"1", "L", "P", "RGB"}
_SMALL_BYTES, _SMALL_PIXELS = 16 * 2**10, 2**18
_SMALLEST = min(THUMBNAIL_SIZES)

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")

# In a JPEG's metadata: EXIF and XMP, which may turn it, and several pictures in one file.
_NOT_PLAIN = (b"Exif\0", b"ns.adobe.com/xap", b"MPF\0")

P = ParamSpec("P")
T = TypeVar("T")

# A WebP file for each of THUMBNAIL_SIZES; None where the image file serves as it is.
Thumbnails = tuple[bytes | None, ...]
AS_IT_IS: Thumbnails = (None,) * len(THUMBNAIL_SIZES)


class ImageFacts(NamedTuple):
    """What decoding an image file showed.

    width, height: in pixels, upright.
    """

    width: int
    height: int
    thumbnails: Thumbnails


def _refusing(work: Callable[P, T]) -> Callable[P, T]:
    """Turns whatever goes wrong with an image into an InputError with the reason."""

    @wraps(work)
    def refusing(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return work(*arguments, **named)
        except InputError:
            raise
        except UnidentifiedImageError as error:
            known = ", ".join(FORMATS)
            raise InputError(f"not an intact image of a known format ({known})", "Save it in one of these.") from error
        except Image.DecompressionBombError as error:
            raise InputError(f"the image has more than {MAX_PIXELS} pixels", "Make it smaller.") from error
        # Pillow's parsers let through whatever a damaged file makes them stumble on.
        except Exception as error:
            raise InputError(
                f"the image cannot be decoded ({_reason(error)})", "Replace it by an intact copy."
            ) from error

    return refusing


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Pillow's warnings, which go to the screen and say nothing that is not said here in other words.

    For as short as can be: until Python 3.14, threads that do so at once may leave the filter of one behind.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=PILLOW)
        yield


@_refusing
def decode(data: bytes) -> Image.Image:
    """The first frame of an image file: fully decoded, upright, RGB, 8 bits a channel, without metadata.

    Transparency is composited on white; grey of more than 8 bits is scaled, not clipped.
    Raises InputError with a short reason when `data` is no image of FORMATS, ends early, is damaged, or has no or more
    than MAX_PIXELS pixels; too many are found before any is decoded.
    """
    pixels = _small_jpeg(data)
    if pixels is not None:
        return _image(pixels)
    with _quietly():
        image = _opened(data)
    image.load()
    with _quietly():
        orientation = _orientation(image)
    return _upright(_rgb(image), orientation)


@_refusing
def inspect(data: bytes, thumbnails: bool = True) -> ImageFacts:
    """Size and thumbnails, if these are wanted, of an image file. Refuses what `decode` refuses, with the same words.

    The whole file is decoded, but of a JPEG no more pixels are computed than the thumbnails need: for a photo of 12
    million that takes a fifth of the time. Equal files give equal thumbnails.
    """
    pixels = _small_jpeg(data)
    if pixels is not None:
        height, width = pixels.shape[:2]
        wanted = _too_large((width, height), data) if thumbnails else ()
        return _facts((width, height), wanted, lambda: _image(pixels))
    image = _opened(data)
    size = image.size
    if not _coarsened(image):
        image.load()
        # Pillow turns a TIFF upright while it loads it.
        size = image.size
    orientation = _orientation(image)
    wanted = _too_large(size, data) if _is_shown(image, orientation) else THUMBNAIL_SIZES
    wanted = wanted if thumbnails else ()
    upright = size if orientation not in _SIDEWAYS else size[::-1]
    return _facts(upright, wanted, lambda: _upright(_rgb(image), orientation))


def serves_as_it_is(size: tuple[int, int], data: bytes) -> bool:
    """Whether a file that browsers show is its own thumbnail in all sizes: AS_IT_IS."""
    return len(data) <= _SMALL_BYTES and max(size) <= _SMALLEST


def _too_large(size: tuple[int, int], data: bytes) -> tuple[int, ...]:
    """The thumbnails, by their longer side, as which a file that browsers show cannot serve as it is."""
    return tuple(side for side in THUMBNAIL_SIZES if len(data) > _SMALL_BYTES or max(size) > side)


def _facts(size: tuple[int, int], wanted: tuple[int, ...], upright: Callable[[], Image.Image]) -> ImageFacts:
    made = _thumbnails(upright(), wanted) if wanted else {}
    return ImageFacts(*size, tuple(made.get(side) for side in THUMBNAIL_SIZES))


def _thumbnails(image: Image.Image, sides: tuple[int, ...]) -> dict[int, bytes]:
    """The larger ones first, for the smaller are made of them."""
    made = {}
    for side in sorted(sides, reverse=True):
        scale = side / max(image.size)
        if scale < 1:
            shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image = image.resize(shape, Image.Resampling.HAMMING, reducing_gap=1.0)
        sink = io.BytesIO()
        # Lossy WebP would smear the edges of pixels that are shown enlarged.
        lossless = max(image.size) < _SMALLEST
        image.save(sink, "WEBP", lossless=lossless, quality=0 if lossless else 75, method=0)
        made[side] = sink.getvalue()
    return made


def _small_jpeg(data: bytes) -> npt.NDArray[np.uint8] | None:
    """(height, width, 4) RGBX of a small JPEG: the pixels that Pillow gives, in a third of the time, which is Python's.

    None leaves a file to Pillow: a larger one, one that may say how to turn it, of several images, in other colours
    than YCbCr or grey, or damaged, for which Pillow has the words.
    """
    if simplejpeg is None or len(data) > _SMALL_BYTES or not data.startswith(b"\xff\xd8\xff"):
        return None
    if any(mark in data for mark in _NOT_PLAIN):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in {"YCbCr", "Gray"} or not 0 < width * height <= _SMALL_PIXELS:
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGBX")
    except ValueError:
        return None
    return pixels


def _image(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """RGBX, which is how Pillow holds RGB, as an image."""
    height, width = pixels.shape[:2]
    return Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1).convert("RGB")


def _opened(data: bytes) -> Image.Image:
    """The image, of which only the header is read."""
    if not data:
        raise InputError("the file is empty", "Replace it by an image.")
    image = Image.open(io.BytesIO(_without_text(data)), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    if image.format == "PNG" and "transparency" in image.info:
        image.info["transparency"] = _in_eight_bits(image, data[24])
    return image


def _in_eight_bits(image: Image.Image, depth: int) -> Any:
    """The transparent colour of a PNG in the bits of the decoded pixels: the file gives it in those that it has itself,
    which Pillow compares as they are. Of 16 bits a colour, pixels keep the upper eight."""
    colour = image.info["transparency"]
    if image.mode in ("1", "L") and depth < 8 and isinstance(colour, int):
        return colour * 255 // (2**depth - 1)
    if image.mode == "RGB" and depth == 16:
        return tuple(value >> 8 for value in colour)
    return colour


def _without_text(data: bytes) -> bytes:
    """A PNG without its texts and its colour profile, which say nothing of the pixels as they are decoded here: Pillow
    refuses an intact image for the length of either. (PNG, third edition, 5.4: decoders may pass over them.)"""
    if not data.startswith(_PNG) or not any(kind in data for kind in _TEXTS):
        return data
    kept, place = [data[: len(_PNG)]], len(_PNG)
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        # One that the file ends in is kept, for that to be noticed.
        if end > len(data) or data[place + 4 : place + 8] not in _TEXTS:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _coarsened(image: Image.Image) -> bool:
    """Decodes a large JPEG to a half, a quarter or an eighth of its size, but no smaller than the largest thumbnail;
    whether it did."""
    scale = max(THUMBNAIL_SIZES) / max(image.size)
    if image.format != "JPEG" or scale > 0.5:
        return False
    image.draft(None, (max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    image.load()
    return True


def _is_shown(image: Image.Image, orientation: object) -> bool:
    """Whether a browser shows the file's pixels as `decode` reads them."""
    return (
        image.format in _SHOWN_FORMATS
        and image.mode in _SHOWN_MODES
        and not image.has_transparency_data
        and orientation not in _TURNS
        and not getattr(image, "is_animated", False)
    )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":
        image = _grey(image)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    converted = image.convert("RGB")
    converted.info.clear()
    return converted


def _grey(image: Image.Image) -> Image.Image:
    """Integer (16 or 32 bits) or float grey as 8 bits: from the range of 16 bits, or its own where it exceeds that."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    if image.mode.startswith("I") and low >= 0 and high <= 65535:
        low, high = np.float64(0), np.float64(65535)
    # By halves, for the range of floats may be more than a float.
    span = high / 2 - low / 2
    scaled = (values / 2 - low / 2) / span * 255 if span > 0 else np.zeros_like(values)
    if isinstance(image.info.get("transparency"), int):
        scaled[values == image.info["transparency"]] = 255
    return Image.fromarray(scaled.round().astype(np.uint8))


def _orientation(image: Image.Image) -> object:
    """The EXIF orientation, 1 to 8; 1 where EXIF is damaged, for that makes no pixel wrong."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {5, 6, 7, 8}


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _reason(error: Exception) -> str:
    """What went wrong, without addresses of objects: equal files are refused with equal words."""
    return re.sub(r"<[^>]*>|0x[0-9a-f]{6,}", "...", str(error)) or type(error).__name__
