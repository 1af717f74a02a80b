"""Luminance of RGB tensors, and colour that keeps it."""

import torch
from torch import Tensor

from allaprima.gram import at_least_float32


def luminance(images: Tensor) -> Tensor:
    """Luma of RGB (B, 3, H, W): (B, 1, H, W), in the same range. Grey is left as it is, exactly.

    Source: ITU-R BT.601: Y = 0.299 R + 0.587 G + 0.114 B.
    """
    red, green, blue = at_least_float32(images).split(1, dim=1)
    return green + 0.299 * (red - green) + 0.114 * (blue - green)


def with_luminance(images: Tensor, target: Tensor) -> Tensor:
    """The images' colour on another luminance; less saturated where it would leave [0,1].

    Args:
        images: RGB (B, 3, H, W).
        target: luminance (B, 1, H, W) in [0,1].
    """
    chroma = images.float() - luminance(images)
    room = torch.where(chroma > 0, 1 - target, target) / chroma.abs().clamp_min(1e-6)
    saturation = room.amin(1, keepdim=True).clamp_max(1)
    return (target + saturation * chroma).clamp(0, 1)  # of rounding
