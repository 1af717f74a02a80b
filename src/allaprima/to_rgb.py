"""A generator's last layer, 9×9 to three channels, on a CPU."""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from allaprima.native import load_library

KERNEL, CHUNK = 9, 32  # as in native/to_rgb.c
BFLOAT16 = torch.bfloat16


def convolve_to_rgb(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 3, H − 8, W − 8), without padding, of the type of ``x``.

    Where ``is_fast_for(x, weight, x.dtype)``; the result and sums are float32. oneDNN makes no use
    of vectors for three output channels, so its gradients are had from the transposed problem.
    """
    return _ToRGB.apply(x, weight, bias)


def is_fast_for(x: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether :func:`convolve_to_rgb` takes ``x`` as ``dtype`` with ``weight`` (C_out, C_in, k, k).

    bfloat16 needs the compiled code, and a CPU with products of its own for it.
    """
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype in (torch.float32, BFLOAT16)
        and dtype in (torch.float32, BFLOAT16)
        and weight.dtype == torch.float32
        and weight.shape == (3, x.shape[1], KERNEL, KERNEL)
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and (
            dtype == torch.float32
            or ((library := load_library("to_rgb")) is not None and bool(library.has_bfloat16()))
        )
    )


class _ToRGB(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor):
        ctx.save_for_backward(x, weight)
        if x.dtype == torch.float32:
            return F.conv2d(x, weight, bias)
        library = load_library("to_rgb")
        assert library is not None
        x = x.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        rows = weight.to(BFLOAT16).permute(2, 0, 3, 1).flatten(2)  # (9, 3, 9 C)
        rows = F.pad(rows, (0, -rows.shape[-1] % CHUNK)).unflatten(2, (-1, CHUNK))
        size = (batch, 3, height - KERNEL + 1, width - KERNEL + 1)
        y = torch.empty(size, memory_format=torch.channels_last)
        tensors = (x, rows.transpose(1, 2).contiguous(), bias.float().contiguous(), y)
        numbers = (batch, height, width, channels, torch.get_num_threads())
        pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors)
        library.to_rgb(*pointers, *map(ctypes.c_int, numbers))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        dy = gradients[0].to(x.dtype).contiguous(memory_format=torch.channels_last)
        turned = weight.to(x.dtype).transpose(0, 1).flip(2, 3)
        dx = F.conv2d(dy, turned, padding=KERNEL - 1) if ctx.needs_input_grad[0] else None
        # Correlating x with dy: the weight gradient of a convolution from three channels to C.
        _, dturned, _ = torch.ops.aten.convolution_backward(
            x, dy, turned, None, [1, 1], [KERNEL - 1] * 2, [1, 1], False, [0, 0], 1,
            [False, True, False],
        )  # fmt: skip
        return dx, dturned.transpose(0, 1).flip(2, 3).to(weight), gradients[0].sum((0, 2, 3))
