"""Steady strokes without retraining: the network's grid travels with the scene.

A network that halves the picture twice paints the same thing differently at each of 4 × 4 places
of its grid of pixels: when the camera pans, strokes boil. So every frame is moved, by whole and
fractional pixels, to where the scene was on the grid in the first one, painted there, and moved
back: strokes keep to what they paint, and nothing of other frames is in the picture that could
smear. While the camera stands still, its noise makes strokes flicker: there the painting before is
mixed in, wherever neither photo nor painting has changed by more than noise.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from allaprima.errors import InputError
from allaprima.motion import box_mean, estimate_motion

GRID_PX = 4  # Johnson's networks halve twice
MIXED = 0.5  # the share of the painting before, where nothing has changed
PHOTO_WINDOW_PX, PAINTING_WINDOW_PX = 7, 3
MOST_NOISE = 6 / 255  # of a camera; photos that differ by more have changed
AGREEING = 10 / 255  # paintings that differ by less are mixed in full, by twice as much not at all
STILL_PX = 1 / 8  # a shorter way may be noise, and is not gone yet


class Steadied:
    """A painter of the frames of one clip, in order.

    The motion of the camera is the median of :func:`allaprima.motion.estimate_motion` between
    frames, summed up. A cut, or motion that is not found, costs steadiness and nothing else.

    Args:
        painter: (H, W, 3) float32 in [0,1] to the same, at any size: a bare pass of a network,
            for every size it is called with is another one by a few pixels.
        grid_px: by how much the network scales down.
    """

    def __init__(self, painter: Callable[[np.ndarray], np.ndarray], grid_px: int = GRID_PX):
        self.painter, self.grid_px = painter, grid_px
        self.position = np.zeros(2)  # where the scene of the first frame is by now: x, y
        self._measured = self.position
        self._before: tuple[np.ndarray, np.ndarray] | None = None  # photo and painting

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Paint the next frame.

        Raises:
            InputError: the painter changes the size, or as the painter.
        """
        before = self._before
        if before is not None and (before[0].shape != rgb.shape or self._follow(before[0], rgb)):
            before = None
        painted = self._paint_in_place(rgb)
        if before is not None:
            painted = _mix(rgb, painted, *before)
        self._before = rgb, painted
        return painted

    def _follow(self, before: np.ndarray, now: np.ndarray) -> bool:
        """If the camera has moved since ``position`` was last taken."""
        self._measured = self._measured - np.median(estimate_motion(before, now), (0, 1))
        moved = np.abs(self._measured - self.position).max() >= STILL_PX
        if moved:
            self.position = self._measured
        return bool(moved)

    def _paint_in_place(self, rgb: np.ndarray) -> np.ndarray:
        """Move to the grid's place in the first frame, paint, move back."""
        height, width = rgb.shape[:2]
        grid = self.grid_px
        whole = np.rint(self.position).astype(int)
        rest = self.position - whole
        left, top = grid + (-whole) % grid
        margins = (
            _within((top, grid + (-height - top) % grid), height),
            _within((left, grid + (-width - left) % grid), width),
        )
        moved = np.pad(_move(rgb, rest), (*margins, (0, 0)), mode="reflect")
        (top, _), (left, _) = margins
        painted = self.painter(moved)
        if painted.shape != moved.shape:
            raise InputError("strokes can be held steady only by a painter that keeps the size")
        return _move(painted[top : top + height, left : left + width], -rest)


def _within(margins: tuple[int, int], side_px: int) -> tuple[int, int]:
    """Margins that a tiny frame can be mirrored into."""
    return min(margins[0], side_px - 1), min(margins[1], side_px - 1)


def _move(rgb: np.ndarray, way: np.ndarray) -> np.ndarray:
    """What was at ``p + way`` comes to ``p``, by Lanczos interpolation."""
    if np.abs(way).max() < STILL_PX / 2:
        return rgb
    height, width = rgb.shape[:2]
    x, y = way + 1
    box = x, y, x + width, y + height
    channels = np.pad(rgb, ((1, 1), (1, 1), (0, 0)), mode="edge")
    moved = [
        Image.fromarray(np.ascontiguousarray(channels[..., c])).resize(
            (width, height), Image.Resampling.LANCZOS, box
        )
        for c in range(3)
    ]
    return np.dstack([np.asarray(channel) for channel in moved]).clip(0, 1)


def _mix(
    photo: np.ndarray, painted: np.ndarray, photo_before: np.ndarray, painted_before: np.ndarray
) -> np.ndarray:
    """The painting, and the one before where neither photo nor painting has changed."""
    change = _difference(photo, photo_before, PHOTO_WINDOW_PX)
    noise = min(float(np.median(change)), MOST_NOISE) + 1 / 255
    disagreement = _difference(painted, painted_before, PAINTING_WINDOW_PX)
    share = MIXED * ((5 - change / noise) / 3).clip(0, 1) * (2 - disagreement / AGREEING).clip(0, 1)
    return painted + share[..., None].astype(np.float32) * (painted_before - painted)


def _difference(a: np.ndarray, b: np.ndarray, window_px: int) -> np.ndarray:
    return box_mean(np.abs(a - b).mean(-1), window_px)
