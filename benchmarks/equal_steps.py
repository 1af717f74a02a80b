"""Whether what makes training fast costs quality: final losses at equal steps.

train.py is run twice from every seed, as it is (bfloat16 where the CPU multiplies it, compiled
code) and in plain float32 (``trainer.precision=32-true``, no compiled code); both generators are
judged by the same loss, in plain float32, on photos that were not trained on.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from allaprima.data import PhotoDataModule
from allaprima.losses import PerceptualLoss
from allaprima.weights import load_generator
from benchmarks.figures import Goal, Row, Section
from benchmarks.recipes import build

ROOT = Path(__file__).parent.parent
CROP_PX, BATCH, STEPS, SEEDS = 128, 2, 200, (0, 1, 2)
OURS, PLAIN = "as it is", "plain float32"


def equal_steps_figures(quick: bool) -> dict[str, Any]:
    """Three pairs of runs of 200 steps; one pair of 20 if quick."""
    seeds, steps = (SEEDS[:1], 20) if quick else (SEEDS, STEPS)
    module, data = build([f"data.crop_px={CROP_PX}"], "module", "data")
    seconds: dict[str, list[float]] = {OURS: [], PLAIN: []}
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            losses = {}
            for name, times in seconds.items():
                run = Path(folder, f"{seed} {name}")
                start = time.perf_counter()
                train(run, name, seed, steps)
                times.append(time.perf_counter() - start)
                losses[name] = judge(run / "starry_night.safetensors", module.loss, data)
            ratios.append(losses[OURS] / losses[PLAIN])
    rows = [Row(f"train.py, {name}", times, 1, "runs") for name, times in seconds.items()]
    section = Section("equal_steps", f"{steps} steps of {BATCH} photos at {CROP_PX}²", rows)
    listed = ", ".join(f"{ratio - 1:+.2%}" for ratio in ratios)
    section.goals = [
        Goal(
            "validation loss at equal steps, of plain float32's, median of the seeds",
            statistics.median(ratios),
            most=1.01,
            note=f"{listed} of seeds {', '.join(map(str, seeds))}",
            unit="×",
        )
    ]
    section.notes = [
        "Both start alike and see the same photos; both generators are judged in plain float32, on "
        "photos that neither was trained on. Times include the start of the program."
    ]
    section.extra["ratios"] = ratios
    return section.as_dict()


def train(folder: Path, name: str, seed: int, steps: int) -> None:
    """A run of train.py, to its end."""
    options = [f"data.crop_px={CROP_PX}", f"data.batch_size={BATCH}", f"trainer.max_steps={steps}"]
    options += [f"seed={seed}", "style=starry_night", f"hydra.run.dir='{folder}'", "trainer=cpu"]
    plain = {"ALLAPRIMA_NATIVE": "0"} if name == PLAIN else {}
    if plain:
        options.append("trainer.precision=32-true")
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *options]
    subprocess.run(command, env=os.environ | plain, check=True, capture_output=True)


@torch.no_grad()
def judge(file: Path, loss: PerceptualLoss, data: PhotoDataModule) -> float:
    """The mean loss of the fixed validation photos, float32."""
    generator, _ = load_generator(file)
    values = []
    for photo in data.fixed_photos(data.num_val):
        photos = photo[None].float() / (255 if photo.dtype == torch.uint8 else 1)
        terms = loss(generator(photos), loss.content_targets(photos))
        values.append(torch.stack(list(terms.values())).sum().item())
    return statistics.fmean(values)
