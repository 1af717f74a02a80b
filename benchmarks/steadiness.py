"""Strokes that boil when the camera moves, measured by the warping error of pans that are known.

A window moves over a real photo, with the noise of a camera; each painting is compared with the
one before, bent by the true motion. The error is the RMS of what differs: 0 is paint that keeps
to the scene. Beside it stands the detail that is kept, for blur would lower the error as well.
"""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from allaprima.images import read_picture, to_uint8
from allaprima.motion import sample_at
from allaprima.resources import resource_dir
from allaprima.steady import Steadied
from allaprima.stylize import Stylizer
from benchmarks.figures import Goal, Row, Section

CELL_PX = 8  # of the mesh by which a frame is bent
BORDER_PX = 8  # not compared: what enters the picture has no painting before
NOISE = 2 / 255
Painter = Callable[[np.ndarray], np.ndarray]


class Camera(NamedTuple):
    """Motion of the scene in the picture, pixels a frame, and its growth."""

    x: float
    y: float
    zoom: float = 1.0


CAMERAS = {
    "still": Camera(0, 0),
    "whole pixels": Camera(3, 1),
    "fractions": Camera(1.37, -0.61),
    "slow": Camera(-0.3, 0.2),
    "fast": Camera(4.6, 2.3),
    "zoom": Camera(0, 0, 1.006),
}
PANS = ("whole pixels", "fractions", "slow", "fast")


def steadiness_figures(quick: bool = False, painter: Painter | None = None) -> dict[str, Any]:
    """Warping error frame by frame and steadied, for every camera; seconds a frame.

    Args:
        quick: one photo and few frames.
        painter: what paints; without one, The Starry Night.
    """
    painter = painter or Stylizer("starry_night").one_pass
    size, num_frames, num_photos = (320, 240), 6 if quick else 12, 1 if quick else 3
    photos = sorted((resource_dir("assets") / "photos" / "val").glob("*.jpg"))[:num_photos]
    measured: dict[str, dict[str, float]] = {}
    seconds: dict[str, list[float]] = {"frame by frame": [], "steady": []}
    ways = {"frame by frame": lambda: painter, "steady": lambda: Steadied(painter)}
    for camera_name, camera in CAMERAS.items():
        clips = [film(photo, camera, size, num_frames) for photo in photos]
        paintings = {
            way: [_painted(make(), clip, seconds[way]) for clip in clips]
            for way, make in ways.items()
        }
        plain, steady = (_error(clips, camera) for clips in paintings.values())
        details = [np.mean([detail(clip[-1]) for clip in clips]) for clips in paintings.values()]
        measured[camera_name] = {
            "frame by frame": 255 * plain,
            "steady": 255 * steady,
            "change": steady / plain - 1,
            "detail kept": float(details[1] / details[0]),
        }
    rows = [Row(name, times, 1, "frames") for name, times in seconds.items()]
    return _section(size, rows, measured).as_dict()


def _section(size: tuple[int, int], rows: list[Row], measured: dict[str, Any]) -> Section:
    notes = [
        f"{name}: warping error {figures['frame by frame']:.1f} → {figures['steady']:.1f} of 255 "
        f"({100 * figures['change']:+.0f} %), detail kept {100 * figures['detail kept']:.0f} %"
        for name, figures in measured.items()
    ]
    goals = [
        Goal(f"warping error, {name}", 100 * measured[name]["change"], most=-25, unit=" %")
        for name in PANS
    ]
    least_detail = min(figures["detail kept"] for figures in measured.values())
    goals.append(Goal("detail kept, worst camera", 100 * least_detail, least=95, unit=" %"))
    title = f"Steady strokes at {size[0]} × {size[1]}"
    return Section("steadiness", title, rows, None, goals, notes, {"cameras": measured})


