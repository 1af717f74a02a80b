"""A grain, as of paper, for the flat parts of a photo: strokes have something to hang on."""

from functools import cache

import numpy as np

LEVELS = 4.0  # of 255: twice and three times as much paint next to the same
MAX_LEVELS = 32
CELL_PX = 16
FLAT, LIVELY = 1.0, 4.0  # the range within a cell, of 255: all the grain, and none
PERIOD_PX = 512
COARSEST_PX = 64


def add_grain(rgb: np.ndarray, levels: float) -> np.ndarray:
    """The photo with grain where it is flat; the photo itself, where it is nowhere so.

    A network that looks at a photo through convolutions alone paints what is exactly of one colour
    in one colour, however lively the style. Ulyanov 2016a gives the network noise beside the
    photo; this gives the photo noise, where it has nothing else, and needs no other network. It is
    the same for all channels, of amplitudes that fall as 1/frequency, and the same at the same
    place of every photo.

    Args:
        rgb: (H, W, 3) uint8, or float32 in [0,1]; it is not changed.
        levels: deviation of the grain, of 255, at most 32; 0 is none.

    Returns:
        The same type, shape and range: near black and white, flat parts move inwards to make room.
    """
    cells = _flat_cells(rgb) if levels else np.zeros((0, 0))
    if not cells.any():
        return rgb
    to_levels = np.float32(1 if rgb.dtype == np.uint8 else 255)
    height, width = rgb.shape[:2]
    columns = np.arange(width) % PERIOD_PX
    out = rgb.copy()
    for i in np.flatnonzero(cells.any(1)):
        rows = slice(i * CELL_PX, (i + 1) * CELL_PX)
        flat = np.repeat(cells[i], CELL_PX)[:width, None]
        given = to_levels * rgb[rows]
        grain = levels * _grain()[np.arange(height)[rows, None] % PERIOD_PX, columns, None]
        change = np.rint(flat * (given.clip(2 * levels, 255 - 2 * levels) - given + grain))
        out[rows] = (given + change) / to_levels
    return out


def _flat_cells(rgb: np.ndarray) -> np.ndarray:
    """How flat each cell of 16 px is, 0 to 1, by the range of its values: float (rows, columns)."""
    height, width, channels = rgb.shape
    rows, columns = range(0, height, CELL_PX), range(0, width, CELL_PX)

    def over_cells(of: np.ufunc) -> np.ndarray:
        bands = of.reduceat(rgb.reshape(height, -1), rows, axis=0)
        return of.reduceat(bands.reshape(-1, width, channels), columns, axis=1).astype(np.float64)

    span = (over_cells(np.maximum) - over_cells(np.minimum)).max(2)
    levels = span if rgb.dtype == np.uint8 else 255 * span
    return ((LIVELY - levels) / (LIVELY - FLAT)).clip(0, 1).astype(np.float32)


@cache
def _grain() -> np.ndarray:
    """Float32 (512, 512), of which copies side by side have no seam; mean 0, deviation about 1."""
    noise = np.random.default_rng(0).normal(size=(PERIOD_PX, PERIOD_PX))
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(PERIOD_PX)] * 2))
    amplitude = 1 / np.maximum(frequency, 1 / COARSEST_PX)
    amplitude[0, 0] = 0
    grain = np.fft.ifft2(amplitude * np.fft.fft2(noise)).real
    return (grain / grain.std()).clip(-2, 2).astype(np.float32)
