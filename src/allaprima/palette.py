"""The colours of a picture, wherever they are, against a painting's."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from allaprima.gram import at_least_float32

CELL_PX = 4
NUM_DIRECTIONS = 32
NUM_QUANTILES = 1024


def palette(images: Tensor) -> Tensor:
    """Quantiles of the colours along directions of RGB: (B, 3, H, W) -> (B, 1024, 32).

    The mean of several pictures' quantiles is the palette between theirs (Rabin 2011, of one
    dimension), and :func:`palette_error` tells two palettes apart. Colours are means of cells of
    4 px, so that a hue is an area and not a grain.

    Args:
        images: RGB in [0,1], at least 4 px a side.
    """
    colors = F.avg_pool2d(at_least_float32(images), CELL_PX).flatten(2)
    # Not a matrix product, which autocast would round.
    along = (colors[:, :, None] * _directions().to(colors)[:, :, None]).sum(1)
    ordered = along.sort(-1).values
    last = ordered.shape[-1] - 1
    share = (torch.arange(NUM_QUANTILES, device=images.device) + 0.5) / NUM_QUANTILES
    place = (share * (last + 1) - 0.5).clamp(0, last)
    below = place.long()
    above = (below + 1).clamp(max=last)
    return ordered[..., below].lerp(ordered[..., above], (place - below).to(ordered)).mT


def palette_error(value: Tensor, target: Tensor) -> Tensor:
    """Squared Wasserstein distance of two palettes, sliced: (B, 1024, 32) twice -> (B,).

    Source: Rabin 2011, Wasserstein barycenter and its application to texture mixing. That Gram
    matrices leave distributions open, and a loss of their own closes them, is Risser 2017's,
    who matches histograms of activations.
    Differs: the directions are 32 fixed ones, and the mean over them counts three times, so that
    two flat pictures are about as far apart as the squared distance of their colours in RGB.
    """
    return 3 * (value - target).square().mean((1, 2))


def palette_power(target: Tensor) -> Tensor:
    """Variance of a palette's colours, of all three channels: (B, 1024, 32) -> (B,)."""
    return palette_error(target, target.mean(1, keepdim=True))


def _directions() -> Tensor:
    """Unit vectors (3, 32), evenly over half a sphere: a spiral by the golden angle."""
    turn = torch.arange(NUM_DIRECTIONS) * math.pi * (3 - math.sqrt(5))
    z = (torch.arange(NUM_DIRECTIONS) + 0.5) / NUM_DIRECTIONS
    radius = (1 - z.square()).sqrt()
    return torch.stack([radius * turn.cos(), radius * turn.sin(), z])