def film(photo: Path, camera: Camera, size: tuple[int, int], num_frames: int) -> list[np.ndarray]:
    """A photo seen by a moving camera: (H, W, 3) float32 in [0,1]."""
    width, height = size
    rgb = to_uint8(read_picture(photo).rgb)
    image = Image.fromarray(rgb)
    scale = 1.25 * max(width / image.width, height / image.height)
    scene = image.resize((round(image.width * scale), round(image.height * scale)))
    rng = np.random.default_rng(0)
    frames = []
    for number in range(num_frames):
        way, zoom = number - (num_frames - 1) // 2, camera.zoom**number
        left = scene.width // 2 - camera.x * way - width / zoom / 2
        top = scene.height // 2 - camera.y * way - height / zoom / 2
        box = left, top, left + width / zoom, top + height / zoom
        window = scene.resize(size, Image.Resampling.BICUBIC, box)
        noisy = np.asarray(window) / 255 + rng.normal(0, NOISE, (height, width, 3))
        frames.append(np.divide(to_uint8(noisy), 255, dtype=np.float32))
    return frames


def true_flow(camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """Where each pixel was in the frame before, relative to where it is: (H, W, 2)."""
    width, height = size
    x, y = np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2
    grown = 1 / camera.zoom - 1
    return np.dstack(np.meshgrid(x * grown - camera.x, y * grown - camera.y)).astype(np.float32)


def warping_error(paintings: Sequence[np.ndarray], flow: np.ndarray) -> float:
    """RMS between each painting and the one before, bent by the flow."""
    squares = []
    for before, now in pairwise(paintings):
        bent, inside = bend(to_uint8(before), flow)
        inside[:BORDER_PX] = inside[-BORDER_PX:] = False
        inside[:, :BORDER_PX] = inside[:, -BORDER_PX:] = False
        squares.append(np.mean((bent[inside] / 255 - now[inside]) ** 2))
    return float(np.sqrt(np.mean(squares)))


def detail(painted: np.ndarray) -> float:
    """Mean slope; blur lowers it."""
    return float(np.abs(np.diff(painted, axis=0)).mean() + np.abs(np.diff(painted, axis=1)).mean())


def bend(rgb: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frame before as it would look now, by bicubic interpolation.

    Args:
        rgb: (H, W, 3) uint8.
        flow: (H', W', 2), x and y: what is at ``p`` now was at ``p + flow``; any resolution.

    Returns:
        (H, W, 3) uint8, and (H, W) bool: where it came from inside the frame.
    """
    height, width = rgb.shape[:2]
    xs = np.unique(np.append(np.arange(0, width, CELL_PX), width))
    ys = np.unique(np.append(np.arange(0, height, CELL_PX), height))
    corners = sample_at(flow, xs / width, ys / height)
    corners += np.dstack(np.meshgrid(xs, ys)).astype(np.float32)
    mesh = []
    for j in range(len(ys) - 1):
        for i in range(len(xs) - 1):
            quad = corners[[j, j + 1, j + 1, j], [i, i, i + 1, i + 1]].ravel().tolist()
            mesh.append(((int(xs[i]), int(ys[j]), int(xs[i + 1]), int(ys[j + 1])), tuple(quad)))
    image = Image.fromarray(rgb)
    image.putalpha(255)
    bent = np.asarray(
        image.transform((width, height), Image.Transform.MESH, mesh, Image.Resampling.BICUBIC)
    )
    return bent[..., :3], bent[..., 3] == 255


def _painted(painter: Painter, frames: list[np.ndarray], seconds: list[float]) -> list[np.ndarray]:
    paintings = []
    for frame in frames:
        start = time.perf_counter()
        paintings.append(painter(frame))
        seconds.append(time.perf_counter() - start)
    return paintings


def _error(clips: list[list[np.ndarray]], camera: Camera) -> float:
    height, width = clips[0][0].shape[:2]
    flow = true_flow(camera, (width, height))
    return float(np.sqrt(np.mean([warping_error(clip[1:], flow) ** 2 for clip in clips])))
