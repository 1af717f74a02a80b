"""Twelve photographs in every shipped style: ``make gallery`` writes docs/gallery.md.

A line drawing and a page of text are made here, from a photograph and by a font; the others are
the package's demo photographs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from allaprima.images import read_picture, resize, write_picture
from allaprima.resources import resource_dir
from allaprima.styles import blur
from allaprima.stylize import Stylizer
from allaprima.weights import list_generators

DOCS = Path("docs")
LONG_SIDE_PX, QUALITY, COLUMNS = 600, 75, 4
SUBJECTS = {
    "landscape": "val/mountain-path",
    "portrait": "val/astronaut",
    "city": "train/city-cathedral",
    "food": "val/fig-in-red-bowl",
    "animal": "val/red-panda",
    "night": "val/bridge-at-night",
    "high key": "train/citrus-slices",
    "line drawing": "",
    "text": "",
    "sky": "train/hilltop-sunset",
    "crowd": "train/orchestra",
    "macro": "train/bee-on-aster",
}
README_SUBJECTS = "landscape", "portrait", "animal"
BLENDED = "animal"
TEXT = "A painting\nfinished\nin one go"


def main() -> None:
    """Paint and write everything anew."""
    generators = {name: Stylizer(file) for name, file in list_generators().items()}
    folder = DOCS / "gallery"
    paintings = {}
    for subject in SUBJECTS:
        photo = read_subject(subject)
        paintings[subject] = [
            photo,
            *(stylizer.with_grain(photo) for stylizer in generators.values()),
        ]
        for name, picture in zip(("photo", *generators), paintings[subject], strict=True):
            file = folder / f"{subject.replace(' ', '_')}_{name}.webp"
            write_picture(file, picture, overwrite=True, quality=QUALITY)
    (DOCS / "gallery.md").write_text(page(list(generators)), encoding="utf-8")
    rows = [paintings[subject] for subject in README_SUBJECTS]
    write_picture(DOCS / "styles.jpg", contact_sheet(rows), overwrite=True, quality=85)
    write_picture(DOCS / "blends.webp", blends(), overwrite=True, quality=QUALITY)


def blends() -> np.ndarray:
    """One photograph by every shipped style, and by half of one and half of another."""
    photo, files = read_subject(BLENDED), list_generators().values()
    return contact_sheet([[Stylizer([a, b]).with_grain(photo) for b in files] for a in files])


def read_subject(subject: str) -> np.ndarray:
    """RGB float32 in [0,1], its long side as the gallery's."""
    if subject == "text":
        return draw_text()
    photos = resource_dir("assets") / "photos"
    if subject == "line drawing":
        return draw_lines(scale(read_picture(photos / "val/castle-above-forest.jpg").rgb))
    return scale(read_picture(photos / f"{SUBJECTS[subject]}.jpg").rgb)


def scale(rgb: np.ndarray) -> np.ndarray:
    """To the gallery's long side; never larger."""
    height, width = rgb.shape[:2]
    factor = min(1.0, LONG_SIDE_PX / max(height, width))
    return resize(rgb, round(height * factor), round(width * factor))


def draw_lines(rgb: np.ndarray) -> np.ndarray:
    """A pencil drawing: differences of Gaussians, cut off softly (Winnemöller 2011)."""
    grey = rgb.mean(-1)
    sharp = 20 * blur(grey, 1.0) - 19 * blur(grey, 1.6)
    ink = np.where(sharp >= 0.5, 1.0, 1 + np.tanh(6 * (sharp - 0.5)))
    return np.repeat(ink.clip(0, 1).astype(np.float32)[..., None], 3, -1)


def draw_text() -> np.ndarray:
    """Black letters on white."""
    page = Image.new("RGB", (LONG_SIDE_PX, LONG_SIDE_PX * 2 // 3), "white")
    font = ImageFont.load_default(96)
    ImageDraw.Draw(page).multiline_text((40, 24), TEXT, "black", font, spacing=16)
    return np.asarray(page, np.float32) / 255


def page(names: Sequence[str]) -> str:
    """The gallery in Markdown: a table of each subject's pictures."""
    lines = [
        "# Gallery",
        "",
        "Twelve pictures in every shipped style, each painted in a single pass at the size shown;",
        "made by `make gallery`. Photographs: see `src/allaprima/assets/photos/SOURCES.md`.",
        "",
        "## Beside the optimiser",
        "",
        "One pass, and L-BFGS on its way from noise, under `loss=yardstick`; made by",
        "`python -m benchmarks.beside_optimizer --paintings FOLDER`. At 256²:",
        "",
        "![one pass beside L-BFGS at 256²](beside_optimizer.webp)",
        "",
        "At 512²:",
        "",
        "![one pass beside L-BFGS at 512²](beside_optimizer_512.webp)",
        "",
        "## Blends",
        "",
        "Half the weights of one style and half of another's, in a single pass:",
        f"`stylize.py -c wave -c udnie`. From the left, and from the top: {', '.join(names)}.",
        "",
        "![every style with every other](blends.webp)",
    ]
    for subject in SUBJECTS:
        cells = [
            f"![{name}](gallery/{subject.replace(' ', '_')}_{name}.webp)<br>{name}"
            for name in ("photo", *names)
        ]
        cells += [""] * (-len(cells) % COLUMNS)
        rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
        table = [f"| {' | '.join(row)} |" for row in rows]
        lines += [
            "",
            f"## {subject.capitalize()}",
            "",
            table[0],
            "|" + "---|" * COLUMNS,
            *table[1:],
        ]
    return "\n".join(lines) + "\n"


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], side_px: int = 240) -> np.ndarray:
    """Squares side by side, from the middle of each picture."""
    return np.concatenate([np.concatenate([_square(p, side_px) for p in row], 1) for row in rows])


def _square(rgb: np.ndarray, side_px: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return resize(rgb, side_px, side_px, (left, top, left + side, top + side))


if __name__ == "__main__":
    main()
