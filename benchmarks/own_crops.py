"""How near a painting's own parts come to it: what a style error at a size can tell.

    python -m benchmarks.own_crops --paintings FOLDER

Random squares of each painting, as large as the pictures that were evaluated, are judged by the
loss that its shipped generator was trained with, beside the single pass as its card tells it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from allaprima.entrypoints.evaluation_job import make_loss
from allaprima.evaluate import numbers
from allaprima.evaluation_report import table
from allaprima.losses import PerceptualLoss
from allaprima.recipes import read_recipe
from allaprima.weights import list_generators, read_metadata
from benchmarks.shipped import EVALUATIONS, PAINTINGS, part_of

NUM_CROPS = 8
HEADER = ("painting", "size", "own parts", "one pass")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows = []
    for name, file in list_generators().items():
        metadata = read_metadata(file)
        painting = {"style": {"image": str(options.paintings / PAINTINGS[name])}}
        cfg = OmegaConf.create({"loss_network": None, "loss": None, **painting})
        loss, _ = make_loss(cfg, read_recipe(metadata), metadata, torch.device("cpu"))
        for size_px in EVALUATIONS:
            painted = metadata["metrics"][f"style error at {size_px}²"]
            rows.append([name, f"{size_px}²", style_of_crops(loss, size_px), painted])
    print("\n".join(table(HEADER, rows)))


@torch.no_grad()
def style_of_crops(loss: PerceptualLoss, size_px: int) -> float:
    """The mean weighted style error of the painting's squares."""
    assert loss.style is not None
    squares = crops(loss.style, size_px, np.random.default_rng(0))
    terms = [numbers(loss(square, loss.content_targets(square))) for square in squares]
    return fmean(part_of(each, "style") for each in terms)


def crops(image: Tensor, size_px: int, rng: np.random.Generator) -> list[Tensor]:
    """Random squares (1, 3, size, size) of an image; a side that is shorter is taken whole."""
    height, width = image.shape[1:]
    squares = []
    for _ in range(NUM_CROPS):
        top = rng.integers(0, max(1, height - size_px + 1))
        left = rng.integers(0, max(1, width - size_px + 1))
        squares.append(image[None, :, top : top + size_px, left : left + size_px].contiguous())
    return squares


if __name__ == "__main__":
    main()
