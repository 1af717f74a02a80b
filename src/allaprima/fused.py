"""A generator's convolutions and what it does between them, in one pass over memory on a CPU.

All is also written in plain torch, which is what other devices, other types and
``torch.export`` get.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from allaprima import to_rgb, winograd
from allaprima.native import load_library

LANES = 16  # channels come in multiples of it
PART = 1024  # as in native/fused.c

Enlarging = Literal["nearest", "smooth"]


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm with weights, ReLU and shortcut: one pass over memory for each direction.

    Source: Ulyanov 2016, Instance Normalization, equation 2. The moments are float32, relative
    to the first pixel, so that a flat image has no variance; the result has the input's type.

    Differs: torch 2.13's own layer returns a wrong gradient on a CPU for one image whose gradient
    is channels-last, as ours are; the plain form here is written out by mean and variance.
    """

    # (norm, x) to the normalised x, without ReLU and shortcut; where statistics are known already
    stand_in: Callable[[nn.Module, Tensor], Tensor] | None = None

    def __init__(self, num_channels: int):
        super().__init__(num_channels, affine=True)

    def forward(self, input: Tensor, relu: bool = False, shortcut: Tensor | None = None) -> Tensor:
        x = input
        same = shortcut is None or (shortcut.dtype == x.dtype and shortcut.shape == x.shape)
        if (
            self.stand_in is None
            and same
            and self.weight.dtype == torch.float32
            and _is_fast_for(x)
        ):
            return _Normalize.apply(x, self.weight, self.bias, shortcut, self.eps, relu)
        if self.stand_in is not None:
            y = self.stand_in(self, x)
        elif x.requires_grad and len(x) == 1:
            wide = x if x.dtype == torch.float64 else x.float()
            variance, mean = torch.var_mean(wide, (2, 3), correction=0, keepdim=True)
            scale = self.weight.view(-1, 1, 1) * (variance + self.eps).rsqrt()
            y = ((wide - mean) * scale + self.bias.view(-1, 1, 1)).to(x.dtype)
        else:
            y = super().forward(x)
        y = F.relu(y) if relu else y
        return y if shortcut is None else shortcut + y


def normalize(
    norm: nn.Module, x: Tensor, relu: bool = False, shortcut: Tensor | None = None
) -> Tensor:
    """``norm(x)``, with ``relu`` its positive part, and ``shortcut`` added to it."""
    if isinstance(norm, InstanceNorm):
        return norm(x, relu, shortcut)
    y = F.relu(norm(x)) if relu else norm(x)
    return y if shortcut is None else shortcut + y


def enlarge_and_pad(x: Tensor, margin: int, enlarge: Enlarging | None = None) -> Tensor:
    """(B, C, H, W), twice the size if asked for, and ``margin`` pixels more at every border.

    "nearest", or without enlarging: they are reflected. "smooth": ``x`` goes on as it ends, is
    smoothed by ¼, ½, ¼ each way and enlarged bilinearly (new pixels lie ¼ and ¾ of the way
    between its own); ``margin`` is 2 at most.
    """
    if enlarge == "smooth":
        assert margin <= 2, margin
        x = smooth(F.pad(x, (2,) * 4, mode="replicate"))  # a pixel wider than x, two when enlarged
        if _is_fast_for(x):
            return _Pad.apply(x, "enlarge", margin - 2, 2)
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        height, width = x.shape[-2:]
        return x[..., 2 - margin : height - 2 + margin, 2 - margin : width - 2 + margin]
    scale = 2 if enlarge else 1
    if margin == 0 and scale == 1:
        return x
    if margin < scale * min(x.shape[-2:]) and _is_fast_for(x):
        return _Pad.apply(x, "pad", margin, scale)
    if enlarge:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
    return F.pad(x, (margin,) * 4, mode="reflect") if margin else x


def smooth(x: Tensor) -> Tensor:
    """By ¼, ½, ¼ down and across: (B, C, H, W) to (B, C, H - 2, W - 2)."""
    x = 0.25 * (x[..., :-2, :] + x[..., 2:, :]) + 0.5 * x[..., 1:-1, :]
    return 0.25 * (x[..., :-2] + x[..., 2:]) + 0.5 * x[..., 1:-1]


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """``conv(x)``; an ``nn.Conv2d`` that reflects, in one pass."""
    if not isinstance(conv, nn.Conv2d) or conv.padding_mode != "reflect":
        return conv(x)
    margin = conv.padding[0]
    assert conv.padding == (margin, margin), conv
    x = enlarge_and_pad(x, margin)  # pyright: ignore[reportArgumentType]
    autocast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
    if conv.stride == (1, 1) and conv.bias is not None:
        if winograd.is_fast_for(x, conv.weight, dtype):
            return _convolve_dilated(x.to(dtype), conv.weight, conv.bias, conv.dilation[0])
        if to_rgb.is_fast_for(x, conv.weight, dtype):
            return to_rgb.convolve_to_rgb(x.to(dtype), conv.weight, conv.bias)
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, dilation=conv.dilation)


