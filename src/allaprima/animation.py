"""GIF and animated WebP, frame by frame: never more than one frame in memory.

Pillow decodes and encodes the frames. It would keep a whole animation to write it, so the few
bytes around the frames are written here: CompuServe's GIF89a, and Google's WebP container.
"""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image

from allaprima.errors import InputError
from allaprima.frames import BROWSERS_DELAY, Frame
from allaprima.images import MAX_PIXELS

CENTISECOND, MILLISECOND = Fraction(1, 100), Fraction(1, 1000)
MAX_SIDE = {".gif": 65535, ".webp": 16383}
OPAQUE_FROM = 128  # a GIF's pixel is opaque or not


class AnimationReader:
    """A GIF, WebP or animated PNG; transparent pixels are white below their alpha.

    Raises:
        InputError: it is missing, damaged from the start, or too large.
    """

    def __init__(self, source: Path):
        self.source = source
        self.warnings: list[str] = []
        try:
            if source.is_file() and source.stat().st_size == 0:
                raise InputError(f"{source} is empty (0 bytes)")
            self.image: Any = Image.open(source, formats=("GIF", "WEBP", "PNG"))
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{source} cannot be read as an animation: {error}") from error
        width, height = self.image.size
        if width * height > MAX_PIXELS:
            self.close()
            raise InputError(
                f"{source} has {width} × {height} pixels; at most {MAX_PIXELS:,} are read"
            )
        self.loop = _loops(self.image)

    @property
    def num_frames(self) -> int:
        return getattr(self.image, "n_frames", 1)

    def frames(self) -> Iterator[Frame]:
        """Every frame whole, with its duration; 0 becomes what browsers make of it."""
        start, number = Fraction(0), 0
        while True:
            try:
                self.image.seek(number)
                rgba = np.array(self.image.convert("RGBA"))
                duration = Fraction(str(self.image.info.get("duration") or 0)) * MILLISECOND
            except EOFError:
                break
            except Exception as error:  # Pillow raises nearly anything at a damaged file
                if number == 0:
                    raise InputError(f"{self.source} is damaged: {error}") from error
                self.warnings.append(
                    f"frames after the first {number} are missing: the file is damaged ({error})"
                )
                break
            duration = duration or BROWSERS_DELAY
            yield Frame(*_on_white(rgba), start, duration)
            start, number = start + duration, number + 1

    def close(self) -> None:
        self.image.close()


class GifWriter:
    """A GIF89a in the making: every frame has 256 colours of its own, dithered.

    Args:
        loop: how often to play; 0 is for ever, 1 once.
    """

    def __init__(self, path: Path, loop: int = 0):
        self.warnings: list[str] = []
        self.file: BinaryIO = path.open("wb")
        self.loop = loop
        self.elapsed = 0  # centiseconds, the format's unit
        self.started = False

    def write(self, frame: Frame) -> None:
        """Append a frame; times are rounded so that their sum stays right."""
        if not self.started:
            self._write_header(frame)
        end = max(round((frame.start + frame.duration) / CENTISECOND), self.elapsed + 1)
        options: dict[str, Any] = {"duration": 10 * (end - self.elapsed), "disposal": 1}
        image = Image.fromarray(frame.rgb)
        if frame.alpha is None:
            image = image.quantize(256)
        else:
            image = _with_transparent_colour(image.quantize(255), frame.alpha >= OPAQUE_FROM)
            # The canvas is cleared after each frame, else the last one shows through the holes.
            options.update(transparency=255, disposal=2)
        self.elapsed = end
        parts = GifImagePlugin.getdata(image, (0, 0), include_color_table=True, **options)
        self.file.write(b"".join(parts))

    def finish(self, interrupted: bool) -> None:
        self.file.write(b";")
        self.file.close()

    def close(self) -> None:
        self.file.close()

    def _write_header(self, frame: Frame) -> None:
        height, width = frame.rgb.shape[:2]
        _check_size(width, height, ".gif")
        self.file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0x70, 0, 0))
        if self.loop != 1:
            repeats = max(self.loop - 1, 0)  # the format counts what follows the first time
            self.file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", repeats, 0))
        self.started = True


