"""Image files of every mode to upright sRGB arrays; whatever is wrong with a file is told."""

import io
import threading
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from allaprima.errors import InputError, reason

READ_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
ANIMATED_FORMATS = ("GIF", "WEBP", "PNG")

_COLOUR_SPACES = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}  # every other mode is RGB
_DEEP_MODES = ("I;16", "I;16B", "I", "F")
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_pixel_limit_lock = threading.Lock()


def decode(
    path: Path, max_pixels: int, min_side_px: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """RGB and alpha of a file, each uint8, or float32 in [0,1] where the file is deeper.

    Args:
        max_pixels: more are not decoded.
        min_side_px: the short side may be reduced to this, where that saves time.

    Raises:
        InputError: what is wrong with the file.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a picture")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes)")
        with open_image(path, max_pixels) as image:
            if image.format in ANIMATED_FORMATS and getattr(image, "is_animated", False):
                warnings.warn(f"{path} is animated: its first frame is read", stacklevel=4)
            if min_side_px:
                image.draft(None, (min_side_px, min_side_px))
            image.load()
            upright = _turn_upright(image)
            return (_deep_grey if upright.mode in _DEEP_MODES else _eight_bit)(upright, path)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        formats = ", ".join(READ_FORMATS)
        raise InputError(f"{path} is no image, or none of the known formats: {formats}") from error
    except Exception as error:  # Pillow raises nearly anything at a damaged file
        unopened = isinstance(error, OSError) and error.errno
        problem = "cannot be read" if unopened else "is damaged or incomplete"
        raise InputError(f"{path} {problem}: {reason(error)}") from error


def open_image(path: Path, max_pixels: int) -> Image.Image:
    """The header of a file of a known format; pixels are not decoded yet.

    Raises:
        InputError: more than ``max_pixels``, or no regular file.
        Exception: nearly any, of Pillow, at a damaged file.
    """
    check_regular(path)
    # Pillow's own limit is global to the process, so it is lifted for the header alone.
    with _pixel_limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path, formats=READ_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise InputError(
            f"{path} has {width} × {height} pixels; at most {max_pixels:,} are read, lest a small "
            "file fill the memory: scale it down, or raise the limit (stylize.py: --max-megapixels)"
        )
    return image


def check_regular(path: Path) -> None:
    """Raise InputError at a pipe or a device, which might be read for ever."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file; copy it to one")


def _turn_upright(image: Image.Image) -> Image.Image:
    orientation = 1
    with suppress(Exception):  # damaged EXIF does not make the pixels unreadable
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    method = _TO_UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _eight_bit(image: Image.Image, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    space, alpha = _COLOUR_SPACES.get(image.mode, "RGB"), None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.array(image.getchannel("A"))
    return np.array(_to_srgb(image.convert(space), path)), alpha


def _deep_grey(image: Image.Image, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    # ImageCms knows 8-bit grey alone, so its curve is drawn through the 256 levels.
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels.info = image.info
    curve = np.array(_to_srgb(levels, path))[0, :, 0] / 255
    stored = np.array(image)
    values = np.nan_to_num(stored / (1 if image.mode == "F" else 65535))
    grey = np.interp(values, np.linspace(0, 1, 256), curve).astype(np.float32)
    transparent = image.info.get("transparency")
    alpha = None if transparent is None else (stored != transparent).astype(np.float32)
    return np.dstack([grey] * 3), alpha


def _to_srgb(image: Image.Image, path: Path) -> Image.Image:
    """Mode L, RGB or CMYK to RGB, by the embedded profile if it is of use."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            mode, transform = _srgb_transform(profile, image.mode)
            converted = ImageCms.applyTransform(image.convert(mode), transform)
            assert converted is not None
            return converted
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
            warnings.warn(f"{path}: its ICC profile is ignored: {error}", stacklevel=5)
    return image.convert("RGB")


@lru_cache(maxsize=8)  # photos of one source share a profile
def _srgb_transform(profile: bytes, mode: str) -> tuple[str, ImageCms.ImageCmsTransform]:
    """The conversion, and the mode that it takes."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "L" and profile[16:20] == b"RGB ":  # the header's colour space
        mode = "RGB"
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode == "L":  # else the curve is sampled at few points, too few in the shadows
        flags |= ImageCms.Flags.NOOPTIMIZE
    return mode, ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags,
    )
