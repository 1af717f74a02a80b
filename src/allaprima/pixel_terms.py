"""The terms of the perceptual loss that look at pixels, without the loss network."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from allaprima.errors import InputError
from allaprima.palette import palette, palette_error, palette_power
from allaprima.spectrum import check_has_patch, pattern_error, spectral_peaks
from allaprima.tone import tone_error, tones


class PixelTerms(nn.Module):
    """Total variation, pattern, palette and tone; what they keep of the style images.

    Args:
        weights: of "total_variation", "pattern", "palette" and "tone"; a term of 0 is not computed.
        styles: the style images, each RGB (3, H, W) in [0,1].
        blend: weight of each; they sum to 1.
        variation: (B, 3, H, W) -> (B,).

    Raises:
        InputError: a palette or a pattern of no style image, one too small for a pattern.
    """

    target_palette: Tensor
    target_peaks: Tensor

    def __init__(
        self,
        weights: Mapping[str, float],
        styles: Sequence[Tensor],
        blend: Sequence[float],
        variation: Callable[[Tensor], Tensor],
    ):
        super().__init__()
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.variation = variation
        shares = list(zip(blend, styles, strict=True))
        if "pattern" in self.weights:
            if not styles:
                raise InputError(f"loss.pattern_weight={weights['pattern']} needs a style image")
            for style in styles:
                check_has_patch(style, "style image")
            peaks = [share * spectral_peaks(style[None]) for share, style in shares]
            self.register_buffer("target_peaks", torch.stack(peaks).sum(0), persistent=False)
        if "palette" in self.weights:
            if not styles:
                raise InputError(f"loss.palette_weight={weights['palette']} needs a style image")
            between = torch.stack([share * palette(style[None]) for share, style in shares]).sum(0)
            self.register_buffer("target_palette", between, persistent=False)
            self.palette_power = max(palette_power(between).item(), 1e-6)

    @torch.no_grad()
    def targets(self, photos: Tensor) -> dict[str, Tensor]:
        """What is to be kept of the photos: their tones, "tone".

        Raises:
            InputError: they are too small for a pattern.
        """
        if "pattern" in self.weights:
            check_has_patch(photos, "photo")
        return {"tone": tones(photos)} if "tone" in self.weights else {}

    def forward(self, stylized: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each term by its name, weighted, the mean over the batch.

        Args:
            stylized: RGB (B, 3, H, W) in [0,1].
            targets: what :meth:`targets` gave for the photos.
        """
        terms = {}
        for name, weight in self.weights.items():
            if name == "total_variation":
                error = self.variation(stylized)
            elif name == "pattern":
                error = pattern_error(spectral_peaks(stylized), self.target_peaks)
            elif name == "palette":
                colors = palette(stylized)
                error = palette_error(colors, self.target_palette) / self.palette_power
            else:
                error = tone_error(tones(stylized), targets["tone"])
            terms[name] = weight * error.mean()
        return terms
