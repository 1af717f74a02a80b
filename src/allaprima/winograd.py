"""Frozen 3×3 convolutions on a CPU with a quarter of the multiplications (Winograd)."""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from allaprima.native import load_library

P, Q = 0.75, 1.5  # interpolation points 0, ±P, ±Q, ∞, as in native/winograd.h
TILE = 4  # output pixels of a tile, each way
POINTS = 36  # products of a tile
COLS = 16  # output channels of a panel of the kernel
ROWS = 12  # a block's tiles are a multiple of it
CHUNK = 64  # as in native/frozen_conv.c


def fast_conv_available(dtype: torch.dtype = torch.float32) -> bool:
    """Whether the compiled convolution can be used on this machine; the first call compiles it.

    See :func:`allaprima.native.load_library`; if it is False, all goes on without it. bfloat16
    needs a CPU with products of its own for it (AVX512_BF16).
    """
    library = load_library("frozen_conv")
    return library is not None and (dtype == torch.float32 or bool(library.has_bfloat16()))


class FrozenConv3x3(nn.Module):
    """3×3 convolution, stride 1, padding 1, of weights that never change, and a ReLU.

    Source: Lavin & Gray 2016, F(4×4, 3×3). Float32 or bfloat16 on a CPU with channels in 16s;
    whatever else comes goes through ``F.conv2d``, as does everything if
    ``fast_conv_available()`` is False. In bfloat16 (the activations' type, or autocast's) the
    transforms and sums are float32.

    The weights are no parameters and no part of a state dict. Their transforms, four times
    as many numbers, are made when first needed, the backward pass's when a gradient is.

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
        self._kernels: dict[tuple[torch.dtype, bool], Tensor] = {}

    def forward(self, x: Tensor, relu: bool) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H, W), channels last; with ``relu``, its positive part.

        Differentiable once, with respect to ``x``.
        """
        autocast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
        if not self._is_fast_for(x, dtype):
            y = F.conv2d(x, self.weight, self.bias, padding=1)
            return F.relu(y) if relu else y
        backward = None
        if torch.is_grad_enabled() and x.requires_grad:
            backward = self._kernel(dtype, backward=True)
        forward = self._kernel(dtype, backward=False)
        return _Convolution.apply(x.to(dtype), forward, backward, self.bias, relu)

    def _kernel(self, dtype: torch.dtype, backward: bool) -> Tensor:
        if (dtype, backward) not in self._kernels:
            # A gradient is a convolution too: the kernel turned by 180°, channels exchanged.
            weight = self.weight.transpose(0, 1).flip(2, 3) if backward else self.weight
            self._kernels[dtype, backward] = _transform_kernel(weight, dtype)
        return self._kernels[dtype, backward]

    def _is_fast_for(self, x: Tensor, dtype: torch.dtype) -> bool:
        return (
            x.device.type == self.weight.device.type == "cpu"
            and self.weight.dtype == torch.float32
            and x.dtype in (torch.float32, torch.bfloat16)
            and dtype in (torch.float32, torch.bfloat16)
            and x.ndim == 4
            and x.shape[1] == self.weight.shape[1]
            and x.numel() > 0
            and all(channels % COLS == 0 for channels in self.weight.shape[:2])
            and not torch.compiler.is_compiling()
            and fast_conv_available(dtype)
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
    x = x.to(kernel.dtype).contiguous(memory_format=torch.channels_last)
    (batch, cin, height, width), cout = x.shape, kernel.shape[1] * COLS
    y = torch.empty(
        (batch, cout, height, width), dtype=x.dtype, memory_format=torch.channels_last
    )
    threads = torch.get_num_threads()
    # A block's transformed input stays in the second cache, but each reads the whole kernel.
    block = 2 * ROWS
    tiles = batch * -(-height // TILE) * -(-width // TILE)
    num_blocks = -(-tiles // (block * threads)) * threads  # as many for each thread
    block = -(-tiles // (num_blocks * ROWS)) * ROWS
    scratch = torch.empty(threads * POINTS * (block * (cin + CHUNK) + 64))
    tensors = (x, gate, kernel, bias, y, scratch)
    low = kernel.dtype == torch.bfloat16
    library.conv3x3(
        *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors),
        *map(ctypes.c_int, (batch, height, width, cin, cout, relu, block, threads, low)),
    )
    return y


def _transform_kernel(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """G g Gᵀ of every kernel, packed as native/winograd.h reads it."""
    pp, qq = P * P, Q * Q
    rows = [[1 / (pp * qq), 0, 0]]
    for point, scale in ((P, 2 * pp * (pp - qq)), (Q, 2 * qq * (qq - pp))):
        rows += [[1 / scale, sign * point / scale, point * point / scale] for sign in (1, -1)]
    g = torch.tensor([*rows, [0, 0, 1]], dtype=torch.float64)
    u = torch.einsum("pi,qj,ocij->pqco", g, g, weight.double()).to(dtype)
    cin, cout = u.shape[2:]
    depth = 2 if dtype == torch.bfloat16 else 1
    u = u.reshape(POINTS, cin // depth, depth, cout // COLS, COLS)
    return u.permute(0, 3, 1, 4, 2).contiguous()
