"""A style is an image, at the size at which its strokes shall be painted."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from allaprima.errors import InputError
from allaprima.images import read_picture, resize_short_side
from allaprima.resources import resource_dir

MIN_SIZE_PX = 64  # the deepest style layers see the image at an eighth or a sixteenth


def read_style(image: str | None, size_px: int | None, blur_px: float | None = None) -> Tensor:
    """The style image, RGB (3, H, W) in [0,1], its short side scaled to ``size_px`` if given.

    Args:
        blur_px: deviation of a Gaussian blur at that size, for a reproduction whose grain is not
            the painter's; None is no blur.

    Raises:
        InputError: no image, an unreadable one, one that is too small, or a negative blur.
    """
    if not image:
        names = ", ".join(list_styles())
        raise InputError(f"no style: take style=NAME with one of {names}, or style.image=FILE")
    rgb = read_picture(image).rgb
    rgb = resize_short_side(rgb, size_px) if size_px else rgb
    if blur_px:
        if not 0 < blur_px < min(rgb.shape[:2]) / 8:
            raise InputError(f"style.blur_px={blur_px} must be small and > 0, such as 0.8, or null")
        rgb = blur(rgb, blur_px)
    if min(rgb.shape[:2]) < MIN_SIZE_PX:
        raise InputError(
            f"style image {image} has a short side of {min(rgb.shape[:2])} px at the size it is "
            f"used; at least {MIN_SIZE_PX} px are needed (style.size_px)"
        )
    return torch.from_numpy(rgb).permute(2, 0, 1)


def read_styles(images: str | Sequence[str] | None, size_px: int | None) -> list[Tensor]:
    """One style image or several, each as :func:`read_style` gives it."""
    several = [images] if images is None or isinstance(images, str) else list(images)
    return [read_style(image, size_px) for image in several or [None]]


def blur(image: np.ndarray, deviation_px: float) -> np.ndarray:
    """(H, W, …) float32 by a Gaussian, borders reflected."""
    reach = math.ceil(4 * deviation_px)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation_px) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (0, 1):
        margins = [(reach, reach) if a == axis else (0, 0) for a in range(image.ndim)]
        padded = np.pad(image, margins, mode="reflect")
        image = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis) @ kernel
    return image


def list_styles() -> list[str]:
    """Names that ``style=`` takes."""
    return sorted(file.stem for file in (resource_dir("configs") / "style").glob("*.yaml"))
