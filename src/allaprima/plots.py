"""Pictures of an evaluation: loss against evaluations, and a sheet of what was painted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from allaprima.images import resize, to_uint8, write_picture
from allaprima.partial import partial_of

COLOURS = {"noise": "#1f5fa8", "content": "#c8552b"}
LABEL_OFFSETS = {"noise": (-6, -18), "content": (6, 8)}  # points from where a curve meets 1
GAP_PX = 8
HEADER_PX = 30
CAPTION_PX = 24
MAX_CELL_PX = 512


def draw_curves(
    path: Path,
    curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    labels: Mapping[str, Mapping[str, str]],
    medians: Mapping[str, Mapping[str, float | None]],
    title: str,
) -> None:
    """Median and quartiles over photos of the optimiser's loss, relative to each photo's one pass.

    The median curve then meets 1 where half of the photos have: at about the median of their
    counts.

    Args:
        curves: by size and start, a curve of each photo; shorter ones go on as they end.
        labels: by size and start, and of ``pass``, for the legend.
        medians: by size and start, where the median meets 1; None if it does not.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2 * len(curves), 5.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (size, by_start) in zip(panels, curves.items(), strict=True):
        for start, photos in by_start.items():
            _draw_start(axes, start, photos, labels[size][start], medians[size][start])
        axes.axhline(1, color="black", linewidth=1.2, label=labels[size]["pass"])
        _finish(axes, f"{size}²")
    figure.suptitle(title)
    partial = partial_of(path)
    figure.savefig(partial, format="png")
    partial.replace(path)


def _draw_start(
    axes: Any, start: str, photos: Sequence[Sequence[float]], label: str, median: float | None
) -> None:
    colour = COLOURS[start]
    longest = max(map(len, photos))
    values = np.array([[*photo, *[photo[-1]] * (longest - len(photo))] for photo in photos])
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    evaluations = np.arange(1, longest + 1)
    axes.fill_between(evaluations, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(evaluations, middle, color=colour, linewidth=1.8, label=label)
    if median is not None:
        axes.plot(median, 1, "o", color=colour, markersize=8, markeredgecolor="white", zorder=3)
        axes.annotate(
            f"{median:g}",
            (median, 1),
            xytext=LABEL_OFFSETS[start],
            textcoords="offset points",
            ha="right" if LABEL_OFFSETS[start][0] < 0 else "left",
            color=colour,
            weight="bold",
        )


def _finish(axes: Any, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(xscale="log", yscale="log", title=title)
    axes.set_xlabel("evaluations of loss and gradient by L-BFGS")
    axes.set_ylabel("loss so far, relative to one pass (median, quartiles)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def write_contact_sheet(
    path: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[np.ndarray | None]],
    captions: Sequence[Sequence[str]],
    quality: int = 92,
) -> None:
    """A table of pictures: titles above the columns, a caption under each picture.

    Args:
        rows: pictures of one size (H, W, 3), uint8; None leaves a blank.
    """
    shape = next(picture.shape for row in rows for picture in row if picture is not None)
    scale = min(1.0, MAX_CELL_PX / max(shape))
    height, width = (round(side * scale) for side in shape[:2])
    wide = max(width, 128)  # captions need some room
    across, down = wide + GAP_PX, height + CAPTION_PX + GAP_PX
    sheet = Image.new(
        "RGB", (across * len(header) + GAP_PX, HEADER_PX + down * len(rows) + GAP_PX), "white"
    )
    draw = ImageDraw.Draw(sheet)
    title_font, font = (ImageFont.load_default(size) for size in (16, 13))
    for column, title in enumerate(header):
        draw.text((GAP_PX + column * across, 8), title, "black", title_font)
    for number, (row, under) in enumerate(zip(rows, captions, strict=True)):
        top = HEADER_PX + number * down
        for column, (picture, caption) in enumerate(zip(row, under, strict=True)):
            left = GAP_PX + column * across
            if picture is not None:
                sheet.paste(Image.fromarray(resize(picture, height, width)), (left, top))
            draw.text((left, top + height + 4), caption, "#444444", font)
    write_picture(path, np.asarray(sheet), overwrite=True, quality=quality)


def to_pixels(picture: Tensor) -> np.ndarray:
    """(3, H, W) in [0,1] to uint8 (H, W, 3)."""
    return to_uint8(picture.float().permute(1, 2, 0).numpy())
