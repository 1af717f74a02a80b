"""The pictures of docs/reproduction.md."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from allaprima.images import read_picture, to_uint8, write_picture
from allaprima.plots import to_pixels, write_contact_sheet
from allaprima.stylize import paint_texture, stylize
from allaprima.tasks import Colorization, SuperResolution
from benchmarks.reproduction_measures import (
    PHOTOS,
    generator_of,
    lower_contrast,
    square,
    validation_curve,
)

NORMS = ("batch_johnson", "instance_johnson", "batch_ulyanov", "instance_ulyanov")
GATYS = {
    "gatys": "gatys2016",
    "vgg16": "… on VGG-16",
    "max_pooling": "… max pooling",
    "from_content": "… from the photo",
    "from_style": "… from the painting",
    "from_other_noise": "… from other noise",
    "keras_example": "keras_example",
    "improved": "improved",
    "novak_nikulin": "novak_nikulin2016",
    "novak_nikulin_paper": "… the paper's chain",
}


class Figure(NamedTuple):
    title: str
    caption: str
    files: tuple[str, ...]


def draw_pictures(folder: Path, target: Path) -> Iterator[Figure]:
    """Write the pictures into a folder and say what they are."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "yardstick_256" / "curves.png", target)
    sheet = read_picture(folder / "yardstick_256" / "contact_sheet.jpg")
    write_picture(target / "contact_sheet.jpg", sheet, overwrite=True, quality=80)
    yield Figure(
        "One pass and the optimiser",
        "Loss of L-BFGS relative to that of one pass, and what either has painted by then.",
        ("curves.png", "contact_sheet.jpg"),
    )
    curves = {name: validation_curve(folder / name) for name in NORMS}
    plot_curves(target / "norms_curves.png", curves)
    write_contact_sheet(target / "norms.jpg", *norms(folder))
    yield Figure(
        "Instance norm and batch norm",
        "The same photo at a quarter, half and all of its contrast.",
        ("norms_curves.png", "norms.jpg"),
    )
    write_contact_sheet(target / "photos.jpg", *few_and_many(folder))
    yield Figure("A few photos and many", "Ulyanov's network, trained on either.", ("photos.jpg",))
    write_contact_sheet(target / "texture.jpg", *textures(folder))
    yield Figure(
        "Textures",
        "Three seeds of a texture network, and the middle of four tiles of the first.",
        ("texture.jpg",),
    )
    write_contact_sheet(target / "optimisers.jpg", *optimisers(folder))
    yield Figure(
        "The optimisers",
        "As many evaluations of each as the table of commands says.",
        ("optimisers.jpg",),
    )
    write_contact_sheet(target / "restoration.jpg", *restoration(folder))
    yield Figure(
        "Super-resolution and colourisation",
        "A photo enlarged from a quarter and from an eighth of its size, and colour from grey. "
        "Transposed convolutions, as published, leave a cross-hatch.",
        ("restoration.jpg",),
    )


Sheet = tuple[Sequence[str], list[list[np.ndarray | None]], list[list[str]]]


def norms(folder: Path) -> Sheet:
    photo = square(PHOTOS[2], 256)
    generators = [generator_of(folder / name) for name in NORMS]
    rows, captions = [], []
    for contrast in (0.25, 0.5, 1.0):
        given = lower_contrast(photo, contrast)
        rows.append([to_uint8(given), *(to_uint8(stylize(g, given)) for g in generators)])
        captions.append([f"contrast {contrast:g}", *[""] * len(NORMS)])
    return ["photo", *(name.replace("_", ", ") for name in NORMS)], rows, captions


def few_and_many(folder: Path) -> Sheet:
    generators = [generator_of(folder / name) for name in ("photos_few", "photos_many")]
    squares = [square(photo, 256) for photo in PHOTOS[2:6:3]]
    rows = [[to_uint8(s), *(to_uint8(stylize(g, s)) for g in generators)] for s in squares]
    return ["photo", "16 photos", "all photos"], rows, [[""] * 3] * len(rows)


def textures(folder: Path) -> Sheet:
    generator = generator_of(folder / "texture")
    row = []
    for seed in range(3):
        generator.noise_seed = seed
        row.append(to_uint8(paint_texture(generator, 256, 256)))
    seams = np.roll(row[0], (128, 128), (0, 1))  # the middle of four tiles
    return ["seed 0", "seed 1", "seed 2", "where four tiles meet"], [[*row, seams]], [[""] * 4]


def optimisers(folder: Path) -> Sheet:
    cells = [to_uint8(read_picture(folder / name / "picture.png").rgb) for name in GATYS]
    rows = [list(cells[i : i + 5]) for i in (0, 5)]
    titles = list(GATYS.values())
    return [""] * 5, rows, [titles[:5], titles[5:]]


def restoration(folder: Path) -> Sheet:
    rows, captions = [], []
    for name, task, photo in (
        ("superres4", SuperResolution(4), PHOTOS[6]),
        ("superres8", SuperResolution(8), PHOTOS[6]),
        ("colorization", Colorization(), PHOTOS[7]),
        ("colorization", Colorization(), PHOTOS[3]),
    ):
        photos = torch.from_numpy(square(photo, 288)).permute(2, 0, 1)[None]
        given = task.input(photos)
        with torch.no_grad():
            output = generator_of(folder / name)(given)
        rows.append([to_pixels(panel[0]) for panel in task.panels(output, photos, given)])
        captions.append([name, "", ""])
    return ["given (enlarged by bicubic)", "one pass", "photo"], rows, captions


def plot_curves(path: Path, curves: dict[str, list[tuple[int, float]]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(plot)
    axes = plot.subplots()
    for name, curve in curves.items():
        norm, network = name.split("_")
        colour = {"johnson": "#1f5fa8", "ulyanov": "#c8552b"}[network]
        dash = "-" if norm == "instance" else "--"
        axes.plot(*zip(*curve, strict=True), dash, color=colour, label=f"{network}, {norm} norm")
    axes.set(yscale="log", xlabel="step", ylabel="loss on validation photos")
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    plot.savefig(path)
