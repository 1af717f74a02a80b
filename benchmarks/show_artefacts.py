"""The artefacts of generators as a table: ``python -m benchmarks.show_artefacts [FILE…]``.

Without files, of all that are shipped. The exit status is 1 if one is beyond a bound.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from allaprima.images import find_pictures, read_picture, resize_short_side
from allaprima.resources import resource_dir
from allaprima.stylize import Stylizer
from allaprima.weights import list_generators
from benchmarks.artefacts import Artefact, artefacts

PHOTO_PX, NUM_PHOTOS = 256, 4


def artefacts_of(generator: Path) -> list[Artefact]:
    """All measures of a generator's file, on photographs in the package.

    Colours are compared with the style's swatch, where the package has one of that name.
    """
    stylizer = Stylizer(generator, "cpu")
    stylizer.check_takes_photos()
    style = stylizer.metadata.get("style")
    name = style.get("name") if isinstance(style, dict) else None
    swatch = resource_dir("assets") / "styles" / f"{name}.png"
    rgb = read_picture(swatch).rgb if swatch.exists() else None
    return list(artefacts(stylizer.one_pass, photos(), rgb, stylizer.with_grain))


def photos() -> list[np.ndarray]:
    """Squares from the shipped photographs that nothing is trained on."""
    files = find_pictures(resource_dir("assets") / "photos" / "val")[:NUM_PHOTOS]
    scaled = [resize_short_side(read_picture(file).rgb, PHOTO_PX) for file in files]
    return [np.ascontiguousarray(rgb[:PHOTO_PX, :PHOTO_PX]) for rgb in scaled]


def main(files: Sequence[str]) -> int:
    """Print the table; the exit status."""
    generators = [Path(file) for file in files] or list(list_generators().values())
    measured = [artefacts_of(generator) for generator in generators]
    table = Table("artefact", "at most", *(generator.stem for generator in generators))
    names = dict.fromkeys(each.name for column in measured for each in column)
    for name in names:
        row = [next((e for e in column if e.name == name), None) for column in measured]
        most = next(each.most for each in row if each is not None)
        table.add_row(name, "–" if most is None else f"{most:g}", *map(_cell, row))
    Console().print(table)
    return int(not all(each.passes for column in measured for each in column))


def _cell(artefact: Artefact | None) -> str:
    if artefact is None:
        return "–"
    return f"{artefact.value:.2f}" if artefact.passes else f"[red]{artefact.value:.2f} ✗[/red]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
