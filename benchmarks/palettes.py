"""How far the colours of one pass, and of the optimiser, are from the painting's.

    python -m benchmarks.palettes --paintings FOLDER

Palette errors (allaprima.palette) as shares of the variance of the painting's colours: of random
squares of 256 px of each painting, and of the pictures that its evaluation at 256² kept in
outputs/shipped. The means over all squares, and over all photos.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from allaprima.evaluate import Plan
from allaprima.evaluation_report import table
from allaprima.images import read_picture
from allaprima.palette import palette, palette_error, palette_power
from allaprima.styles import read_style
from allaprima.weights import list_generators, read_metadata
from benchmarks.own_crops import crops
from benchmarks.shipped import PAINTINGS, WORK

SIZE_PX = 256
COUNTS = Plan(evaluations=300).picture_counts
HEADER = ("painting", "own parts", "photo", "one pass", *(f"L-BFGS, {n}" for n in COUNTS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows = []
    for name, file in list_generators().items():
        style = read_metadata(file)["style"]
        image = options.paintings / PAINTINGS[name]
        painting = read_style(image, style["size_px"], style.get("blur_px"))
        rows.append([name, *errors(painting, WORK / name / "evaluation_256" / "photos")])
    print("\n".join(table(HEADER, rows)))


def errors(painting: Tensor, folder: Path) -> list[float]:
    """Of the painting's own squares, and of each column of the pictures in the folder."""
    strips = [read_picture(file).rgb for file in sorted(folder.glob("*.png"))]
    columns = zip(*(np.split(s, s.shape[1] // s.shape[0], axis=1) for s in strips), strict=True)
    pictures = [[torch.from_numpy(p).permute(2, 0, 1)[None] for p in each] for each in columns]
    squares = crops(painting, SIZE_PX, np.random.default_rng(0))
    return [mean_error(painting, images) for images in (squares, *pictures)]


def mean_error(painting: Tensor, images: Iterable[Tensor]) -> float:
    """Of images (1, 3, H, W), as a share of the variance of the painting's colours."""
    target = palette(painting[None])
    mean = fmean(palette_error(palette(image), target).item() for image in images)
    return round(mean / palette_power(target).item(), 4)


if __name__ == "__main__":
    main()
