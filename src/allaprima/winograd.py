"""Frozen 3×3 convolutions on a CPU with a quarter of the multiplications (Winograd)."""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from allaprima.native import load_library

# Interpolation points 0, ±P, ±Q, ∞. Lavin & Gray 2016 take 1 and 2; nearer to each other and to
# 1 in the geometric mean, rounding errors are a quarter, about twice those of a direct float32
# convolution. Both, their squares and their cubes are exact in float32.
P, Q = 0.75, 1.5
TILE = 4  # output pixels of a tile, each way
POINTS = 36  # products of a tile
ROWS, COLS = 6, 16  # as in native/frozen_conv.c: tiles and output channels of its innermost product


def fast_conv_available() -> bool:
    """Whether the compiled convolution can be used on this machine; the first call compiles it.

    See :func:`allaprima.native.load_library`; if it is False, all goes on without it.
    """
    return load_library("frozen_conv") is not None


class FrozenConv3x3(nn.Module):
    """3×3 convolution, stride 1, padding 1, of weights that never change, and a ReLU.

    Source: Lavin & Gray 2016, F(4×4, 3×3). Float32 on a CPU with channels in 16s; whatever else
    comes goes through ``F.conv2d``, as does everything if ``fast_conv_available()`` is False.

    The weights are no parameters and no part of a state dict. Their transforms, four times
    as large, are made when first needed, the backward pass's when a gradient is.

    Args:
        weight: (C_out, C_in, 3, 3).
        bias: (C_out,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        assert weight.shape[1:] == (weight.shape[1], 3, 3), weight.shape
        assert bias.shape == weight.shape[:1], bias.shape
        weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias.detach().contiguous(), persistent=False)
        self._forward_kernel: Tensor | None = None
        self._backward_kernel: Tensor | None = None

    def forward(self, x: Tensor, relu: bool) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H, W), channels last; with ``relu``, its positive part.

        Differentiable once, with respect to ``x``.
        """
        if not self._is_fast_for(x):
            y = F.conv2d(x, self.weight, self.bias, padding=1)
            return F.relu(y) if relu else y
        if self._forward_kernel is None:
            self._forward_kernel = _transform_kernel(self.weight)
        if self._backward_kernel is None and torch.is_grad_enabled() and x.requires_grad:
            # The gradient is a convolution too: the kernel turned by 180°, channels exchanged.
            self._backward_kernel = _transform_kernel(self.weight.transpose(0, 1).flip(2, 3))
        return _Convolution.apply(x, self._forward_kernel, self._backward_kernel, self.bias, relu)

    def _is_fast_for(self, x: Tensor) -> bool:
        return (
            x.device.type == self.weight.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and x.ndim == 4
            and x.shape[1] == self.weight.shape[1]
            and x.numel() > 0
            and all(channels % COLS == 0 for channels in self.weight.shape[:2])
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and fast_conv_available()
        )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, backward: Tensor, bias: Tensor, relu: bool):
        y = _convolve(x, None, kernel, bias, relu)
        ctx.save_for_backward(backward, y if relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        kernel, y = ctx.saved_tensors
        return _convolve(gradients[0], y, kernel, None, False), None, None, None, None


def _convolve(
    x: Tensor, gate: Tensor | None, kernel: Tensor, bias: Tensor | None, relu: bool
) -> Tensor:
    """The compiled convolution of ``x``, zero where ``gate`` (its shape) is not positive."""
    library = load_library("frozen_conv")
    assert library is not None
    x = x.contiguous(memory_format=torch.channels_last)
    (batch, cin, height, width), cout = x.shape, kernel.shape[1] * COLS
    y = torch.empty((batch, cout, height, width), memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    # Small blocks stay in the cache; but each reads the whole kernel, the larger the more channels.
    block = max(4 * ROWS, (cin + cout) // 12)
    tiles = batch * -(-height // TILE) * -(-width // TILE)
    num_blocks = -(-tiles // (block * threads)) * threads  # as many for each thread
    block = -(-tiles // (num_blocks * ROWS)) * ROWS
    scratch = torch.empty(threads * (POINTS * (block * (cin + cout) + 32) + cin + cout))
    tensors = (x, gate, kernel, bias, y, scratch)
    library.conv3x3(
        *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors),
        *map(ctypes.c_int, (batch, height, width, cin, cout, relu, block, threads)),
    )
    return y


def _transform_kernel(weight: Tensor) -> Tensor:
    """G g Gᵀ of every kernel, as native/frozen_conv.c reads it: (36, C_out / 16, C_in, 16)."""
    pp, qq = P * P, Q * Q
    rows = [[1 / (pp * qq), 0, 0]]
    for point, scale in ((P, 2 * pp * (pp - qq)), (Q, 2 * qq * (qq - pp))):
        rows += [[1 / scale, sign * point / scale, point * point / scale] for sign in (1, -1)]
    g = torch.tensor([*rows, [0, 0, 1]], dtype=torch.float64)
    u = torch.einsum("pi,qj,ocij->pqco", g, g, weight.double()).float()
    cin, cout = u.shape[2:]
    return u.reshape(POINTS, cin, cout // COLS, COLS).transpose(1, 2).contiguous()
