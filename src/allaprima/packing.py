"""Johnson's network as native/painter.c reads it: its convolutions in order, weights packed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from allaprima.dilations import check_dilations
from allaprima.errors import InputError

EPSILON = 1e-5  # of torch's norms
LANES = 16  # channels come in multiples of it; the columns of a panel too
P, Q = 0.75, 1.5  # interpolation points of F(4, 3) are 0, ±P, ±Q, ∞, as in native/winograd.h


class Convolution(NamedTuple):
    """One layer, with the norm after it. Channels are padded with zeros to multiples of 16."""

    function: str  # in native/painter.c
    weights: np.ndarray  # packed for it
    cin: int
    cout: int
    gain: np.ndarray  # instance norm's; or batch norm's scale by its running statistics
    offset: np.ndarray  # the same of the shift
    taps: np.ndarray  # (C_out, C_in) sums over the kernel: the layer on a photo of one colour
    bias: np.ndarray
    dilation: int


def pack_generator(
    arguments: Mapping[str, Any], weights: Mapping[str, np.ndarray], low: bool
) -> list[Convolution]:
    """All convolutions of a JohnsonGenerator; ``low`` is for bfloat16.

    Raises:
        InputError: tensors missing, or of shapes that the arguments do not have; dilations that
            are too large, or not one for each block.
    """
    return list(_convolutions(arguments, weights, low))


def _convolutions(
    arguments: Mapping[str, Any], weights: Mapping[str, np.ndarray], low: bool
) -> Iterator[Convolution]:
    a, b, c = arguments.get("filters", (32, 64, 128))
    batch = arguments.get("norm", "instance") == "batch"

    def layer(
        function: str,
        pack: Callable[[np.ndarray, bool], np.ndarray],
        conv: str,
        norm: str | None,
        num_in: int,
        num_out: int,
        size: int = 3,
        dilation: int = 1,
    ) -> Convolution:
        kernel = _tensor(weights, f"{conv}.weight", num_out, num_in, size, size)
        bias = _tensor(weights, f"{conv}.bias", num_out)
        gain, offset = np.ones_like(bias), bias
        if norm:  # instance norm takes any bias away
            gain = _tensor(weights, f"{norm}.weight", num_out)
            offset = _tensor(weights, f"{norm}.bias", num_out)
        if norm and batch:
            variance = _tensor(weights, f"{norm}.running_var", num_out)
            gain = gain / np.sqrt(variance + np.float32(EPSILON))
            offset = offset + gain * (bias - _tensor(weights, f"{norm}.running_mean", num_out))
        return Convolution(
            function,
            pack(kernel, low),
            cin=-(-num_in // LANES) * LANES,
            cout=-(-num_out // LANES) * LANES,
            gain=_pad(gain, 0),
            offset=_pad(offset, 0),
            taps=kernel.sum((2, 3), dtype=np.float64),
            bias=bias,
            dilation=dilation,
        )

    yield layer("paint_first", _pack_first, "down.0.0", "down.0.1", 3, a, 9)
    yield layer("paint_strided", _pack_strided, "down.1.0", "down.1.1", a, b)
    yield layer("paint_strided", _pack_strided, "down.2.0", "down.2.1", b, c)
    num_blocks, dilations = arguments.get("num_residual_blocks", 5), arguments.get("dilations")
    if dilations is not None:
        dilations = check_dilations(dilations, num_blocks, "layers", arguments.get("margin_px", 0))
    for i in range(num_blocks):
        body, apart = f"residual.{i}.body", 1 if dilations is None else dilations[i]
        block = "paint_residual", _pack_residual
        yield layer(*block, f"{body}.0", f"{body}.1", c, c, dilation=apart)
        yield layer(*block, f"{body}.3", f"{body}.4", c, c, dilation=apart)
    yield layer("paint_upsampled", _pack_upsampled, "up.0.1", "up.0.2", c, b)
    yield layer("paint_upsampled", _pack_upsampled, "up.1.1", "up.1.2", b, a)
    yield layer("paint_last", _pack_last, "to_rgb", None, a, 3, 9)


def _tensor(weights: Mapping[str, np.ndarray], name: str, *shape: int) -> np.ndarray:
    found = weights.get(name)
    if found is None or found.shape != shape:
        raise InputError(
            f"{name} is {'missing' if found is None else found.shape} where {shape} is needed; "
            "take weights and arguments of one generator"
        )
    return np.asarray(found, np.float32)


def aligned_bytes(size: int) -> np.ndarray:
    """Memory that begins with a cache line."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def _pack_first(kernel: np.ndarray, low: bool) -> np.ndarray:
    """(C, 3, 9, 9) to six lines of (thirds, taps and colours, C)."""
    u = _transform_thirds(_pad(kernel, 0)).transpose(0, 1, 4, 3, 2)
    u = u.reshape(6, 3, 27, -1)
    if low:  # in pairs
        u = np.pad(u, [(0, 0), (0, 0), (0, 1), (0, 0)])
    return _store(_panels(u.reshape(6, -1, u.shape[-1]), low), low)


