"""Johnson's residual image-transform network, whole, on a page."""

from collections.abc import Collection, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allaprima.dilations import check_dilations
from allaprima.errors import InputError
from allaprima.fused import InstanceNorm, convolve, enlarge_and_pad, normalize
from allaprima.luminance import luminance, with_luminance

Mode = Literal["zeros", "reflect"]
NORMS = {
    "instance": InstanceNorm,
    "batch": nn.BatchNorm2d,
}
UPSAMPLINGS = ("smooth", "nearest", "transposed")
MARGINS_PX = range(0, 65, 4)  # the steps keep the photo on the grid of strides
OUTPUTS = {
    "tanh": lambda x: 0.5 + 0.5 * torch.tanh(x),
    "linear": lambda x: (0.5 + x).clamp(0, 1),
}


class JohnsonGenerator(nn.Module):
    """Photo in, stylised photo of the same size out, RGB (B, 3, H, W) in [0,1], H and W ≥ 16.

    Source: Johnson 2016, section 3.1 and table 1 of its supplement: 9×9 convolution, two of
    stride 2, five residual blocks without a ReLU after the addition (Gross & Wilber 2016), two
    ×2 upsamplings, 9×9 convolution, tanh. Instance norm: Ulyanov 2016b.

    Differs:
        - The paper's output is 150·tanh around the mean colour, which leaves the displayable
          range; ours is ½ + ½·tanh, which is [0,1] exactly.
        - Upsampling is by resizing and a 3×3 convolution (Odena 2016) where the paper has a
          transposed one ("transposed"), which paints checkerboards. "nearest" paints a grid of
          4 px. "smooth" smooths by ¼, ½, ¼ before it resizes bilinearly, so that nothing is left
          of the frequencies whose aliases make that grid.
        - ``padding="layers"`` reflects at every convolution; the paper ("start") reflects 40 px
          once, leaves the residual convolutions unpadded, and zero-pads the others.
        - ``dilations``: taps of a block's convolutions that lie further apart (Yu & Koltun 2016),
          so that each place sees as far as the loss network's deep layers, and further.
        - Sizes not divisible by 4 are padded by reflection and cropped again.
        - ``margin_px`` more are reflected along every side and cropped off the painting, with the
          border that a network paints where it sees the end of the photo.
        - ``input="luminance"`` (colourisation, which the paper only names) reads no more than the
          photo's luminance, and keeps it exactly: the network decides hue and saturation, the
          latter within what RGB can show at that luminance.
        - ``output="linear"`` cuts ½ + x off at 0 and 1 instead of tanh, for networks trained
          elsewhere (``scripts/import_generator.py``). Cut pixels pass no gradient.

    Args:
        filters: channels after each of the first three convolutions; the paper's.
        num_residual_blocks: the paper's.
        norm: "instance" or "batch" (the paper's).
        upsampling: "smooth", "nearest" or "transposed" (the paper's).
        padding: "layers" or "start" (the paper's).
        input: "rgb" (the paper's) or "luminance".
        output: "tanh" (the paper's) or "linear".
        margin_px: a multiple of 4 up to 64; 0 is the paper's.
        dilations: of each residual block, 1 to 3 + margin_px / 2; None is the paper's, 1 for all.

    Attributes:
        halo_px: how far an output pixel sees, at most; None if the photo is padded at the start.
        alignment_px: parts of a photo that begin at multiples of it are computed alike.

    Raises:
        InputError: unknown option, or a photo under 16 px.
    """

    min_size_px = 16
    alignment_px = 4

    def __init__(
        self,
        filters: tuple[int, int, int] = (32, 64, 128),
        num_residual_blocks: int = 5,
        norm: str = "instance",
        upsampling: str = "smooth",
        padding: str = "layers",
        input: str = "rgb",
        output: str = "tanh",
        margin_px: int = 0,
        dilations: Sequence[int] | None = None,
    ):
        super().__init__()
        check_options(
            ("norm", norm, NORMS),
            ("upsampling", upsampling, UPSAMPLINGS),
            ("padding", padding, ("layers", "start")),
            ("input", input, ("rgb", "luminance")),
            ("output", output, OUTPUTS),
            ("margin_px", margin_px, MARGINS_PX),
        )
        if dilations is None:
            dilations = [1] * num_residual_blocks
        dilations = check_dilations(dilations, num_residual_blocks, padding, margin_px)
        self.arguments = {
            "filters": list(filters),
            "num_residual_blocks": num_residual_blocks,
            "norm": norm,
            "upsampling": upsampling,
            "padding": padding,
            "input": input,
            "output": output,
            "margin_px": margin_px,
            "dilations": dilations,
        }
        self.margin_px = int(margin_px)
        self.colourizes = input == "luminance"
        self.output = output
        # Each block loses 2 px a side, at a quarter of the resolution: 8 px of the photo.
        self.start_padding = 8 * num_residual_blocks if padding == "start" else 0
        mode: Mode = "zeros" if padding == "start" else "reflect"
        self.halo_px = 28 + 8 * sum(dilations) if padding == "layers" else None
        a, b, c = filters
        self.down = nn.Sequential(
            ConvNormReLU(3, a, 9, 1, norm, mode),
            ConvNormReLU(a, b, 3, 2, norm, mode),
            ConvNormReLU(b, c, 3, 2, norm, mode),
        )
        self.residual = nn.Sequential(
            *(ResidualBlock(c, norm, padding == "layers", dilation) for dilation in dilations)
        )
        self.up = nn.Sequential(
            Upsample(c, b, norm, upsampling, mode),
            Upsample(b, a, norm, upsampling, mode),
        )
        self.to_rgb = nn.Conv2d(a, 3, 9, padding=4, padding_mode=mode)

    def forward(self, photo: Tensor) -> Tensor:
        height, width = photo.shape[-2:]
        if min(height, width) < self.min_size_px:
            raise InputError(f"photo of {width}×{height} px; each side must be ≥ 16 px")
        grey = luminance(photo) if self.colourizes else None
        x = photo if grey is None else grey.expand_as(photo)
        margin = self.start_padding + self.margin_px
        x = reflect(x, margin, margin + -width % 4, margin, margin + -height % 4)
        x = self.down(x - 0.5)
        x = self.residual(x)
        x = self.up(x)
        x = convolve(self.to_rgb, x)
        top = left = self.margin_px
        x = x[..., top : top + height, left : left + width]
        x = OUTPUTS[self.output](x.float())  # bfloat16 has too few steps near white
        return x if grey is None else with_luminance(x, grey)


