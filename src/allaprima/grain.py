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
    to_levels = np.float32(1 if rgb.dtype == np.uint8 else 255)
    height, width = rgb.shape[:2]
    columns = np.arange(width) % PERIOD_PX
    out = rgb
    for top in range(0, height if levels else 0, CELL_PX):
        rows = slice(top, top + CELL_PX)
        cells = _flatness(rgb[rows], to_levels)
        if not cells.any():
            continue
        if out is rgb:
            out = rgb.copy()
        flat = np.repeat(cells, CELL_PX)[:width, None]
        given = to_levels * rgb[rows]
        grain = levels * _grain()[np.arange(height)[rows, None] % PERIOD_PX, columns, None]
        change = np.rint(flat * (given.clip(2 * levels, 255 - 2 * levels) - given + grain))
        out[rows] = (given + change) / to_levels
    return out


def _flatness(row: np.ndarray, to_levels: np.float32) -> np.ndarray:
    """How flat each cell of a row of them is, 0 to 1, by the range of its values."""
    columns = range(0, row.shape[1], CELL_PX)
    extremes = (of.reduceat(of.reduce(row), columns) for of in (np.maximum, np.minimum))
    most, least = (to_levels * extreme for extreme in extremes)
    span = (most - least).max(1)
    return ((LIVELY - span) / (LIVELY - FLAT)).clip(0, 1)


@cache
def _grain() -> np.ndarray:
    """Float32 (512, 512), of which copies side by side have no seam; mean 0, deviation about 1."""
    noise = np.random.default_rng(0).normal(size=(PERIOD_PX, PERIOD_PX))
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(PERIOD_PX)] * 2))
    amplitude = 1 / np.maximum(frequency, 1 / COARSEST_PX)
    amplitude[0, 0] = 0
    grain = np.fft.ifft2(amplitude * np.fft.fft2(noise)).real
    return (grain / grain.std()).clip(-2, 2).astype(np.float32)
