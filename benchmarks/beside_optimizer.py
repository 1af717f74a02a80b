"""One pass beside the optimiser, in every shipped style: docs/beside_optimizer*.webp.

    python -m benchmarks.beside_optimizer --paintings FOLDER

One demo photograph at 256² and at 512², under ``loss=yardstick``. What is done is not done again; a
generator whose weights have changed since is evaluated anew.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from allaprima.evaluate import PICTURE_COUNTS, Plan
from allaprima.evaluation_files import fingerprint
from allaprima.images import read_picture, to_uint8
from allaprima.plots import write_contact_sheet
from allaprima.weights import read_weights
from benchmarks.shipped import CHECKPOINTS, GATYS, PAINTINGS, WORK, demo_photo, run

PHOTO = "castle-above-forest"
COUNTS = {256: PICTURE_COUNTS, 512: (50, 150)}  # evaluations of L-BFGS to show, by size
SHEETS = {256: Path("docs/beside_optimizer.webp"), 512: Path("docs/beside_optimizer_512.webp")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate, and draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=Path, required=True)
    options = parser.parse_args(arguments)
    photo = WORK / "beside" / "photo" / f"{PHOTO}.jpg"
    photo.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(demo_photo(PHOTO), photo)
    for size_px, counts in COUNTS.items():
        rows, captions = [], []
        for name in sorted(PAINTINGS):
            folder = evaluate(name, options.paintings / PAINTINGS[name], photo, size_px)
            pictures, under = read(name, folder, counts)
            rows.append(pictures)
            captions.append(under)
        header = "photo", "one pass", *(f"L-BFGS from noise: {count}" for count in counts)
        write_contact_sheet(SHEETS[size_px], header, rows, captions, quality=75)


def evaluate(name: str, painting: Path, photo: Path, size_px: int) -> Path:
    """The folder of a shipped generator's evaluation on the photo."""
    shipped = CHECKPOINTS / f"{name}.safetensors"
    weights = read_weights(shipped)[1]
    content = b"".join(weights[key].tobytes() for key in sorted(weights))
    folder = WORK / f"beside_{size_px}" / f"{name}_{fingerprint(content)}"
    if not (folder / "evaluation.json").exists():
        data = "data=folder", f"data.root={photo.parent}", "data.num_val=1"
        evaluations = f"evaluations={COUNTS[size_px][-1]}"
        plan = f"sizes=[{size_px}]", "starts=[noise]", evaluations, "resume=true"
        where = f"style.image={painting}", f"hydra.run.dir={folder}"
        run("evaluate", f"checkpoint={shipped}", *data, *plan, GATYS, *where)
    return folder


def read(name: str, folder: Path, counts: Sequence[int]) -> tuple[list[np.ndarray], list[str]]:
    """A row of the sheet: pictures and what is written under them."""
    [file] = (folder / "photos").glob("*.json")
    figures: dict[str, Any] = json.loads(file.read_bytes())
    kept = Plan(evaluations=counts[-1]).picture_counts
    panels = np.split(to_uint8(read_picture(file.with_suffix(".png")).rgb), 2 + len(kept), axis=1)
    at = dict(zip(kept, panels[2:], strict=True))
    run = figures["optimizer"]["noise"]
    losses = [figures["pass"]["loss"], *(run["at"][str(n)]["loss"] for n in counts)]
    worth = run["equivalent"] or f"more than {counts[-1]}"
    captions = [f"{name}: one pass is worth {worth}", *(f"loss {loss:.3f}" for loss in losses)]
    return [*panels[:2], *(at[count] for count in counts)], captions


if __name__ == "__main__":
    main()
