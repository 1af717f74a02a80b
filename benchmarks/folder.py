"""A folder of photos painted by ``stylize.py``, end to end, against the network's own rate."""

import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from allaprima import Stylizer
from allaprima.images import find_pictures, read_photo, read_picture, resize, write_picture
from allaprima.resources import resource_dir
from benchmarks.figures import Goal, Row, Section

ROOT = Path(__file__).parent.parent

LONG_SIDE_PX = 1024
STYLE = "starry_night"
OWN, FOLDER = "network alone, one photo after another", "stylize.py FOLDER"


def folder_figures(quick: bool = False) -> dict[str, Any]:
    """A section of the benchmark, with the goal "0.9 of the network's own rate".

    The network is timed before and after every run over the folder, on the same photos, decoded.

    Args:
        quick: 20 photos and one run instead of 200 and three.
    """
    num_photos, rounds = (20, 1) if quick else (200, 3)
    seconds: dict[str, list[float]] = {OWN: [], FOLDER: []}
    with tempfile.TemporaryDirectory() as name:
        photos = make_photos(Path(name, "photos"), num_photos)
        pixels = [read_picture(photo).rgb for photo in photos[: 10 if quick else 30]]
        stylizer = Stylizer(STYLE, "cpu")
        stylizer.one_pass(pixels[0])
        for _ in range(rounds):
            seconds[OWN] += _time_network(stylizer, pixels)
            seconds[FOLDER].append(_time_command(photos[0].parent))
            seconds[OWN] += _time_network(stylizer, pixels)
    rows = [
        Row(OWN, seconds[OWN], unit="photos"),
        Row(FOLDER, seconds[FOLDER], work=num_photos, unit="photos"),
    ]
    share = rows[1].rate / rows[0].rate
    section = Section(
        "folder",
        f"{num_photos} photos of {LONG_SIDE_PX} px: read, paint, write",
        rows,
        goals=[Goal("the folder's rate against the network's own", share, least=0.9)],
        notes=["The folder's time begins with the process and ends with it; JPEG in and out."],
    )
    return section.as_dict()


def make_photos(folder: Path, num_photos: int) -> list[Path]:
    """The package's demo photos with a long side of 1024 px, over and over, as JPEG files."""
    folder.mkdir(parents=True)
    demos = find_pictures(resource_dir("assets") / "photos")
    made: list[Path] = []
    for number, demo in zip(range(num_photos), itertools.cycle(demos), strict=False):
        file = folder / f"{number:03}.jpg"
        if number < len(demos):
            photo = read_photo(demo)
            scale = LONG_SIDE_PX / max(photo.shape[:2])
            height, width = (round(side * scale) for side in photo.shape[:2])
            write_picture(file, resize(photo, height, width), quality=90)
        else:
            shutil.copy(made[number - len(demos)], file)
        made.append(file)
    return made


def _time_network(stylizer: Stylizer, pixels: list[Any]) -> list[float]:
    """Seconds for one photo, the mean of them all: they are of several sizes."""
    start = time.perf_counter()
    for rgb in pixels:
        stylizer.one_pass(rgb)
    return [(time.perf_counter() - start) / len(pixels)]


def _time_command(photos: Path) -> float:
    command = [sys.executable, str(ROOT / "scripts/stylize.py"), str(photos), "-c", STYLE]
    start = time.perf_counter()
    subprocess.run(
        [*command, "--overwrite", "--device", "cpu", "-o", str(photos.with_name("painted"))],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start
