"""How restless a picture is."""

import torch
import torch.nn.functional as F
from torch import Tensor

from allaprima.errors import InputError
from allaprima.gram import at_least_float32


def total_variation(
    images: Tensor, pixel_range: float = 1.0, mean: bool = False, power: float = 1.0
) -> Tensor:
    """Squared differences of neighbouring pixels, down and across: (B, 3, H, W) -> (B,).

    Source: Johnson 2016, section 3.2, after Mahendran & Vedaldi 2015 with β = 2.
    Differs: the last row has nothing below, the last column nothing beside, and that difference
    counts as 0; Mahendran & Vedaldi's code and the Keras example leave both lines out.

    Args:
        pixel_range: range that the papers' weights assume (255); the images are in [0,1].
        mean: average over pixels and channels instead of the sum, so that it does not grow with
            the image.
        power: of the two squares' sum at each pixel and channel, β/2; 1.25 in the Keras example.

    Raises:
        InputError: a power below 0.5, whose gradient grows beyond bounds between like pixels.
    """
    if not power >= 0.5:
        raise InputError(f"total variation's power={power} must be at least 0.5 (plain length)")
    x = at_least_float32(images) * pixel_range
    down = (x[..., 1:, :] - x[..., :-1, :]).square()
    across = (x[..., :, 1:] - x[..., :, :-1]).square()
    if power == 1:
        variation = down.sum((1, 2, 3)) + across.sum((1, 2, 3))
    else:
        squares = F.pad(down, (0, 0, 0, 1)) + F.pad(across, (0, 1))
        differs = squares > 0  # elsewhere a power below 1 has no gradient; 0 is the one to take
        variation = torch.where(differs, squares, 1).pow(power).where(differs, 0).sum((1, 2, 3))
    return variation / (x[0].numel() if mean else 1)


def grid_variation(images: Tensor, period_px: int = 4, window: int = 12) -> Tensor:
    """How much of a picture repeats in step with a grid: (B, 3, H, W) -> (B,).

    A generator that shrinks and enlarges four times can paint fine grain only by a pattern that
    repeats every 4 px. Here is its power: in each window, the mean of the fine detail at each of
    the 16 places of a cell; the variance of these means. Strokes, which keep no step, average out.

    Args:
        images: at least 7 px a side.
        period_px: of the grid.
        window: of cells, each way; fewer in small images.
    """
    detail = _fine_detail(images, period_px)
    height, width = (side // period_px * period_px for side in detail.shape[-2:])
    detail = detail[..., :height, :width]
    batch, channels = detail.shape[:2]
    places = F.pixel_unshuffle(detail.flatten(0, 1)[:, None], period_px)
    sides = [min(window, side) for side in places.shape[-2:]]
    means = F.avg_pool2d(places, sides)
    variance = means.var(1, correction=0)
    return variance.view(batch, channels, -1).mean((1, 2))


def fine_power(images: Tensor, period_px: int = 4) -> Tensor:
    """Mean square of what is finer than a cell: (B, 3, H, W) -> (B,); a grid is part of it."""
    return _fine_detail(images, period_px).square().mean((1, 2, 3))


def _fine_detail(images: Tensor, period_px: int) -> Tensor:
    """Less the mean of the cell around each pixel, which is blind to a grid; slopes vanish."""
    x = at_least_float32(images)
    before = period_px // 2
    after = period_px - 1 - before
    height, width = x.shape[-2:]
    middle = x[..., before : height - after, before : width - after]
    return middle - F.avg_pool2d(x, period_px, stride=1)