def _convolve_dilated(x: Tensor, weight: Tensor, bias: Tensor, apart: int) -> Tensor:
    """3×3, unpadded, of taps so far apart: a dense one of each of ``apart²`` interleaved images."""
    if apart == 1:
        return winograd.convolve_3x3(x, weight, bias)
    batch, _, height, width = x.shape
    x = F.pad(x, (0, -width % apart, 0, -height % apart))
    x = x.unflatten(3, (-1, apart)).unflatten(2, (-1, apart))  # B, C, h, i, w, j
    y = winograd.convolve_3x3(x.permute(0, 3, 5, 1, 2, 4).flatten(0, 2), weight, bias)
    y = y.unflatten(0, (batch, apart, apart)).permute(0, 3, 4, 1, 5, 2)
    return y.flatten(4, 5).flatten(2, 3)[..., : height - 2 * apart, : width - 2 * apart]


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shortcut: Tensor | None, eps: float,
        relu: bool,
    ):  # fmt: skip
        x = x.contiguous(memory_format=torch.channels_last)
        if shortcut is not None:
            shortcut = shortcut.contiguous(memory_format=torch.channels_last)
        batch, channels, positions = *x.shape[:2], x[0, 0].numel()
        y = torch.empty_like(x)
        statistics = torch.empty(batch, 4, channels)
        sums = torch.empty(batch, -(-positions // PART), 2, channels)
        tensors = (x, weight, bias, shortcut, y, statistics, sums)
        _call("norm_forward", tensors, (batch, positions, channels), eps, relu)
        ctx.save_for_backward(x, statistics)
        ctx.relu, ctx.adds = relu, shortcut is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, statistics = ctx.saved_tensors
        dy = gradients[0].to(x.dtype).contiguous(memory_format=torch.channels_last)
        batch, channels, positions = *x.shape[:2], x[0, 0].numel()
        dx = torch.empty_like(x)
        dweight, dbias = torch.empty(2, batch, channels)
        sums = torch.empty(batch, -(-positions // PART) + 1, 2, channels)
        tensors = (dy, x, statistics, dx, dweight, dbias, sums)
        _call("norm_backward", tensors, (batch, positions, channels), ctx.relu)
        return dx, dweight.sum(0), dbias.sum(0), dy if ctx.adds else None, None, None


class _Pad(torch.autograd.Function):
    """``scale`` times as large and ``margin`` more at every border: "pad" or "enlarge" in C."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: str, margin: int, scale: int):
        x = x.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        size = (batch, channels, scale * height + 2 * margin, scale * width + 2 * margin)
        y = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        numbers = (margin, scale) if function == "pad" else (margin,)  # which has but one scale
        ctx.function, ctx.shape, ctx.numbers = function, x.shape, numbers
        _call(f"{function}_forward", (x, y), (batch, height, width, channels, *numbers))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        dy = gradients[0].contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = ctx.shape
        dx = torch.empty(ctx.shape, dtype=dy.dtype, memory_format=torch.channels_last)
        sizes = (batch, height, width, channels, *ctx.numbers)
        _call(f"{ctx.function}_backward", (dy, dx), sizes)
        return dx, None, None, None


def _is_fast_for(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.ndim == 4
        and x.shape[1] % LANES == 0
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and (library := load_library("fused")) is not None
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and library.has_bfloat16() > 0))
    )


def _call(function: str, tensors: tuple[Tensor | None, ...], sizes: tuple[int, ...], *rest: Any):
    """Call native/fused.c: pointers, sizes, what else there is, threads, bfloat16 or not."""
    low = tensors[0] is not None and tensors[0].dtype == torch.bfloat16
    pointers = (ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors)
    more = (ctypes.c_float(v) if isinstance(v, float) else ctypes.c_int(v) for v in rest)
    integers = map(ctypes.c_int, sizes)
    threads = ctypes.c_int(torch.get_num_threads())
    done = getattr(load_library("fused"), function)(
        *pointers, *integers, *more, threads, ctypes.c_int(low)
    )
    if function.startswith("enlarge") and not done:
        raise MemoryError
