"""One pass beside the optimiser, in every shipped style: docs/beside_optimizer.webp.

    python -m benchmarks.beside_optimizer --paintings FOLDER

One demo photograph at 256², each style under the loss that its generator was trained with. What is
done is not done again; a generator that has changed since is evaluated anew.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from allaprima.evaluate import PICTURE_COUNTS
from allaprima.evaluation_files import fingerprint
from allaprima.images import read_picture, to_uint8
from allaprima.plots import write_contact_sheet
from benchmarks.shipped import CHECKPOINTS, PAINTINGS, WORK, demo_photo, run

PHOTO, SHEET = "castle-above-forest", Path("docs/beside_optimizer.webp")
HEADER = "photo", "one pass", *(f"L-BFGS from noise: {count}" for count in PICTURE_COUNTS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate, and draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=Path, required=True)
    options = parser.parse_args(arguments)
    photo = WORK / "beside" / "photo" / f"{PHOTO}.jpg"
    photo.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(demo_photo(PHOTO), photo)
    names = sorted(PAINTINGS)
    folders = [evaluate(name, options.paintings / PAINTINGS[name], photo) for name in names]
    rows, captions = zip(*map(read, names, folders), strict=True)
    write_contact_sheet(SHEET, HEADER, rows, captions, quality=75)


def evaluate(name: str, painting: Path, photo: Path) -> Path:
    """The folder of a shipped generator's evaluation on the photo."""
    shipped = CHECKPOINTS / f"{name}.safetensors"
    folder = WORK / "beside" / f"{name}_{fingerprint(shipped.read_bytes())}"
    if not (folder / "evaluation.json").exists():
        data = "data=folder", f"data.root={photo.parent}", "data.num_val=1"
        plan = "sizes=[256]", "starts=[noise]", f"evaluations={PICTURE_COUNTS[-1]}", "resume=true"
        where = f"style.image={painting}", f"hydra.run.dir={folder}"
        run("evaluate", f"checkpoint={shipped}", *data, *plan, *where)
    return folder


def read(name: str, folder: Path) -> tuple[list[np.ndarray], list[str]]:
    """A row of the sheet: pictures and what is written under them."""
    [file] = (folder / "photos").glob("*.json")
    figures: dict[str, Any] = json.loads(file.read_bytes())
    panels = to_uint8(read_picture(file.with_suffix(".png")).rgb)
    run = figures["optimizer"]["noise"]
    losses = [figures["pass"]["loss"], *(run["at"][str(n)]["loss"] for n in PICTURE_COUNTS)]
    worth = run["equivalent"] or f"more than {PICTURE_COUNTS[-1]}"
    captions = [f"{name}: one pass is worth {worth}", *(f"loss {loss:.3f}" for loss in losses)]
    return np.split(panels, len(HEADER), axis=1), captions


if __name__ == "__main__":
    main()
