"""Gram matrix of activations, and correlations of two layers."""

import ctypes
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from allaprima.errors import InputError
from allaprima.native import load_library

COLS = 16  # channels of a packed panel, as in native/winograd.h
PAIRS, ROWS = 96, 12  # as in native/gram.c


def gram_matrix(
    features: Tensor,
    divide_by: str = "chw",
    shift: float = 0.0,
    other: Tensor | None = None,
) -> Tensor:
    """Correlations between channels, summed over positions: (B, C, H, W) -> (B, C, C), float32.

    Source: Gatys 2016, equation 3 (``divide_by="one"``: the plain sum); Johnson 2016, equation
    3 (``"chw"``: divided by C·H·W); Ulyanov 2016, equation 2 (``"hw"``: divided by H·W);
    Novak & Nikulin 2016, section 3 (``shift``, ``other``).

    Args:
        shift: added to every activation; Novak & Nikulin take −1.
        other: activations (B, D, H', W') of a shallower layer, at least as large: the result is
            (B, C, D), C the channels of ``features`` enlarged to H'×W' by nearest neighbour.
            H and W are then H' and W', and C in ``"chw"`` is √(C·D).

    Raises:
        InputError: another ``divide_by``.
    """
    against = features if other is None else other
    positions = against.shape[2] * against.shape[3]
    channels = sqrt(features.shape[1] * against.shape[1])
    divisors = {"one": 1, "hw": positions, "chw": channels * positions}
    if divide_by not in divisors:
        raise InputError(f"gram divide_by={divide_by}; choose one of {', '.join(divisors)}")
    scale = 1 / divisors[divide_by]
    if shift:
        features = at_least_float32(features) + shift
        other = None if other is None else at_least_float32(other) + shift
    if other is None:
        return _Gram.apply(features, scale)
    return scale * _correlate(features, other)


def _correlate(deep: Tensor, shallow: Tensor) -> Tensor:
    """Sum over the shallow layer's positions of the products with the enlarged deep layer's."""
    (height, width), (rows, columns) = deep.shape[2:], shallow.shape[2:]
    with torch.autocast(deep.device.type, enabled=False):
        deep, shallow = at_least_float32(deep), at_least_float32(shallow)
        if rows % height == columns % width == 0:
            # An enlarged position is constant over its cell, so the cell's mean times its size
            # does as well as enlarging, on a quarter of the positions.
            cell = (rows // height, columns // width)
            shallow = F.avg_pool2d(shallow, cell) * (cell[0] * cell[1])
        else:  # an odd row or column, that the pooling in between had dropped
            deep = F.interpolate(deep, (rows, columns), mode="nearest")
        return _positions_by_channels(deep).mT @ _positions_by_channels(shallow)


class _Gram(torch.autograd.Function):
    """scale · FᵀF. Its gradient as one product, not autograd's two.

    Bfloat16 activations on a CPU are multiplied as they are, by native/gram.c where it can be
    compiled; others as float32. Sums are float32 (float64 stays).
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(features)
        ctx.scale = scale
        with torch.autocast(features.device.type, enabled=False):
            if _is_native(features):
                gram = _native_gram(features)
            else:
                f = _positions_by_channels(features)
                gram = f.mT @ f
            return gram.mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (features,) = ctx.saved_tensors
        grad = (gradients[0] + gradients[0].mT) * ctx.scale
        if _is_native(features):
            product = _native_times(features, grad)
        else:
            with torch.autocast(features.device.type, enabled=False):
                product = torch.bmm(_positions_by_channels(features), grad)
            batch, channels, height, width = features.shape
            product = product.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return product.to(features.dtype), None


def _is_native(features: Tensor) -> bool:
    return (
        features.device.type == "cpu"
        and features.dtype == torch.bfloat16
        and features.shape[1] % COLS == 0
        and features.numel() > 0
        and features.is_contiguous(memory_format=torch.channels_last)
        and not torch.compiler.is_compiling()
        and (library := load_library("gram")) is not None
        and bool(library.has_bfloat16())
    )


def _native_gram(features: Tensor) -> Tensor:
    """FᵀF, float32, unscaled."""
    batch, channels, positions = *features.shape[:2], features[0, 0].numel()
    threads = torch.get_num_threads()
    splits = 1 if batch % threads == 0 else threads
    sums = torch.empty(batch, splits, channels, channels)
    scratch = torch.empty(threads * (PAIRS * channels + ROWS), dtype=torch.int32)
    _call("gram", (features, sums, scratch), batch, positions, channels, splits, threads)
    return sums.sum(1)


def _native_times(features: Tensor, matrix: Tensor) -> Tensor:
    """Each position's channels times a symmetric matrix (B, C, C), in bfloat16."""
    batch, channels, positions = *features.shape[:2], features[0, 0].numel()
    packed = matrix.bfloat16().reshape(batch, channels // 2, 2, channels // COLS, COLS)
    packed = packed.permute(0, 3, 1, 4, 2).contiguous()
    product = torch.empty_like(features)
    threads = torch.get_num_threads()
    scratch = torch.empty(threads * 2 * ROWS * channels)
    _call("times_matrix", (features, packed, product, scratch), batch, positions, channels, threads)
    return product


def _call(function: str, tensors: tuple[Tensor, ...], *numbers: int) -> None:
    pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors)
    getattr(load_library("gram"), function)(*pointers, *map(ctypes.c_int, numbers))


def _positions_by_channels(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H·W, C), float32: a view of channels-last float32 activations."""
    return at_least_float32(features).permute(0, 2, 3, 1).flatten(1, 2)


def at_least_float32(values: Tensor) -> Tensor:
    """float32, or float64 as it is."""
    return values if values.dtype == torch.float64 else values.float()