def _pack_strided(kernel: np.ndarray, low: bool) -> np.ndarray:
    """(C_out, C_in, 3, 3) to (taps and C_in, C_out)."""
    kernel = _pad(kernel, 0, 1).transpose(2, 3, 1, 0)
    return _store(_panels(kernel.reshape(-1, kernel.shape[-1]), low), low)


def _pack_residual(kernel: np.ndarray, low: bool) -> np.ndarray:
    """(C_out, C_in, 3, 3) to 36 of (C_in, C_out), for F(4×4, 3×3)."""
    g = _transform()
    return _combine_taps(kernel, np.kron(g, g), low)


def _pack_upsampled(kernel: np.ndarray, low: bool) -> np.ndarray:
    """(C_out, C_in, 3, 3) to nine of (C_in, C_out), as native/upsampling.h says."""
    # Of three taps: their sum, the first, minus the last.
    of_three = np.array([[1, 1, 1], [1, 0, 0], [0, 0, -1]], np.float32)
    down_across = np.kron(of_three, of_three)
    return _combine_taps(kernel, down_across[[0, 1, 2, 3, 6, 4, 5, 7, 8]], low)


def _pack_last(kernel: np.ndarray, low: bool) -> np.ndarray:
    """(3, C, 9, 9) to six lines of (thirds, C, taps, colours)."""
    u = _transform_thirds(_pad(kernel, 1)).transpose(0, 1, 3, 4, 2)
    if low:  # in pairs of channels
        six, thirds, channels, taps, colours = u.shape
        u = u.reshape(six, thirds, channels // 2, 2, taps, colours).transpose(0, 1, 2, 4, 5, 3)
    return _store(u, low)


def _pad(array: np.ndarray, *axes: int) -> np.ndarray:
    """Zeros after the channels, which these axes are, up to a multiple of 16."""
    widths = [(0, 0)] * array.ndim
    for axis in axes:
        widths[axis] = (0, -array.shape[axis] % LANES)
    return np.pad(array, widths)


def _transform() -> np.ndarray:
    """G of F(4, 3): (6, 3)."""
    pp, qq = P * P, Q * Q
    rows = [[1 / (pp * qq), 0, 0]]
    for point, scale in ((P, 2 * pp * (pp - qq)), (Q, 2 * qq * (qq - pp))):
        rows += [[1 / scale, sign * point / scale, point * point / scale] for sign in (1, -1)]
    return np.array([*rows, [0, 0, 1]], np.float64)


def _transform_thirds(kernel: np.ndarray) -> np.ndarray:
    """A 9×9 kernel's rows by threes, transformed: (6, thirds, C_out, C_in, 9)."""
    thirds = kernel.reshape(*kernel.shape[:2], 3, 3, 9)
    return np.einsum("pr,oitrx->ptoix", _transform(), thirds)


def _combine_taps(kernel: np.ndarray, combinations: np.ndarray, low: bool) -> np.ndarray:
    """Linear combinations (N, 9) of a 3×3 kernel's taps: N of (C_in, C_out), packed.

    Packing comes first, for there are fewer taps than combinations.
    """
    kernel = _pad(kernel, 0, 1).transpose(2, 3, 1, 0)
    panels = _panels(kernel.reshape(9, *kernel.shape[2:]), low)
    combined = combinations.astype(np.float32) @ panels.reshape(9, -1)
    return _store(combined.reshape(-1, *panels.shape[1:]), low)


def _panels(matrices: np.ndarray, low: bool) -> np.ndarray:
    """(…, K, N) as (…, N/16, K, 16), or (…, N/16, K/2, 16, 2)."""
    *leading, depth, columns = matrices.shape
    pairing = (depth // 2, 2) if low else (depth, 1)
    panels = matrices.reshape(*leading, *pairing, columns // LANES, LANES)
    return np.moveaxis(np.moveaxis(panels, -2, -4), -2, -1)


def _store(array: np.ndarray, low: bool) -> np.ndarray:
    """In memory that begins with a cache line, as float32 or the bits of bfloat16."""
    array = np.ascontiguousarray(array, np.float32)
    if low:
        array = _to_bfloat16(array)
    copy = aligned_bytes(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers, rounded to nearest, ties to even."""
    bits = array.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)
