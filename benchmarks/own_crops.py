"""What a style error at a size can tell: of a painting's own parts, and of one pass.

    python -m benchmarks.own_crops --paintings FOLDER --photos COCO

Random squares of each painting, as large as the pictures that were evaluated, are judged by
loss=yardstick; so is one pass on validation photos. Of the error of either, the part is told that
the mean of their Gram matrices has not: what differs from one to the next, though each should have
the whole painting's. The last column is how many evaluations one pass would be worth that had no
other style error, and the content error of the optimiser after a hundred, by the evaluations in
outputs/shipped, which are by the same loss.
"""

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from allaprima.evaluate import equivalent_evaluations, quantile
from allaprima.evaluation_report import table
from allaprima.losses import PerceptualLoss
from allaprima.photos import list_coco, read_square
from allaprima.weights import list_generators, load_generator
from benchmarks.recipes import compose_recipe
from benchmarks.shipped import GATYS, MORE, PAINTINGS, WORK, part_of

SIZES_PX = (256, 512)  # of the evaluations
NUM_IMAGES = 16  # of the painting's squares, and of photos
DIFFERS = "that differs"
HEADER = ("painting", "size", "own parts", DIFFERS, "one pass", DIFFERS, "worth by it alone")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows = []
    for name, file in list_generators().items():
        generator, _ = load_generator(file)
        image = f"style.image={options.paintings / PAINTINGS[name]}"
        scale = (option for option in MORE[name] if option.startswith("style."))
        cfg = compose_recipe(GATYS, image, *scale)
        loss: PerceptualLoss = instantiate(cfg.loss, _convert_="all").eval()
        assert loss.style is not None
        for size_px in SIZES_PX:
            squares = crops(loss.style, size_px, np.random.default_rng(0))
            paintings = paint(generator, options.photos, size_px)
            error, scatter = errors(loss, paintings)
            worth = worth_by_scatter(WORK / name / f"evaluation_{size_px}", scatter)
            rows.append([name, f"{size_px}²", *errors(loss, squares), error, scatter, worth])
    print("\n".join(table(HEADER, rows)))


@torch.no_grad()
def errors(loss: PerceptualLoss, images: Iterable[Tensor]) -> tuple[float, float]:
    """The mean weighted style error, and what of it is the images' scatter around their mean."""
    each = [style_grams(loss, image) for image in images]
    error = scatter = 0.0
    for layer, weight in loss.style_layers.items():
        target, grams = loss.target_grams[layer], torch.cat([grams[layer] for grams in each])
        unbiased = len(grams) / (len(grams) - 1)
        around_target = target + (grams - grams.mean(0))
        error += weight * loss.style_error(grams, target).mean().item()
        scatter += weight * unbiased * loss.style_error(around_target, target).mean().item()
    return round(error, 4), round(scatter, 4)


def style_grams(loss: PerceptualLoss, image: Tensor) -> dict[str, Tensor]:
    """The Gram matrix of every style layer, of (1, 3, H, W)."""
    activations = loss.activations(image, loss.style_layers)
    return {layer: loss.gram(activation) for layer, activation in activations.items()}


def worth_by_scatter(evaluation: Path, scatter: float) -> str:
    """The median over its photos; a dash where the optimiser was not let go so far."""
    worth = []
    for file in evaluation.glob("photos/*.json"):
        run = json.loads(file.read_bytes())["optimizer"]["noise"]
        if "100" not in run["at"]:
            return "–"
        goal = part_of(run["at"]["100"], "content") + scatter
        worth.append(equivalent_evaluations(run["losses"], goal))
    median = quantile(worth, 0.5) if worth else math.inf
    return "–" if math.isinf(median) else f"{median:g}"


@torch.no_grad()
def paint(generator: nn.Module, photos: Path, size_px: int) -> Iterator[Tensor]:
    """One pass on the central squares of validation photos."""
    for path in list_coco(photos, "val2017")[:NUM_IMAGES]:
        square = torch.from_numpy(read_square(path, size_px))
        yield generator(square.permute(2, 0, 1)[None] / 255)


def crops(image: Tensor, size_px: int, rng: np.random.Generator) -> list[Tensor]:
    """Random squares (1, 3, size, size) of an image; a side that is shorter is taken whole."""
    height, width = image.shape[1:]
    squares = []
    for _ in range(NUM_IMAGES):
        top = rng.integers(0, max(1, height - size_px + 1))
        left = rng.integers(0, max(1, width - size_px + 1))
        squares.append(image[None, :, top : top + size_px, left : left + size_px].contiguous())
    return squares


if __name__ == "__main__":
    main()
