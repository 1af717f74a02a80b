"""Patterns that repeat, seen in a picture's spectrum.

A generator that shrinks and enlarges four times paints what is finer than 4 px by harmonics of its
own: a weave, a hatch, rows of dots that the painting has not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from allaprima.errors import InputError
from allaprima.gram import at_least_float32

PATCH_PX = 64
SLOWEST = 8  # periods a patch: a pattern of at most 8 px; slower ones may be strokes
NEIGHBOURS = 9  # bins each way, the mean of which a peak stands out of
INVISIBLE = 1e-2  # the power of noise of 1/255 in a patch: what is fainter is no pattern
CHANCE = 0.3  # noise's own deviation, over the 49 patches of 256², is 0.18


def spectral_peaks(images: Tensor) -> Tensor:
    """How far each frequency stands out of its neighbours: (B, 3, H, W) -> (B, 3, 64, 64).

    Differences of logarithms of power, 0 for what is slower than 8 px. The logarithms are means
    over patches of 64 px, each half over the next (Welch 1967, but for the logarithm), so that a
    patch of much contrast counts as much as one of little: an edge, which few patches have, is no
    peak, and a faint pattern that fills the picture is one.

    Args:
        images: at least 64 px a side.
    """
    x = at_least_float32(images)
    side = torch.hann_window(PATCH_PX, periodic=False).to(x)
    patches = x.unfold(-2, PATCH_PX, PATCH_PX // 2).unfold(-2, PATCH_PX, PATCH_PX // 2)
    patches = patches - patches.mean((-2, -1), keepdim=True)
    power = torch.fft.rfft2(patches * side[:, None] * side).abs().square()
    half = (power + INVISIBLE).log().mean((2, 3))
    negative = half[..., 1:-1].flip(-2, -1).roll(1, -2)  # of pixels, which are real: symmetric
    spectrum = torch.cat([half, negative], -1)
    around = F.pad(spectrum, [NEIGHBOURS // 2] * 4, mode="circular")
    frequencies = torch.fft.fftfreq(PATCH_PX, 1 / PATCH_PX).to(x).abs()
    fast = torch.maximum(frequencies[:, None], frequencies) >= SLOWEST
    return (spectrum - F.avg_pool2d(around, NEIGHBOURS, stride=1)) * fast


def pattern_error(peaks: Tensor, painting: Tensor) -> Tensor:
    """Mean square of what stands out further than in the painting, and than by chance.

    Near to Liu, Gousseau & Xia 2016, who ask for the painting's whole spectrum: here what has none
    of its patterns is free.

    Args:
        peaks: (B, 3, 64, 64) -> (B,).
        painting: (1, 3, 64, 64).
    """
    excess = (peaks - painting.clamp(min=0) - CHANCE).clamp(min=0)
    return excess.square().mean((1, 2, 3))


def check_has_patch(image: Tensor, what: str) -> None:
    """Raise InputError unless (…, H, W) is large enough for :func:`spectral_peaks`."""
    height, width = image.shape[-2:]
    if min(height, width) < PATCH_PX:
        raise InputError(
            f"loss.pattern_weight looks at patches of {PATCH_PX} px, and a {what} has "
            f"{width} × {height} px; take a larger one, or a weight of 0"
        )
