"""Photos from files to batches, against what the training takes."""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from allaprima.data import PhotoDataModule
from allaprima.entrypoints.configuration import best_precision
from allaprima.lightning import pl
from allaprima.photos import PhotoDataset, list_folder
from allaprima.resources import resource_dir
from benchmarks.figures import Goal, Row, Section, interleave
from benchmarks.machine import num_cores
from benchmarks.recipes import DEFAULT, build
from benchmarks.stepping import plain_trainer

BATCH, CROP_PX = 4, 256
GPU_CORES, GPU_GOAL = 16, 1500  # photos/s that the issue asks of an H200
SIZES = {"640×480 (COCO)": 480, "12 megapixels (camera)": 3000}  # short sides, px


def loading_figures(quick: bool) -> dict[str, Any]:
    """Decoding on one core by the photos' size, the loader as a whole, and a training with it.

    Args:
        quick: COCO's size alone, and one step of training.
    """
    with tempfile.TemporaryDirectory() as folder:
        datasets = {
            f"decoding, one core, {name}": photos_of_size(Path(folder, str(side)), side)
            for name, side in list(SIZES.items())[: 1 if quick else None]
        }
        torch.set_num_threads(1)
        per_call = 8 if quick else 40
        calls = {name: reading(photos, per_call) for name, photos in datasets.items()}
        seconds = interleave(calls, rounds=3 if quick else 9)
        rows = [Row(name, seconds[name], per_call, "photos") for name in calls]
        coco = next(iter(datasets.values()))
        rows.append(loader_row(coco, per_call))
        torch.set_num_threads(num_cores())
        rows.append(training_row(coco, num_steps=1 if quick else 12))
    section = Section("loading", f"Reading photos, crops of {CROP_PX}²", rows, baseline="")
    per_core, training = rows[0].rate, rows[-1]
    section.goals = [
        Goal(
            "decoding on one core against training on this machine",
            per_core / training.rate,
            least=2,
        ),
        Goal(
            f"decoding on {GPU_CORES} cores against the training rate of an H200",
            None,
            least=2,
            note=f"needs a GPU machine; extrapolated from one core here, {GPU_CORES - 1} workers "
            f"would read {per_core * (GPU_CORES - 1):,.0f} photos/s, "
            f"{per_core * (GPU_CORES - 1) / GPU_GOAL:.1f}× a rate of {GPU_GOAL:,}",
        ),
    ]
    section.notes = [
        "Reading is opening, decoding (JPEGs at 1/2, 1/4 or 1/8 of their size where that is "
        "enough), cropping and scaling; batches stay 8-bit until they are on the device. The "
        "loader row has worker processes as train.py would; the training row is train.py's "
        "default recipe through Lightning with that loader, and the share of its time that it "
        "waited for photos (speed/waiting_for_data in TensorBoard).",
    ]
    return section.as_dict()


def photos_of_size(folder: Path, short_side_px: int, num_photos: int = 12) -> list[Path]:
    """Photos of the package, scaled and written as camera and web do."""
    folder.mkdir()
    photos = list_folder(resource_dir("assets") / "photos" / "train")[:num_photos]
    for photo in photos:
        with Image.open(photo) as image:
            size = (short_side_px * 4 // 3, short_side_px)
            image.convert("RGB").resize(size).save(folder / photo.name, quality=90)
    return list_folder(folder)


def reading(photos: list[Path], num: int) -> Callable[[], None]:
    """The next so many positions of the training's stream at each call."""
    dataset, position = PhotoDataset(photos, [CROP_PX], seed=0), 0

    def read() -> None:
        nonlocal position
        for _ in range(num):
            dataset[position]
            position += 1

    return read


def make_data(photos: list[Path]) -> PhotoDataModule:
    return PhotoDataModule(photos, photos[:1], CROP_PX, BATCH, num_val=1)


def loader_row(photos: list[Path], num_photos: int) -> Row:
    """Batches as float32 as fast as the loader gives them."""
    data = make_data(photos)
    loader = data.train_dataloader()
    batches = iter(loader)

    def take() -> None:
        for _ in range(num_photos // BATCH):
            batch = data.on_before_batch_transfer(next(batches), 0)
            data.on_after_batch_transfer(batch, 0)

    calls = num_photos // BATCH * BATCH
    seconds = interleave({"loader": take}, rounds=5)["loader"]
    workers = loader.num_workers
    return Row(
        f"loader, {workers} worker{'s' * (workers != 1)}, {next(iter(SIZES))}",
        seconds,
        calls,
        "photos",
    )


def training_row(photos: list[Path], num_steps: int) -> Row:
    """The default recipe's rate with the loader, and the share of waiting."""
    watch = _Watch()
    trainer = plain_trainer(
        accelerator="cpu",
        precision=best_precision("cpu"),
        max_steps=num_steps + 1,
        callbacks=[watch],
    )
    trainer.fit(build(DEFAULT, "module"), datamodule=make_data(photos))
    (start, waited_before), (end, waited_after) = watch.ends[0], watch.ends[-1]
    waiting = (waited_after - waited_before) / (end - start)
    times = [time for time, _ in watch.ends]  # of the first step, which allocates, the end alone
    return Row(
        "training with it, default recipe",
        [after - before for before, after in itertools.pairwise(times)],
        BATCH,
        "photos",
        note=f"waiting for data: {waiting:.1%} of the time",
    )


class _Watch(pl.Callback):
    """When each step ended, and how long the loader had been waited for by then."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.ends.append((time.perf_counter(), trainer.train_dataloader.waited_s))
