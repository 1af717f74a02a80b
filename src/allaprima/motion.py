"""Where each pixel of a frame was in the frame before: dense optical flow in numpy."""

from typing import Any

import numpy as np

from allaprima.images import resize

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
WORKING_SIDE_PX = 320  # the long side that motion is estimated at; strokes follow larger things
COARSEST_PX = 12
MIN_SIDE_PX = 4  # below which nothing is seen to move
WINDOW_PX = 9
ITERATIONS = 3
FLATNESS = 1e-4  # of squared slopes: windows that are flatter than camera noise keep still


def estimate_motion(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Backward flow by pyramids of Lucas and Kanade (1981).

    Args:
        before, now: (H, W, 3) float32 in [0,1].

    Returns:
        (H', W', 2) float32, x and y, in pixels of the whole frame: what is at ``p`` now was at
        ``p + flow``. H' × W' is the frame's size, scaled to at most 320 px.
    """
    height, width = now.shape[:2]
    scale = min(1.0, WORKING_SIDE_PX / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if min(size) < MIN_SIDE_PX:
        return np.zeros((*size, 2), np.float32)
    pyramids = zip(_pyramid(_grey(before, size)), _pyramid(_grey(now, size)), strict=True)
    flow = np.zeros((1, 1, 2), np.float32)
    for level_before, level_now in reversed(list(pyramids)):
        flow = _scale_flow(flow, level_now.shape)
        for _ in range(ITERATIONS):
            flow = _refine(flow, level_before, level_now)
    return flow * np.array([width / size[1], height / size[0]], np.float32)


def _grey(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    small = rgb if rgb.shape[:2] == size else resize(np.ascontiguousarray(rgb), *size)
    return small @ LUMINANCE


def _pyramid(grey: np.ndarray) -> list[np.ndarray]:
    levels = [grey]
    while min(levels[-1].shape) >= 2 * COARSEST_PX:
        finer = levels[-1]
        even = finer[: finer.shape[0] // 2 * 2, : finer.shape[1] // 2 * 2]
        levels.append((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)
    return levels


def _refine(flow: np.ndarray, before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """One step of Gauss and Newton in every window, then smoothing."""
    warped = _sample(before, flow)
    dy, dx = np.gradient((warped + now) / 2)
    difference = now - warped
    products: list[Any] = [dx * dx, dx * dy, dy * dy, dx * difference, dy * difference]
    xx, xy, yy, xt, yt = (box_mean(product, WINDOW_PX) for product in products)
    xx, yy = xx + FLATNESS, yy + FLATNESS
    determinant = xx * yy - xy * xy
    step = np.dstack([yy * xt - xy * yt, xx * yt - xy * xt]) / determinant[..., None]
    flow = flow + step.clip(-1, 1)
    return np.dstack([box_mean(flow[..., axis], 5) for axis in (0, 1)])


def _sample(grey: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Bilinear, the border's value beyond it."""
    height, width = grey.shape
    x = (np.arange(width, dtype=np.float32) + flow[..., 0]).clip(0, width - 1.001)
    y = (np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]).clip(0, height - 1.001)
    left, top = x.astype(np.intp), y.astype(np.intp)
    x, y = x - left, y - top
    first = top * width + left
    flat = grey.ravel()
    above = flat[first] * (1 - x) + flat[first + 1] * x
    below = flat[first + width] * (1 - x) + flat[first + width + 1] * x
    return above * (1 - y) + below * y


def box_mean(values: np.ndarray, size: int) -> np.ndarray:
    """The mean of ``size`` × ``size`` pixels around each; the border is repeated."""
    half = size // 2
    for axis in (0, 1):
        pads = [(half + 1, half) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.cumsum(np.pad(values, pads, mode="edge"), axis=axis, dtype=np.float64)
        sums = np.moveaxis(sums, axis, 0)
        values = np.moveaxis((sums[size:] - sums[:-size]) / size, 0, axis).astype(np.float32)
    return values


def _scale_flow(flow: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """To a finer level, its pixels being smaller."""
    height, width = shape
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    return sample_at(flow, x, y) * scale


def sample_at(flow: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The flow at places from 0 to 1 of its width and height, bilinear."""
    for axis, places in ((1, x), (0, y)):
        size = flow.shape[axis]
        place = (places * size - 0.5).clip(0, size - 1)
        first = np.minimum(place.astype(np.intp), max(size - 2, 0))
        second = np.minimum(first + 1, size - 1)
        share = (
            (place - first).astype(np.float32).reshape([-1 if a == axis else 1 for a in (0, 1, 2)])
        )
        flow = flow.take(first, axis) * (1 - share) + flow.take(second, axis) * share
    return flow
