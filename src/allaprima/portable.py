"""A generator in the form that is exported: pixels as apps have them, noise without a generator."""

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as symbolic_config

from allaprima.errors import InputError

MERSENNE = 2**31 - 1


class PortableGenerator(nn.Module):
    """A generator that torch.export and ONNX can hold, for every size from ``min_size_px``.

    Takes and gives RGB (1, 3, H, W) float32 in [0,1], or (H, W, 3) uint8 (``uint8``). The given
    generator is copied and left as it is.

    Args:
        half: convolutions, and what lies between layers, in float16. Norms compute in float32,
            for float16 squares overflow at 256; so does the last step to [0,1].

    Raises:
        InputError: a generator of textures, which takes no photo.
    """

    def __init__(self, generator: nn.Module, *, half: bool = False, uint8: bool = False):
        super().__init__()
        if not getattr(generator, "photo", True):
            raise InputError(
                "this generator paints textures from noise and takes no photo, which is all that "
                "an exported network can be given; paint with stylize.py --texture 1024x768"
            )
        self.generator = copy.deepcopy(generator).eval()
        self.min_size_px: Any = generator.min_size_px
        self.uint8 = uint8
        if half:
            _halve(self.generator)

    def forward(self, photo: Tensor) -> Tensor:
        if not self.uint8:
            return paint_portably(self.generator, photo)
        x = photo.permute(2, 0, 1)[None].float() / 255
        x = paint_portably(self.generator, x)
        return (255 * x[0].permute(1, 2, 0) + 0.5).to(torch.uint8)


def paint_portably(generator: nn.Module, photo: Tensor) -> Tensor:
    """What an exported network shall compute: the generator, with :func:`position_noise` if any."""
    if not hasattr(generator, "draw_noise"):
        return generator(photo)
    height, width = photo.shape[-2:]
    num_scales: Any = generator.num_scales
    num_channels: Any = generator.num_noise_channels
    noise = []
    for k in reversed(range(num_scales)):
        scale = 2**k
        size = (height + scale - 1) // scale, (width + scale - 1) // scale
        noise.append(position_noise(num_channels, *size, seed=k, device=photo.device))
    return generator(photo, noise)


def position_noise(
    channels: int, height: int, width: int, seed: int, device: torch.device | None = None
) -> Tensor:
    """Uniform noise in [-½, ½], (1, C, H, W): a pixel's place decides it, on every machine.

    Neither ONNX's nor torch's random numbers are the same elsewhere. Whole numbers are: three
    rounds of a quadratic congruence modulo the prime 2³¹ − 1.
    """

    def places(count: int, factor: int) -> Tensor:
        return (torch.arange(count, device=device) + 1) * factor

    row, column = places(height, 73_856_093), places(width, 19_349_663)
    channel = places(channels, 83_492_791) + 104_729 * seed
    v = (channel[:, None, None] + row[:, None] + column) % MERSENNE
    for _ in range(3):  # below 2^62 + 2^61 + 2^31: an int64 holds it
        v = (v * v + 1_047_302_117 * v + 12_345) % MERSENNE
    return (v.float() / MERSENNE - 0.5)[None]


def _halve(module: nn.Module) -> None:
    """Put float16 convolutions and float32 norms in place of a module's own."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
            setattr(module, name, HalfConvolution(child))
        elif isinstance(child, nn.InstanceNorm2d | nn.BatchNorm2d):
            setattr(module, name, FloatNorm(child))
        else:
            _halve(child)


class HalfConvolution(nn.Module):
    """A convolution in float16, whatever it is given."""

    def __init__(self, convolution: nn.Module):
        super().__init__()
        self.convolution = convolution.half()

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x.half())


class FloatNorm(nn.Module):
    """A norm in float32, whose result is float16."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.float()).half()


def trace(network: PortableGenerator) -> torch.export.ExportedProgram:
    """The network as a graph whose height and width are free."""
    least = network.min_size_px
    free = torch.export.Dim.AUTO
    # Odd, unequal sizes, lest what holds for them alone be taken for a rule.
    h, w = 2 * least + 33, 2 * least + 38
    if network.uint8:
        photo, sizes = torch.zeros(h, w, 3, dtype=torch.uint8), {0: free, 1: free}
    else:
        photo, sizes = torch.zeros(1, 3, h, w), {2: free, 3: free}
    # As torch.onnx does it: no rules about how a tensor lies in memory, which differ by size.
    config: Any = symbolic_config
    known = hasattr(config, "backed_size_oblivious")  # not in the oldest torch that we take
    lenient = config.patch(backed_size_oblivious=True) if known else nullcontext()
    with torch.no_grad(), lenient:
        return torch.export.export(network, (photo,), dynamic_shapes=(sizes,))
