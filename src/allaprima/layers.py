"""One layer of native/painter.c, on an image or on some rows of it."""

import ctypes
from typing import NamedTuple

import numpy as np

from allaprima.packing import EPSILON, Convolution


class Norm(NamedTuple):
    """Scale and shift, (C,) float32 each, that a convolution's norm comes to."""

    scale: np.ndarray
    shift: np.ndarray


class Engine(NamedTuple):
    """What all layers have in common.

    ``smooth``: smooth upsampling, not to the nearest; ``cut``: a linear output; ``low``: bfloat16.
    """

    library: ctypes.CDLL
    instance: bool
    smooth: bool
    cut: bool
    low: bool
    threads: int

    @property
    def item(self) -> int:
        """Bytes of a stored number."""
        return 2 if self.low else 4


class _Layer(ctypes.Structure):
    """As in native/painting.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "scale", "shift", "shortcut", "sum")),
        *((name, ctypes.c_void_p) for name in ("weights", "y", "gain", "offset")),
        *((name, ctypes.c_void_p) for name in ("next_scale", "next_shift", "moments")),
        *((name, ctypes.c_int) for name in ("height", "width", "cin", "cout", "begin", "end")),
        *((name, ctypes.c_int) for name in ("relu", "photo_height", "photo_width")),
        *((name, ctypes.c_int) for name in ("dilation", "smooth", "cut", "low")),
        *(("threads", ctypes.c_int), ("epsilon", ctypes.c_float)),
    )


def run_layer(
    engine: Engine,
    layer: Convolution,
    norm: Norm,
    x: int,
    y: int,
    size: tuple[int, int],
    photo_size: tuple[int, int],
    *,
    rows: tuple[int, int] | None = None,
    relu: bool = False,
    shortcut: int | None = None,
    sums: int | None = None,
    moments: np.ndarray | None = None,
) -> Norm:
    """Convolve, and say what the norm after it comes to.

    Args:
        norm: of x.
        x, y, shortcut, sums: addresses of images, or where they would begin if all rows of them
            were there; ``sums`` gets the normalised x with the shortcut.
        size: height and width of x.
        rows: first and last (exclusive) to write, multiples of 4 (times the layer's dilation) but
            for the bottom; None: all. Of x for layers that double the size. Rows of x as far as
            the kernel sees must be there.
        moments: of :func:`new_moments`; the rows' are added, and the norm is that of all so far.

    Raises:
        MemoryError: there is no room for the layer's working memory.
    """
    if rows is None:
        rows = 0, last_row(layer, size[0], photo_size[0])
    next_norm = Norm(layer.gain, layer.offset)
    if engine.instance:
        next_norm = Norm(*np.empty((2, layer.cout), np.float32))
    has_statistics = engine.instance and layer.function != "paint_last"
    done = getattr(engine.library, layer.function)(
        ctypes.byref(
            _Layer(
                *(x, norm.scale.ctypes.data, norm.shift.ctypes.data, shortcut, sums),
                *(layer.weights.ctypes.data, y),
                layer.gain.ctypes.data if has_statistics else None,
                layer.offset.ctypes.data,
                *(next_norm.scale.ctypes.data, next_norm.shift.ctypes.data),
                None if moments is None else moments.ctypes.data,
                *(*size, layer.cin, layer.cout, *rows, relu, *photo_size),
                *(layer.dilation, engine.smooth, engine.cut, engine.low, engine.threads, EPSILON),
            )
        )
    )
    if not done:
        raise MemoryError
    return next_norm


def last_row(layer: Convolution, height: int, photo_height: int) -> int:
    """What ``rows`` end with at the bottom, for x of that height."""
    return {"paint_strided": height // 2, "paint_last": photo_height}.get(layer.function, height)


def new_moments(layer: Convolution) -> np.ndarray:
    """Of no pixels yet: count, means and sums of squared deviations of the channels."""
    return np.zeros(1 + 2 * layer.cout)
