"""Image files to and from RGB arrays, and the project's one resize."""

import io
import os
import threading
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from allaprima.errors import InputError

# The filter that scales a style image decides its Gram matrices, so there is one, and it is told.
RESIZE_FILTER = "bicubic-antialiased-pillow"
MAX_PIXELS = 200_000_000

READ_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
READ_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
WRITE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

Box = tuple[float, float, float, float]

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


class Picture(NamedTuple):
    """Colour (H, W, 3) and, where a file has it, straight alpha (H, W): float32 in [0,1]."""

    rgb: np.ndarray
    alpha: np.ndarray | None


def read_picture(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture file as sRGB: upright by its EXIF, through its ICC profile, alpha beside colour.

    JPEG, PNG, WebP, TIFF, BMP and GIF of every mode; the first frame of an animation. Grey of 16
    bits keeps its depth; of 16-bit RGB, Pillow gives the upper 8. TIFFs of 32-bit integers are
    read as 16-bit grey, of floats as grey in [0,1]. A broken profile is ignored with a warning.

    Raises:
        InputError: the file is missing, a folder, empty, no image, damaged or too large.
    """
    rgb, alpha = _decode(Path(path), max_pixels)
    return Picture(_to_float(rgb), None if alpha is None else _to_float(alpha))


def read_photo(path: str | Path, min_side_px: int | None = None) -> np.ndarray:
    """What :func:`read_picture` reads, fast and as uint8 (H, W, 3), put on white.

    Args:
        min_side_px: a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, whichever is the
            smallest with a short side of at least this.

    Raises:
        InputError: as :func:`read_picture`.
    """
    rgb, alpha = _decode(Path(path), MAX_PIXELS, min_side_px)
    return to_uint8(rgb if alpha is None else _put_on_white(rgb, alpha))


def resize(rgb: np.ndarray, height: int, width: int, box: Box | None = None) -> np.ndarray:
    """Scale by antialiased bicubic interpolation: the one resize of the project.

    Args:
        rgb: (H, W, 3) or (H, W), uint8 or float32 in [0,1]; the result has the same type.
        box: (left, top, right, bottom) in pixels, fractions allowed: the part to scale.
    """

    def scale(channels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.ascontiguousarray(channels))
        return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box))

    if rgb.dtype == np.uint8:
        return scale(rgb)
    assert rgb.dtype == np.float32, rgb.dtype
    if rgb.ndim == 3:
        return np.stack([resize(c, height, width, box) for c in np.moveaxis(rgb, -1, 0)], axis=-1)
    return scale(rgb).clip(0, 1)


def resize_short_side(rgb: np.ndarray, size_px: int) -> np.ndarray:
    """Scale so that the short side has ``size_px`` pixels, the long one in proportion."""
    height, width = rgb.shape[:2]
    scale = size_px / min(height, width)
    return resize(rgb, max(1, round(height * scale)), max(1, round(width * scale)))


def to_uint8(values: np.ndarray) -> np.ndarray:
    """[0,1] to 0…255, rounded to nearest; uint8 as it is."""
    if values.dtype == np.uint8:
        return values
    scaled = values * np.float32(255)
    scaled += 0.5
    return scaled.clip(0, 255).astype(np.uint8)


def write_picture(
    path: str | Path,
    picture: Picture | np.ndarray,
    *,
    overwrite: bool = False,
    quality: int = 95,
) -> None:
    """Write 8-bit PNG, JPEG or WebP, by the suffix; missing folders are made.

    The file appears complete or not at all. JPEG cannot hold alpha: there it is put on white.

    Args:
        picture: or RGB alone, (H, W, 3), uint8 or float in [0,1].
        quality: of JPEG and WebP, 1…100.

    Raises:
        InputError: another suffix, a file that is there already, or one that cannot be written.
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    format_ = WRITE_FORMATS[path.suffix.lower()]
    rgb, alpha = picture if isinstance(picture, Picture) else (picture, None)
    if alpha is not None and format_ == "JPEG":
        rgb, alpha = _put_on_white(rgb, alpha), None
    pixels = to_uint8(rgb) if alpha is None else np.dstack([to_uint8(rgb), to_uint8(alpha)])
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        encoded = io.BytesIO()  # for a full disk is told more plainly here than by Pillow
        # Full-resolution chroma: coloured strokes would smear.
        Image.fromarray(pixels).save(encoded, format_, quality=quality, subsampling="4:4:4")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(encoded.getbuffer())
        os.replace(partial, path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be written: {_reason(error)}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def check_writable(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise the InputError of :func:`write_picture` before the work instead of after it."""
    path = Path(path)
    if path.suffix.lower() not in WRITE_FORMATS:
        raise InputError(f"{path}: pictures are written as {', '.join(WRITE_FORMATS)}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise InputError(
            f"{path} exists already and is kept: name another file, or say --overwrite "
            "(gatys.py: overwrite=true)"
        )
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"{path} cannot be written: {nearest} is not a folder that you may change")


def find_pictures(folder: str | Path) -> list[Path]:
    """The picture files under a folder, sorted; hidden ones are left out, links followed once.

    Raises:
        InputError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    found: list[Path] = []
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in visited else sorted(n for n in folders if n[0] != ".")
        if real not in visited:
            pictures = (n for n in files if n[0] != "." and n.lower().endswith(READ_SUFFIXES))
            found += (Path(parent, name) for name in pictures)
        visited.add(real)
    return sorted(found)


def _decode(
    path: Path, max_pixels: int, min_side_px: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """RGB and alpha, each uint8, or float32 in [0,1] where the file is deeper."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a picture")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes)")
        with _open(path, max_pixels) as image:
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
        raise InputError(f"{path} {problem}: {_reason(error)}") from error


def _open(path: Path, max_pixels: int) -> Image.Image:
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
            "file fill the memory: scale it down, or raise max_pixels"
        )
    return image


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


def _put_on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = _to_float(alpha)[..., None]
    return _to_float(rgb) * alpha + (1 - alpha)


def _to_float(values: np.ndarray) -> np.ndarray:
    return np.divide(values, 255, dtype=np.float32) if values.dtype == np.uint8 else values


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
