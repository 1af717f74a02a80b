"""3×3 convolutions on a CPU with a quarter of the multiplications (Winograd)."""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from allaprima.native import load_library

TILE = 4  # output pixels of a tile, each way
POINTS = 36  # products of a tile
COLS = 16  # output channels of a panel of the kernel
ROWS = 12  # a block's tiles are a multiple of it
CHUNK = 64  # as in native/winograd.c


def fast_conv_available(dtype: torch.dtype = torch.float32) -> bool:
    """Whether the compiled convolution can be used on this machine; the first call compiles it.

    See :func:`allaprima.native.load_library`; if it is False, all goes on without it. bfloat16
    needs a CPU with products of its own for it (AVX512_BF16).
    """
    library = load_library("winograd")
    return library is not None and (dtype == torch.float32 or bool(library.has_bfloat16()))


class FrozenConv3x3(nn.Module):
    """3×3 convolution, stride 1, of weights that never change, and a ReLU.

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

    def forward(self, x: Tensor, relu: bool, padding: int = 1) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H', W'), channels last; with ``relu``, its positive part.

        Differentiable once, with respect to ``x``.

        Args:
            padding: rows and columns of zeros at each side, 0 or 1; without them, H' = H - 2.
        """
        autocast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
        if not self._is_fast_for(x, dtype):
            y = F.conv2d(x, self.weight, self.bias, padding=padding)
            return F.relu(y) if relu else y
        backward = None
        if torch.is_grad_enabled() and x.requires_grad:
            backward = self._kernel(dtype, backward=True)
        forward = self._kernel(dtype, backward=False)
        return _Convolution.apply(x.to(dtype), forward, backward, self.bias, relu, padding)

    def _kernel(self, dtype: torch.dtype, backward: bool) -> Tensor:
        if (dtype, backward) not in self._kernels:
            weight = _turned(self.weight) if backward else self.weight
            self._kernels[dtype, backward] = _transform_kernel(weight, dtype)
        return self._kernels[dtype, backward]

    def _is_fast_for(self, x: Tensor, dtype: torch.dtype) -> bool:
        return self.weight.dtype == torch.float32 and is_fast_for(x, self.weight, dtype)


def convolve_3x3(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution of weights that are trained: stride 1, no padding, of the type of ``x``.

    Where ``is_fast_for(x, weight, x.dtype)``; differentiable once, with respect to all three.
    """
    return _TrainedConvolution.apply(x, weight, bias)


def is_fast_for(x: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether the compiled convolution takes ``x`` with ``weight`` (C_out, C_in, 3, 3)."""
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and dtype in (torch.float32, torch.bfloat16)
        and x.ndim == 4
        and weight.shape[1:] == (x.shape[1], 3, 3)
        and x.numel() > 0
        and all(channels % COLS == 0 for channels in weight.shape[:2])
        and not torch.compiler.is_compiling()
        and fast_conv_available(dtype)
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, backward: Tensor, bias: Tensor, relu: bool,
        padding: int,
    ):  # fmt: skip
        y = _convolve(x, kernel, bias=bias, relu=relu, padding=padding)
        ctx.save_for_backward(backward, y if relu else None)
        ctx.padding = padding
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        kernel, y = ctx.saved_tensors
        dx = _convolve(gradients[0], kernel, gate=y, padding=2 - ctx.padding)
        return dx, None, None, None, None, None


class _TrainedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor):
        ctx.save_for_backward(x, weight)
        return _convolve(x, _transform_kernel(weight, x.dtype), bias=bias, padding=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        dy, dx = gradients[0].to(x.dtype).contiguous(memory_format=torch.channels_last), None
        if ctx.needs_input_grad[0]:
            dx = _convolve(dy, _transform_kernel(_turned(weight), x.dtype), padding=2)
        if x.dtype == torch.float32:
            return dx, _weight_gradient(x, dy).to(weight.dtype), dy.sum((0, 2, 3)).to(weight.dtype)
        # In bfloat16, oneDNN is near the processor's peak here.
        _, dweight, dbias = torch.ops.aten.convolution_backward(
            dy, x, weight.to(x.dtype), [weight.shape[0]], [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
            [False, True, True],
        )  # fmt: skip
        return dx, dweight.to(weight.dtype), dbias.to(weight.dtype)


def _weight_gradient(x: Tensor, dy: Tensor) -> Tensor:
    """Nine products of matrices, up to four times as fast as oneDNN's float32.

    The rows of ``dy`` are made as long as those of ``x``, by zeros. Then every tap of the kernel
    sees all positions of ``x`` in their order, from its own on: a view, none is copied.
    """
    (height, _), width = dy.shape[2:], x.shape[3]
    positions = height * width - 2
    dy = F.pad(dy, (0, 2)).permute(0, 2, 3, 1).flatten(1, 2)[:, :positions].mT
    x = x.permute(0, 2, 3, 1).flatten(1, 2)
    begins = (row * width + column for row in range(3) for column in range(3))
    taps = [(dy @ x[:, begin : begin + positions]).sum(0) for begin in begins]
    return torch.stack(taps, dim=-1).unflatten(-1, (3, 3))


def _turned(weight: Tensor) -> Tensor:
    """A gradient is a convolution too: the kernel turned by 180°, channels exchanged."""
    return weight.transpose(0, 1).flip(2, 3)


def _convolve(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None = None,
    relu: bool = False,
    gate: Tensor | None = None,
    padding: int = 1,
) -> Tensor:
    """The compiled convolution of ``x``, zero where ``gate`` (its shape) is not positive."""
    library = load_library("winograd")
    assert library is not None
    x = x.to(kernel.dtype).contiguous(memory_format=torch.channels_last)
    (batch, cin, height, width), cout = x.shape, kernel.shape[1] * COLS
    rows, columns = height + 2 * padding - 2, width + 2 * padding - 2
    y = torch.empty((batch, cout, rows, columns), dtype=x.dtype, memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    # A block's transformed input stays in the second cache, but each reads the whole kernel.
    block = 2 * ROWS
    tiles = batch * -(-rows // TILE) * -(-columns // TILE)
    num_blocks = -(-tiles // (block * threads)) * threads  # as many for each thread
    block = -(-tiles // (num_blocks * ROWS)) * ROWS
    scratch = torch.empty(threads * POINTS * (block * (cin + CHUNK) + 64))
    tensors = (x, gate, kernel, bias, y, scratch)
    low = kernel.dtype == torch.bfloat16
    library.conv3x3(
        *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors),
        *map(ctypes.c_int, (batch, height, width, cin, cout, padding, relu, block, threads, low)),
    )
    return y


def _transform_kernel(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """G g Gᵀ of every kernel g, packed as native/winograd.h reads it."""
    library = load_library("winograd")
    assert library is not None
    weight = weight.detach().float().permute(1, 2, 3, 0).contiguous()
    (cin, _, _, cout), low = weight.shape, dtype == torch.bfloat16
    shape = (POINTS, cout // COLS, cin // 2, COLS, 2) if low else (POINTS, cout // COLS, cin, COLS)
    u = torch.empty(shape, dtype=dtype)
    pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (weight, u))
    library.transform_kernel(
        *pointers, *map(ctypes.c_int, (cin, cout, torch.get_num_threads(), low))
    )
    return u
