"""Patterns that repeat, seen in a picture's spectrum."""

import torch
import torch.nn.functional as F
from torch import Tensor

from allaprima.errors import InputError
from allaprima.gram import at_least_float32

PATCH_PX = 64
SLOWEST = 8  # periods a patch: a pattern of at most 8 px; slower ones may be strokes
NEIGHBOURS = 9  # bins each way, the mean of which a peak stands out of
INVISIBLE = 1e-2  # the power of noise of 1/255 in a patch: what is fainter is no pattern
CHANCE = 0.3  # as far as the spectrum of 49 patches of noise is off by itself


def spectral_peaks(images: Tensor) -> Tensor:
    """How far each frequency stands out of its neighbours: (B, 3, H, W) -> (3, 64, 64).

    Differences of logarithms of power, 0 for what is slower than 8 px. The logarithms are means
    over patches of 64 px, half of each over the next (Welch 1967, but for the logarithm), so that
    a patch of much contrast counts as much as one of little: an edge is no peak, for edges run
    otherwise elsewhere, and neither is a faint pattern lost that fills the picture.

    Args:
        images: at least 64 px a side.
    """
    x = at_least_float32(images)
    side = torch.hann_window(PATCH_PX, periodic=False).to(x)
    patches = x.unfold(-2, PATCH_PX, PATCH_PX // 2).unfold(-2, PATCH_PX, PATCH_PX // 2)
    patches = patches - patches.mean((-2, -1), keepdim=True)
    power = torch.fft.fft2(patches * side[:, None] * side).abs().square()
    spectrum = (power + INVISIBLE).log().mean((0, 2, 3))
    around = F.pad(spectrum, [NEIGHBOURS // 2] * 4, mode="circular")
    frequencies = torch.fft.fftfreq(PATCH_PX, 1 / PATCH_PX).to(x).abs()
    fast = torch.maximum(frequencies[:, None], frequencies) >= SLOWEST
    return (spectrum - F.avg_pool2d(around, NEIGHBOURS, stride=1)) * fast


def pattern_error(peaks: Tensor, painting: Tensor) -> Tensor:
    """What stands out further than in the painting, and than by chance: (3, 64, 64) twice -> ()."""
    excess = (peaks - painting.clamp(min=0) - CHANCE).clamp(min=0)
    return excess.square().mean()


def check_has_patch(image: Tensor, what: str) -> None:
    """Raise InputError unless (…, H, W) is large enough for :func:`spectral_peaks`."""
    height, width = image.shape[-2:]
    if min(height, width) < PATCH_PX:
        raise InputError(
            f"loss.pattern_weight looks at patches of {PATCH_PX} px, and a {what} has "
            f"{width} × {height} px; take a larger one, or a weight of 0"
        )
