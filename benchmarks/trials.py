"""Trainings side by side, as docs/recipe.md has them: figures under one loss, and pictures.

    python -m benchmarks.trials outputs/trials/* --painting FILE --photos COCO

The loss is loss=yardstick, of the painting at --style-px, and beside it what else the default one
counts, each with a weight of 1; the photos are COCO's for validation, their central squares at
--size-px.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from hydra.utils import instantiate

from allaprima.evaluate import numbers
from allaprima.evaluation_report import table
from allaprima.grain import add_grain
from allaprima.images import write_picture
from allaprima.losses import PerceptualLoss
from allaprima.photos import list_coco, read_square
from allaprima.stylize import Stylizer
from allaprima.weights import load_generator
from benchmarks.gallery import contact_sheet
from benchmarks.recipes import compose_recipe
from benchmarks.shipped import part_of, thumbnail_photos

NUM_AT_ONCE = 4
SHEETS = Path("docs/recipe")
BESIDE = "palette", "tone", "pattern"
HEADER = ("trial", "photos seen", "loss", "content", "style", *BESIDE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row for each folder, and write its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="of runs of train.py")
    parser.add_argument("--painting", required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--style-px", type=int, default=512)
    parser.add_argument("--style-blur-px", default="null")
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--num-photos", type=int, default=16)
    parser.add_argument("--grain", type=float, default=0.0, help="as stylize.py has it")
    options = parser.parse_args(arguments)
    style = {"image": options.painting, "size_px": options.style_px}
    style["blur_px"] = options.style_blur_px
    of_style = (f"style.{name}={value}" for name, value in style.items())
    more = (f"+loss.{term}_weight=1" for term in BESIDE)
    cfg = compose_recipe("loss=yardstick", *of_style, *more)
    loss: PerceptualLoss = instantiate(cfg.loss, _convert_="all").eval()
    paths = list_coco(options.photos, "val2017")[: options.num_photos]
    squares = np.stack([read_square(path, options.size_px) for path in paths])
    grained = np.stack([add_grain(square, options.grain) for square in squares])
    photos, given = (torch.from_numpy(a).permute(0, 3, 1, 2) / 255 for a in (squares, grained))
    rows = []
    for folder in options.folders:
        [file] = folder.glob("*.safetensors")
        rows.append([folder.name, *measure(file, loss, photos, given)])
        paintings = [Stylizer(file, "cpu").one_pass(photo) for photo in thumbnail_photos()]
        sheet = SHEETS / f"{folder.name}.jpg"
        write_picture(sheet, contact_sheet([paintings]), overwrite=True, quality=80)
    print("\n".join(table(HEADER, rows)))


@torch.no_grad()
def measure(
    file: Path, loss: PerceptualLoss, photos: torch.Tensor, given: torch.Tensor
) -> list[float]:
    """Photos seen; the yardstick's loss, its content and its style part; what BESIDE names.

    Args:
        given: to the generator, instead of the photos that its paintings are compared with.
    """
    generator, metadata = load_generator(file)
    records = []
    for some, batch in zip(given.split(NUM_AT_ONCE), photos.split(NUM_AT_ONCE), strict=True):
        records.append(numbers(loss(generator(some), loss.content_targets(batch))))
    whole, *beside = (fmean(r[term] for r in records) for term in ("loss", *BESIDE))
    parts = (fmean(part_of(record, part) for record in records) for part in ("content", "style"))
    return [metadata["metrics"]["photos seen"], whole - sum(beside), *parts, *beside]


if __name__ == "__main__":
    main()