class WebPWriter:
    """An animated WebP in the making: every frame a whole picture.

    Args:
        quality: 0…100.
        loop: how often to play; 0 is for ever.
    """

    def __init__(self, path: Path, loop: int = 0, quality: int = 80):
        self.warnings: list[str] = []
        self.file: BinaryIO = path.open("wb")
        self.loop, self.quality = loop, quality
        self.size: tuple[int, int] | None = None
        self.elapsed = 0  # milliseconds, the format's unit
        self.has_alpha = False

    def write(self, frame: Frame) -> None:
        """Append a frame."""
        height, width = frame.rgb.shape[:2]
        if self.size is None:
            _check_size(width, height, ".webp")
            self.size = width, height
            self.file.write(self._header())
        self.has_alpha |= frame.alpha is not None
        end = max(round((frame.start + frame.duration) / MILLISECOND), self.elapsed + 1)
        duration, self.elapsed = end - self.elapsed, end
        pixels = frame.rgb if frame.alpha is None else np.dstack([frame.rgb, frame.alpha])
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "WEBP", quality=self.quality)
        place = bytes(6) + _uint24(width - 1) + _uint24(height - 1) + _uint24(duration)
        do_not_blend = b"\x02"  # with what was there before
        self.file.write(_chunk(b"ANMF", place + do_not_blend + _picture_chunks(encoded.getvalue())))

    def finish(self, interrupted: bool) -> None:
        """Write the header again, now that length and alpha are known."""
        length = self.file.tell()
        self.file.seek(0)
        self.file.write(self._header(length))
        self.file.close()

    def close(self) -> None:
        self.file.close()

    def _header(self, length: int = 8) -> bytes:
        assert self.size is not None
        width, height = self.size
        flags = bytes([0x02 | (0x10 if self.has_alpha else 0), 0, 0, 0])
        canvas = _chunk(b"VP8X", flags + _uint24(width - 1) + _uint24(height - 1))
        background = bytes(4)
        animation = _chunk(b"ANIM", background + struct.pack("<H", self.loop))
        return b"RIFF" + struct.pack("<I", length - 8) + b"WEBP" + canvas + animation


def _loops(image: Image.Image) -> int:
    """How often it plays, 0 for ever: GIF counts what follows the first time, if it says so."""
    if image.format == "GIF":
        repeats = image.info.get("loop")
        return 1 if repeats is None else 0 if repeats == 0 else repeats + 1
    return int(image.info.get("loop", 0))


def _on_white(rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3]), None
    share = alpha[..., None] / np.float32(255)
    return (rgba[..., :3] * share + 255 * (1 - share) + 0.5).astype(np.uint8), alpha


def _with_transparent_colour(image: Image.Image, opaque: np.ndarray) -> Image.Image:
    """Colour 255, unused so far, wherever nothing is to be seen."""
    indices = np.where(opaque, np.array(image), np.uint8(255))
    palette = (image.getpalette() or []) + [0] * 768
    result = Image.frombytes("P", image.size, indices.tobytes())
    result.putpalette(palette[:768])
    return result


def _picture_chunks(webp: bytes) -> bytes:
    """A still WebP's chunks of alpha and colour, without those that describe the file."""
    kept, position = b"", 12
    while position + 8 <= len(webp):
        (length,) = struct.unpack_from("<I", webp, position + 4)
        end = position + 8 + length + length % 2
        if webp[position : position + 4] in (b"ALPH", b"VP8 ", b"VP8L"):
            kept += webp[position:end]
        position = end
    return kept


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _uint24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _check_size(width: int, height: int, suffix: str) -> None:
    if max(width, height) > MAX_SIDE[suffix]:
        raise InputError(
            f"{width} × {height} px: {suffix} holds at most {MAX_SIDE[suffix]} px a side; "
            "write .mp4 or .mkv"
        )
