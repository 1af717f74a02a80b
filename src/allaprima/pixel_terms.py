"""The terms of the perceptual loss that look at pixels, without the loss network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from allaprima.errors import InputError
from allaprima.palette import palette, palette_error, palette_power
from allaprima.spectrum import check_has_patch, pattern_error, spectral_peaks
from allaprima.tone import tone_error, tones
from allaprima.variation import fine_power, grid_variation

Unit = Literal["one", "style"]


class PixelTerms(nn.Module):
    """Total variation, grid, pattern, palette and tone; what they keep of the style images.

    Args:
        weights: of "total_variation", "grid", "pattern", "palette" and "tone"; a term of 0 is not
            computed.
        styles: the style images, each RGB (3, H, W) in [0,1].
        blend: weight of each; they sum to 1.
        variation, palette_border_px, grid_unit: as :class:`allaprima.losses.PerceptualLoss` has
            them.

    Raises:
        InputError: a palette, a pattern or a unit of no style image, one too small for a pattern,
            a border that is no number of pixels.
    """

    target_palette: Tensor
    target_peaks: Tensor

    def __init__(
        self,
        weights: Mapping[str, float],
        styles: Sequence[Tensor],
        blend: Sequence[float],
        variation: Callable[[Tensor], Tensor],
        palette_border_px: int,
        grid_unit: Unit,
    ):
        super().__init__()
        if type(palette_border_px) is not int or palette_border_px < 0:
            raise InputError(
                f"loss.palette_border_px={palette_border_px} must be a whole number from 0"
            )
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.variation, self.palette_border_px = variation, palette_border_px
        shares = list(zip(blend, styles, strict=True))
        self.fine_power = 1.0
        if counts_in_styles("grid_unit", grid_unit, len(styles)):
            power = sum(share * fine_power(style[None]).item() for share, style in shares)
            self.fine_power = max(power, 1e-6)
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
            elif name == "grid":
                error = grid_variation(stylized) / self.fine_power
            elif name == "pattern":
                error = pattern_error(spectral_peaks(stylized), self.target_peaks)
            elif name == "palette":
                colors = palette(stylized, self.palette_border_px)
                error = palette_error(colors, self.target_palette) / self.palette_power
            else:
                error = tone_error(tones(stylized), targets["tone"])
            terms[name] = weight * error.mean()
        return terms


def counts_in_styles(option: str, unit: Unit, num_styles: int) -> bool:
    """Whether a part's unit is the style images', not one.

    Raises:
        InputError: it is neither, or there is no style image.
    """
    if unit == "one":
        return False
    if unit != "style" or not num_styles:
        raise InputError(
            f"loss.{option}={unit} with {num_styles} style images; choose one, or style "
            "where there is a style image"
        )
    return True
