"""What may be chosen after training: size of the strokes, strength, colours, a mask."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from allaprima.blending import blend
from allaprima.colors import luminance, match_colors, transfer_luminance
from allaprima.errors import InputError
from allaprima.images import Picture, each_channel, read_picture, resize, to_float

Paint = Callable[[np.ndarray], np.ndarray]
COLORS = ("style", "photo", "matched")
SIDES_PX = range(1, 65536)


@dataclass(frozen=True, eq=False)
class Controls:
    """How a painting is made from one pass of a generator.

    Args:
        size_px: long side at which the photo is painted: smaller makes broader strokes. None is
            its own. The painting is brought back to the photo's size.
        output_size_px: long side of the result, instead of the photo's.
        strength: share of the painting in the result, 0 to 1 (:func:`allaprima.blending.blend`).
        colors: "style", the painting's; "photo", the photo's own, pixel by pixel, so that
            luminance alone is painted; "matched", the painting's with the mean and covariance of
            the photo's (:mod:`allaprima.colors`; Gatys 2016b).
        mask: float32 (H, W) in [0,1], of the photo's proportions: where to paint, and how much.

    Raises:
        InputError: a value out of its range.
    """

    size_px: int | None = None
    output_size_px: int | None = None
    strength: float = 1.0
    colors: str = "style"
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        for option, side_px in (("size", self.size_px), ("output-size", self.output_size_px)):
            if side_px is not None and side_px not in SIDES_PX:
                raise InputError(f"--{option} {side_px} must be from 1 to {SIDES_PX[-1]} px")
        if not 0 <= self.strength <= 1:
            raise InputError(f"--strength {self.strength} must be from 0 (photo) to 1 (painting)")
        if self.colors not in COLORS:
            raise InputError(f"--colors {self.colors}; choose one of {', '.join(COLORS)}")

    def paint(self, picture: Picture, one_pass: Paint, *, takes_bytes: bool = False) -> Picture:
        """The painting of a picture; alpha stays, at the painting's size.

        Args:
            picture: float32 or uint8; the painting is either, alpha as it was.
            one_pass: a generator, (H, W, 3) float32 in [0,1] to the same, or to a multiple.
            takes_bytes: it takes uint8 too, and may give it back.

        Raises:
            InputError: a mask of other proportions, or as ``one_pass``.
        """
        photo, alpha = picture
        mask = None if self.mask is None else _fit_mask(self.mask, photo.shape)
        working = photo if self.size_px is None else resize(photo, *_scaled(photo, self.size_px))
        painted = one_pass(working if takes_bytes else to_float(working))
        enlarged = len(painted) // len(working)  # by super-resolution
        size = photo.shape[0] * enlarged, photo.shape[1] * enlarged
        if self.output_size_px is not None:
            size = _scaled(photo, self.output_size_px)
        changed = self.colors != "style" or self.strength < 1 or mask is not None
        if changed or size != painted.shape[:2]:  # else bytes may stay bytes
            painted = to_float(painted)
        painted = _resample(painted, *size)
        if changed:
            photo = to_float(_fit(photo, *size))
        if self.colors != "style":
            recolor = transfer_luminance if self.colors == "photo" else match_colors
            painted = recolor(painted, photo)
        if mask is not None:
            painted = blend(photo, painted, _fit(mask, *size) * np.float32(self.strength))
        elif self.strength < 1:
            painted = blend(photo, painted, self.strength)
        return Picture(painted, None if alpha is None else _fit(alpha, *size))


def read_mask(path: str | Path) -> np.ndarray:
    """A mask from a picture: painted where it is white and opaque, by degrees between.

    Raises:
        InputError: as :func:`allaprima.images.read_picture`.
    """
    rgb, alpha = read_picture(path)
    mask = luminance(rgb)
    return mask if alpha is None else mask * alpha


def _fit_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    (height, width), (rows, columns) = shape[:2], mask.shape
    # Rounding moves the smaller picture's sides by half a pixel each.
    if abs(rows * width - columns * height) > max(height + width, rows + columns):
        raise InputError(
            f"the mask's {columns} × {rows} px are not of the photo's proportions, "
            f"{width} × {height} px: crop it to these, or make one of the photo's size"
        )
    return mask


def _scaled(image: np.ndarray, long_side_px: int) -> tuple[int, int]:
    height, width = image.shape[:2]
    scale = long_side_px / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return image if image.shape[:2] == (height, width) else resize(image, height, width)


def _resample(painted: np.ndarray, height: int, width: int) -> np.ndarray:
    """By Lanczos, which keeps the edges of strokes sharper than the bicubic filter."""
    if painted.shape[:2] == (height, width):
        return painted

    def scale(channel: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.ascontiguousarray(channel))
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))

    scaled = each_channel(scale, painted)
    return scaled.clip(0, 1, out=scaled)
