"""Johnson's super-resolution network, on the blocks of his style network."""

import torch
from torch import Tensor, nn

from allaprima.errors import InputError
from allaprima.generators.johnson import (
    NORMS,
    UPSAMPLINGS,
    ConvNormReLU,
    ResidualBlock,
    Upsample,
    check_options,
)

FACTORS = (2, 4, 8, 16)


class JohnsonSuperresolutionGenerator(nn.Module):
    """Photo in, the photo ``factor`` times as large out, RGB in [0,1]; at least 5 px a side.

    Source: Johnson 2016, section 3.1 and table 2 of its supplement: 9×9 convolution, four
    residual blocks, log2(factor) upsamplings by 2, 9×9 convolution, tanh; 64 channels throughout.

    Differs:
        - The output is ½ + ½·tanh, as that of the style network.
        - Convolutions reflect at the borders; the paper does not say what its do.
        - Upsampling is by resizing, smooth or to the nearest, and a 3×3 convolution where the
          paper has a transposed one ("transposed").

    Args:
        factor: 2, 4, 8 or 16; the paper has 4 and 8.
        filters: channels; the paper's.
        num_residual_blocks: the paper's.
        norm: "batch" (the paper's) or "instance", which loses each photo's own contrast.
        upsampling: "smooth", "nearest" or "transposed" (the paper's).

    Raises:
        InputError: unknown option, or a photo under 5 px.
    """

    min_size_px = 5

    def __init__(
        self,
        factor: int = 4,
        filters: int = 64,
        num_residual_blocks: int = 4,
        norm: str = "batch",
        upsampling: str = "smooth",
    ):
        super().__init__()
        check_options(
            ("factor", factor, FACTORS),
            ("norm", norm, NORMS),
            ("upsampling", upsampling, UPSAMPLINGS),
        )
        self.arguments = {
            "factor": factor,
            "filters": filters,
            "num_residual_blocks": num_residual_blocks,
            "norm": norm,
            "upsampling": upsampling,
        }
        self.factor = factor
        num_upsamplings = factor.bit_length() - 1
        self.start = ConvNormReLU(3, filters, 9, 1, norm, "reflect")
        self.residual = nn.Sequential(
            *(ResidualBlock(filters, norm, padded=True) for _ in range(num_residual_blocks))
        )
        self.up = nn.Sequential(
            *(
                Upsample(filters, filters, norm, upsampling, "reflect")
                for _ in range(num_upsamplings)
            )
        )
        self.to_rgb = nn.Conv2d(filters, 3, 9, padding=4, padding_mode="reflect")

    def forward(self, photo: Tensor) -> Tensor:
        height, width = photo.shape[-2:]
        if min(height, width) < self.min_size_px:
            raise InputError(f"photo of {width}×{height} px; each side must be ≥ 5 px")
        x = self.start(photo - 0.5)
        x = self.residual(x)
        x = self.up(x)
        x = self.to_rgb(x)
        return 0.5 + 0.5 * torch.tanh(x.float())  # bfloat16 has too few steps near white