class ConvNormReLU(nn.Sequential):
    """Convolution that keeps the size (over its stride), norm, ReLU."""

    def __init__(self, num_in: int, num_out: int, kernel: int, stride: int, norm: str, mode: Mode):
        super().__init__(
            nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, padding_mode=mode),
            NORMS[norm](num_out),
            nn.ReLU(),
        )

    def forward(self, input: Tensor) -> Tensor:
        conv, norm, _ = self
        return normalize(norm, convolve(conv, input), relu=True)


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), the shortcut cropped where convolutions are unpadded."""

    def __init__(self, channels: int, norm: str, padded: bool, dilation: int = 1):
        super().__init__()
        padding = dilation if padded else 0
        self.crop = 2 * (dilation - padding)

        def conv() -> nn.Conv2d:
            options: Any = {"padding": padding, "padding_mode": "reflect", "dilation": dilation}
            return nn.Conv2d(channels, channels, 3, **options)

        self.body = nn.Sequential(
            conv(), NORMS[norm](channels), nn.ReLU(), conv(), NORMS[norm](channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        shortcut = x[..., self.crop : height - self.crop, self.crop : width - self.crop]
        conv1, norm1, _, conv2, norm2 = self.body
        x = normalize(norm1, convolve(conv1, x), relu=True)
        return normalize(norm2, convolve(conv2, x), shortcut=shortcut)


class Upsample(nn.Sequential):
    """Twice the size: resizing and a convolution, or a transposed convolution; norm, ReLU."""

    def __init__(self, num_in: int, num_out: int, norm: str, upsampling: str, mode: Mode):
        margin = int(mode == "reflect")  # added in one go with the enlarging
        if upsampling != "transposed":
            conv = nn.Conv2d(num_in, num_out, 3, 1, 1 - margin, padding_mode=mode)
            grow = nn.Identity(), conv  # which keeps the names of weights as they were
        else:
            grow = (nn.ConvTranspose2d(num_in, num_out, 3, 2, 1, output_padding=1),)
        super().__init__(*grow, NORMS[norm](num_out), nn.ReLU())
        self.margin = margin
        self.enlarge: Any = None if upsampling == "transposed" else upsampling

    def forward(self, input: Tensor) -> Tensor:
        *grow, norm, _ = self
        if self.enlarge:
            x = convolve(grow[1], enlarge_and_pad(input, self.margin, self.enlarge))
        else:
            x = grow[0](input)
        return normalize(norm, x, relu=True)


def check_options(*options: tuple[str, Any, Collection[Any]]) -> None:
    """Raise InputError unless every (name, value, choices) has one of its choices."""
    for name, value, choices in options:
        if value not in choices:
            listed = ", ".join(map(str, choices))
            raise InputError(f"generator.{name}={value}; choose one of {listed}")


def reflect(images: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Pad by reflection, over and over where the padding is wider than the image."""
    height, width = images.shape[-2:]
    if not isinstance(height, torch.SymInt):  # torch.export needs one way for every size
        if not (left or right or top or bottom):
            return images
        if max(left, right) < width and max(top, bottom) < height:
            return F.pad(images, (left, right, top, bottom), mode="reflect")
    rows = _reflected_indices(height, top, bottom, images.device)
    columns = _reflected_indices(width, left, right, images.device)
    return images[..., rows, :][..., columns]


def _reflected_indices(size: int, before: int, after: int, device: torch.device) -> Tensor:
    period = torch.full((), 2 * size - 2, device=device)  # ONNX has no remainder by a size
    phase = torch.arange(-before, size + after, device=device) % period
    return torch.minimum(phase, period - phase)
