"""Ulyanov's multi-scale texture network, for textures and for stylisation, whole, on a page."""

from collections.abc import Sequence

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from allaprima.errors import InputError
from allaprima.fused import InstanceNorm

NORMS = {
    "instance": InstanceNorm,
    "batch": lambda channels: nn.BatchNorm2d(channels),
}
PADDINGS = ("reflect", "circular")


class UlyanovGenerator(nn.Module):
    """Photo and noise in, stylised photo out; or noise alone in, a texture out.

    RGB (B, 3, H, W) in [0,1] to the same; of any size from ``min_size_px``. Without ``photo``
    only the batch, size and device of what is given count.

    Source: Ulyanov 2016a, section 3.2 and figure 2: noise (and the photo, averaged down) at K
    scales, each through a block of three convolutions; from the coarsest up, joined to the next
    finer, with as many more channels; a 1×1 convolution to RGB. Instance norm: Ulyanov 2016b.

    Differs:
        - The paper's last convolution gives the pixels, on 0–255; ours goes to [0,1] through
          ½ + ½·tanh(x/4), of which the paper's steps of 0.1 do not leave the steep part at once.
        - Noise is uniform in [-½, ½], centred as the photo is, where the authors' code has [0,1]:
          the first biases make up for that, and noise can be scaled without a change of colour.
        - The coarse branch is normalised before its upsampling, not after: the same statistics
          (but for the last row and column of an odd size) from a quarter of the pixels.
        - Sizes not divisible by 2^(K-1) are rounded up level by level, and cropped on the way up.
        - Photos are padded by reflection, the paper's by zeros, which paint a frame (2016b).

    Attributes:
        noise_seed: of the noise in evaluation mode, the same for one seed and size on every
            device, whatever else is in the batch. Training draws anew each time.
        noise_strength: factor of the noise; the paper's k. 0 leaves none.
        halo_px: how far an output pixel sees, at most; None if there is no end to it.
        alignment_px: parts of a photo that begin at multiples of it are computed alike.

    Args:
        photo: False paints textures.
        num_scales: K, the paper's 6 for stylisation and 5 for textures.
        num_channels: of each scale's own block; the paper's.
        num_noise_channels: of each scale; the paper's.
        norm: "instance", or "batch" (the paper's of 2016a).
        padding: "reflect", or "circular", whose textures tile (the paper's).

    Raises:
        InputError: an option out of its range, or too small a photo or texture.
    """

    def __init__(
        self,
        photo: bool = True,
        num_scales: int = 6,
        num_channels: int = 8,
        num_noise_channels: int = 3,
        norm: str = "instance",
        padding: str = "reflect",
    ):
        super().__init__()
        for option, choice, choices in (("norm", norm, NORMS), ("padding", padding, PADDINGS)):
            if choice not in choices:
                raise InputError(f"generator.{option}={choice}; choose one of {', '.join(choices)}")
        for option, count, least in (
            ("num_scales", num_scales, 1),
            ("num_channels", num_channels, 1),
            ("num_noise_channels", num_noise_channels, 0 if photo else 1),
        ):
            if count < least:
                why = ": a texture is made of noise" if option == "num_noise_channels" else ""
                raise InputError(f"generator.{option}={count} must be at least {least}{why}")
        self.arguments = {
            "photo": photo,
            "num_scales": num_scales,
            "num_channels": num_channels,
            "num_noise_channels": num_noise_channels,
            "norm": norm,
            "padding": padding,
        }
        self.photo, self.num_scales = photo, num_scales
        self.num_noise_channels = num_noise_channels
        self.noise_seed, self.noise_strength = 0, 1.0
        # The coarsest level has two pixels a side: one has no variance, nor can it be reflected.
        self.min_size_px = 2 ** (num_scales - 1) + 1
        self.alignment_px = 2 ** (num_scales - 1)
        self.halo_px = 6 * self.alignment_px if photo and padding == "reflect" else None
        num_in, n = 3 * photo + num_noise_channels, num_channels
        self.branches = nn.ModuleList(
            ConvBlock(num_in, n, norm, padding) for _ in range(num_scales)
        )
        self.joins = nn.ModuleList(Join(n * k, n, norm, padding) for k in range(1, num_scales))
        self.to_rgb = nn.Conv2d(n * num_scales, 3, 1)

    def forward(self, photo: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Paint; ``noise``, coarsest first, is what :meth:`draw_noise` gives if None."""
        batch, _, height, width = photo.shape
        if min(height, width) < self.min_size_px:
            what = "photo" if self.photo else "texture"
            least = self.min_size_px
            raise InputError(f"{what} of {width}×{height} px; each side must be ≥ {least} px")
        z = self.draw_noise(batch, height, width) if noise is None else noise
        z = [level.to(photo) * self.noise_strength for level in z]
        if self.photo:
            y = average_pyramid(photo - 0.5, self.num_scales)
            z = [torch.cat(level, dim=1) for level in zip(y, z, strict=True)]
        x = self.branches[0](z[0])
        for join, branch, level in zip(self.joins, self.branches[1:], z[1:], strict=True):
            x = join(x, branch(level))
        x = self.to_rgb(x)
        return 0.5 + 0.5 * torch.tanh(x.float() / 4)  # bfloat16 has too few steps near white

    def draw_noise(self, batch: int, height: int, width: int) -> list[Tensor]:
        """Noise of every scale, coarsest first, (B, C, h, w) uniform in [-½, ½], on the CPU."""
        seed = self.noise_seed
        if self.training:  # fresh, and another in every process, though all are seeded alike
            seed = int(torch.randint(2**62, ())) + process_rank()
        generator = torch.Generator().manual_seed(seed)
        scales = [2**k for k in reversed(range(self.num_scales))]
        sizes = [(-(-height // scale), -(-width // scale)) for scale in scales]
        images = [
            [torch.rand(self.num_noise_channels, *size, generator=generator) for size in sizes]
            for _ in range(batch)  # image by image, so that the first is the same in any batch
        ]
        return [torch.stack(level) - 0.5 for level in zip(*images, strict=True)]


class ConvBlock(nn.Sequential):
    """Convolutions of 3×3, 3×3 and 1×1, each with norm and leaky ReLU (slope 0.01)."""

    def __init__(self, num_in: int, num_out: int, norm: str, padding: str):
        layers: list[nn.Module] = []
        for c, kernel in ((num_in, 3), (num_out, 3), (num_out, 1)):
            layers += [
                nn.Conv2d(c, num_out, kernel, padding=kernel // 2, padding_mode=padding),  # pyright: ignore
                NORMS[norm](num_out),
                nn.LeakyReLU(),
            ]
        super().__init__(*layers)


class Join(nn.Module):
    """The coarse channels, nearest ×2, beside the fine ones, both normalised; a block of all."""

    def __init__(self, num_coarse: int, num_fine: int, norm: str, padding: str):
        super().__init__()
        self.norm_coarse, self.norm_fine = NORMS[norm](num_coarse), NORMS[norm](num_fine)
        num_both = num_coarse + num_fine
        self.block = ConvBlock(num_both, num_both, norm, padding)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        height, width = fine.shape[-2:]
        coarse = F.interpolate(self.norm_coarse(coarse), scale_factor=2, mode="nearest")
        return self.block(torch.cat([coarse[..., :height, :width], self.norm_fine(fine)], dim=1))


def process_rank() -> int:
    """Number of this process among those that train together; 0 where there is one."""
    many = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if many else 0


def average_pyramid(images: Tensor, num_scales: int) -> list[Tensor]:
    """Images averaged over 2×2 pixels again and again; coarsest first, the images last."""
    levels = [images]
    for _ in range(num_scales - 1):
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False))
    return levels[::-1]
