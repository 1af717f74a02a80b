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
