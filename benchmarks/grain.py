"""What grain does to flat parts of photos, as docs/recipe.md has it: figures, and a picture.

python -m benchmarks.grain --photos COCO
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from allaprima.evaluation_report import table
from allaprima.grain import LEVELS, add_grain
from allaprima.images import find_pictures, read_picture, resize, to_uint8, write_picture
from allaprima.photos import list_coco
from allaprima.resources import resource_dir
from allaprima.stylize import Stylizer
from allaprima.weights import list_generators
from benchmarks.artefacts import even_page
from benchmarks.gallery import read_subject, scale
from benchmarks.show_artefacts import photos

SHEET, COLUMN_PX = Path("docs/recipe/grain.jpg"), 260
SHOWN = (0, 1, 2, LEVELS, 8)
TIMED, TIMED_SIZE, REPEATS = ("train/city-cathedral", "train/white-duck"), (1080, 1620), 9


def main(arguments: Sequence[str] | None = None) -> None:
    """Print three tables and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    options = parser.parse_args(arguments)
    files = [
        *list_coco(options.photos, "val2017"),
        *find_pictures(resource_dir("assets") / "photos"),
    ]
    shares = np.array([changed(to_uint8(read_picture(file).rgb)) for file in files])
    counts = [[len(shares), int((shares > 0).sum()), int((shares > 0.1).sum())]]
    print("\n".join(table(("photos", "changed", "in a tenth and more"), counts)))
    rows = []
    for name, file in list_generators().items():
        painters = {levels: Stylizer(file, "cpu", grain=levels) for levels in SHOWN}
        paintings = [painters[0].one_pass(photo) for photo in photos()]
        evenness = (even_page(painter.with_grain, paintings) for painter in painters.values())
        rows.append([name, *(float(f"{value:.2g}") for value in evenness)])
    print("\n".join(table(("even page", *(f"{levels:g}" for levels in SHOWN)), rows)))
    rows = [[name, *timing(package_photo(name))] for name in TIMED]
    print("\n".join(table(("photo", "changed", "grain, ms", "pass, ms"), rows)))
    write_picture(SHEET, sheet(), overwrite=True, quality=80)


def package_photo(name: str) -> np.ndarray:
    """RGB float32 in [0,1]."""
    return read_picture(resource_dir("assets") / "photos" / f"{name}.jpg").rgb


def changed(rgb: np.ndarray) -> float:
    """The share of pixels that grain changes."""
    return float((add_grain(rgb, LEVELS) != rgb).any(-1).mean())


def timing(rgb: np.ndarray) -> list[float]:
    """The share that is changed; medians of the milliseconds of grain and of a pass, in turn."""
    photo, stylizer = to_uint8(resize(rgb, *TIMED_SIZE)), Stylizer("starry_night", "cpu")
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        add_grain(photo, LEVELS)
        between = time.perf_counter()
        stylizer.one_pass(photo)
        seconds.append((between - begin, time.perf_counter() - between))
    return [changed(photo), *(1e3 * np.median(seconds, axis=0)).tolist()]


def sheet() -> np.ndarray:
    """Text, a drawing and a duck in every style, without grain and below it with."""
    rows = []
    for photo in (
        read_subject("text"),
        read_subject("line drawing"),
        scale(package_photo(TIMED[1])),
    ):
        for levels in (0, LEVELS):
            painters = [Stylizer(file, "cpu", grain=levels) for file in list_generators().values()]
            height = round(photo.shape[0] * COLUMN_PX / photo.shape[1])
            row = [resize(each.with_grain(photo), height, COLUMN_PX) for each in painters]
            rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
