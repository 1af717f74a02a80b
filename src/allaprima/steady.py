"""Steady strokes without retraining: the network's grid travels with the scene.

A network that halves the picture twice paints the same thing differently at each of 4 × 4 places
of its grid of pixels: when the camera pans, strokes boil. So every frame is moved, by whole and
fractional pixels, to where the scene was on the grid in the first one, painted there, and moved
back: strokes keep to what they paint. The noise of the camera makes them flicker still: so the
painting before is mixed in, where neither the scene nor its painting has changed by more than
noise. It is mixed in at the scene's place, before moving back: nothing is moved twice, and nothing
that differs is in the picture, that could smear.
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
        self._frame = np.zeros((0, 0, 3), np.float32)  # the one before
        self._before: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # see _mix_before

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Paint the next frame.

        Raises:
            InputError: the painter changes the size, or as the painter.
        """
        if self._frame.shape == rgb.shape:
            self._measured = self._measured - np.median(estimate_motion(self._frame, rgb), (0, 1))
            if np.abs(self._measured - self.position).max() >= STILL_PX:
                self.position = self._measured
        else:
            self._before = None
        self._frame = rgb
        return self._paint_in_place(rgb)

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
        scene = _move(rgb, rest)
        moved = np.pad(scene, (*margins, (0, 0)), mode="reflect")
        (top, _), (left, _) = margins
        painted = self.painter(moved)
        if painted.shape != moved.shape:
            raise InputError("strokes can be held steady only by a painter that keeps the size")
        painted = painted[top : top + height, left : left + width]
        return _move(self._mix_before(scene, painted, whole), -rest)

    def _mix_before(self, scene: np.ndarray, painted: np.ndarray, place: np.ndarray) -> np.ndarray:
        """The painting, mixed with the one before where both show the same.

        Args:
            place: of the first frame's corner in ``scene``, whole pixels.
        """
        if self._before is not None:
            scene_before, painted_before, place_before = self._before
            x, y = place - place_before
            now, then = _overlap(y, x), _overlap(-y, -x)
            if scene[now].size:
                painted = painted.copy()
                painted[now] = _mix(
                    scene[now], painted[now], scene_before[then], painted_before[then]
                )
        self._before = scene, painted, place
        return painted


def _overlap(y: int, x: int) -> tuple[slice, slice]:
    """What a frame shows of one that is the same, moved by so many pixels to it."""
    return tuple(slice(max(way, 0), min(way, 0) or None) for way in (y, x))  # pyright: ignore


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
