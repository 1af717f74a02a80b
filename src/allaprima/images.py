"""Image files to and from RGB arrays, and the project's one resize."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from allaprima.decoding import decode, open_image
from allaprima.errors import InputError, reason
from allaprima.partial import partial_of

# The filter that scales a style image decides its Gram matrices, so there is one, and it is told.
RESIZE_FILTER = "bicubic-antialiased-pillow"
MAX_PIXELS = 200_000_000
LARGE = 1 << 20  # numbers in an image, from which threads gain more than they cost

READ_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
WRITE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
MAX_SIDES_PX = {"JPEG": 65500, "WEBP": 16383}

Box = tuple[float, float, float, float]


class Picture(NamedTuple):
    """Colour (H, W, 3) and, where a file has it, straight alpha (H, W): float32 in [0,1].

    Or uint8, where that is said: a quarter of the memory.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None


def read_picture(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, as_stored: bool = False
) -> Picture:
    """A picture file as sRGB: upright by its EXIF, through its ICC profile, alpha beside colour.

    JPEG, PNG, WebP, TIFF, BMP and GIF of every mode; the first frame of an animation. Grey of 16
    bits keeps its depth; of 16-bit RGB, Pillow gives the upper 8. TIFFs of 32-bit integers are
    read as 16-bit grey, of floats as grey in [0,1]. A broken profile is ignored with a warning.

    Args:
        max_pixels: of a larger file, no more than the header is read.
        as_stored: leave uint8 what has 8 bits a channel.

    Raises:
        InputError: the file is missing, a folder, empty, no image, damaged or too large.
    """
    rgb, alpha = decode(Path(path), max_pixels)
    if as_stored:
        return Picture(rgb, alpha)
    return Picture(to_float(rgb), None if alpha is None else to_float(alpha))


def read_photo(path: str | Path, min_side_px: int | None = None) -> np.ndarray:
    """What :func:`read_picture` reads, fast and as uint8 (H, W, 3), put on white.

    Args:
        min_side_px: a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, whichever is the
            smallest with a short side of at least this.

    Raises:
        InputError: as :func:`read_picture`.
    """
    rgb, alpha = decode(Path(path), MAX_PIXELS, min_side_px)
    return to_uint8(rgb if alpha is None else _put_on_white(rgb, alpha))


def count_pixels(path: str | Path, *long_sides_px: int | None) -> int:
    """Of a picture file, by its header; 0 where that cannot be read.

    Args:
        long_sides_px: the file may be scaled to these; the largest of all is counted.
    """
    with suppress(Exception), open_image(Path(path), 1 << 62) as image:
        longest = max(*image.size, *filter(None, long_sides_px))
        return round(image.width * image.height * (longest / max(image.size)) ** 2)
    return 0


@contextmanager
def system_errors_told() -> Iterator[None]:
    """Raise InputError, with the file's name, for what the system says of a file."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename} cannot be reached: {reason(error)}") from error


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
    scaled = each_channel(scale, rgb)
    return np.clip(scaled, 0, 1, out=scaled)


def each_channel(change: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """Apply to (H, W), or to each of (H, W, C), at once where the image is large."""
    if image.ndim == 2:
        return change(image)
    channels = [image[..., number] for number in range(image.shape[2])]
    if image.size < LARGE:
        return np.stack([change(channel) for channel in channels], axis=-1)
    with ThreadPoolExecutor(len(channels)) as pool:
        return np.stack(list(pool.map(change, channels)), axis=-1)


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
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def write_picture(
    path: str | Path,
    picture: Picture | np.ndarray,
    *,
    overwrite: bool = False,
    quality: int = 95,
    made_by: str = "",
) -> None:
    """Write 8-bit PNG, JPEG or WebP, by the suffix; missing folders are made.

    The file appears complete or not at all. JPEG cannot hold alpha: there it is put on white.

    Args:
        picture: or RGB alone, (H, W, 3), uint8 or float in [0,1].
        quality: of JPEG and WebP, 1…100.
        made_by: kept in the file as its software, where :func:`read_made_by` finds it.

    Raises:
        InputError: another suffix, a file that is there already, or one that cannot be written.
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    rgb, alpha = picture if isinstance(picture, Picture) else (picture, None)
    check_long_side(path, max(rgb.shape[:2]))
    format_ = WRITE_FORMATS[path.suffix.lower()]
    if alpha is not None and format_ == "JPEG":
        rgb, alpha = _put_on_white(rgb, alpha), None
    pixels = to_uint8(rgb) if alpha is None else np.dstack([to_uint8(rgb), to_uint8(alpha)])
    partial = partial_of(path)
    try:
        encoded = io.BytesIO()  # for a full disk is told more plainly here than by Pillow
        exif = Image.Exif()
        if made_by:
            exif[ExifTags.Base.Software] = made_by
        # Full-resolution chroma: coloured strokes would smear. PNG's higher levels are five times
        # as slow and save a fiftieth; WebP's default method takes twice the time of this one.
        options = {"quality": quality, "subsampling": "4:4:4", "compress_level": 1, "method": 2}
        Image.fromarray(pixels).save(encoded, format_, exif=exif, **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(encoded.getbuffer())
        os.replace(partial, path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be written: {reason(error)}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def read_made_by(path: str | Path) -> str:
    """What :func:`write_picture` was told of the making; "" where there is none."""
    with suppress(Exception), open_image(Path(path), MAX_PIXELS) as image:
        return str(image.getexif().get(ExifTags.Base.Software, ""))
    return ""


@system_errors_told()
def check_writable(
    path: str | Path,
    *,
    overwrite: bool = False,
    kind: str = "pictures",
    suffixes: Sequence[str] = tuple(WRITE_FORMATS),
) -> None:
    """Raise the InputError of :func:`write_picture` before the work instead of after it.

    Args:
        kind, suffixes: of what is to be written.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: {kind} are written as {', '.join(suffixes)}")
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


def check_long_side(path: str | Path, long_side_px: int) -> None:
    """Raise the InputError of :func:`write_picture` at a side that the format cannot have."""
    format_ = WRITE_FORMATS[Path(path).suffix.lower()]
    if long_side_px > (most := MAX_SIDES_PX.get(format_, long_side_px)):
        raise InputError(
            f"{path} would have a side of {long_side_px} px, and {format_} has at most {most}: "
            "write a PNG (-o x.png), or a smaller picture"
        )


@system_errors_told()
def find_pictures(folder: str | Path, suffixes: tuple[str, ...] = READ_SUFFIXES) -> list[Path]:
    """The picture files under a folder, sorted; hidden ones are left out, links followed once.

    Args:
        suffixes: of what to find, in lower case.

    Raises:
        InputError: there is no such folder, or one that may not be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    found: list[Path] = []
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in visited else sorted(n for n in folders if n[0] != ".")
        if real not in visited:
            pictures = (n for n in files if n[0] != "." and n.lower().endswith(suffixes))
            found += (Path(parent, name) for name in pictures)
        visited.add(real)
    return sorted(found)


def _put_on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = to_float(alpha)[..., None]
    return to_float(rgb) * alpha + (1 - alpha)


def to_float(values: np.ndarray) -> np.ndarray:
    """0…255 of uint8 to float32 in [0,1]; float32 as it is."""
    return np.divide(values, 255, dtype=np.float32) if values.dtype == np.uint8 else values
