"""Image files of unknown origin to upright RGB pixels, and thumbnails of them."""

import io
import re

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from tamis.errors import InputError

# Named one by one: Pillow's other plugins start programs (EPS) or are seldom tried against hostile files.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 2**26
THUMBNAIL_SIZE = 96


def decode(data: bytes) -> Image.Image:
    """The first frame of an image file: fully decoded, upright, RGB, 8 bits a channel, without metadata.

    Transparency is composited on white; grey of more than 8 bits is scaled, not clipped.
    Raises InputError with a short reason when `data` is no image of FORMATS, ends early, is damaged, or has no or more
    than MAX_PIXELS pixels; too many are found before any is decoded.
    """
    if not data:
        raise InputError("the file is empty", "Replace it by an image.")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        image.load()
        return _upright(_rgb(image), _orientation(image))
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise InputError(f"not an intact image of a known format ({known})", "Save it in one of these.") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"the image has more than {MAX_PIXELS} pixels", "Make it smaller.") from error
    # Pillow's parsers let through whatever a damaged file makes them stumble on.
    except Exception as error:
        raise InputError(f"the image cannot be decoded ({_reason(error)})", "Replace it by an intact copy.") from error


def thumbnail(image: Image.Image, size: int = THUMBNAIL_SIZE) -> bytes:
    """A WebP of the RGB `image` that fits into `size` x `size` pixels; equal images give equal bytes.

    Small images are enlarged by a whole factor with hard pixel edges, so that an 8 x 8 digit can be seen.
    """
    sink = io.BytesIO()
    factor = size // max(image.size)
    if factor > 1:
        enlarged = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        # Lossy WebP would smear the pixel edges, and takes twice as long over them.
        enlarged.save(sink, "WEBP", lossless=True, quality=0, method=0)
    else:
        scale = min(1.0, size / max(image.size))
        shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        reduced = image.resize(shape, Image.Resampling.LANCZOS, reducing_gap=2.0)
        reduced.save(sink, "WEBP", quality=75, method=2)
    return sink.getvalue()


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
    scaled = (values - low) * (255 / max(high - low, np.finfo(np.float64).tiny))
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


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _reason(error: Exception) -> str:
    """What went wrong, without addresses of objects: equal files are refused with equal words."""
    return re.sub(r"<[^>]*>|0x[0-9a-f]{6,}", "...", str(error)) or type(error).__name__
