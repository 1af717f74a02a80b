"""What is light and what is dark in a picture, in the large."""

import torch.nn.functional as F
from torch import Tensor

from allaprima.luminance import luminance

CELL_PX = 16
FLAT = 0.03  # a deviation of luminance, of which little is seen


def tones(images: Tensor) -> Tensor:
    """How much lighter or darker each cell of 16 px is than the rest: RGB (B, 3, H, W) -> (B, N).

    Luminance, less its mean over the picture, by its deviation; a picture that is next to flat,
    with a deviation of 0.03 and less, has no such order, and comes out near 0.

    Args:
        images: RGB in [0,1]; rows and columns past the last whole cell count for nothing.
    """
    cell = min(CELL_PX, *images.shape[2:])
    light = F.avg_pool2d(luminance(images), cell).flatten(1)
    light = light - light.mean(1, keepdim=True)
    return light / (light.square().mean(1, keepdim=True) + FLAT**2).sqrt()


def tone_error(value: Tensor, target: Tensor) -> Tensor:
    """1 less the correlation of two pictures' tones: (B, N) twice -> (B,), 0 to 2.

    It asks for the order of light and dark and leaves open how light they are. Beside a palette
    that is given, it is least where the lightest cells have the palette's lightest colours, and so
    on down to the darkest.
    """
    return 1 - (value * target).mean(1)
