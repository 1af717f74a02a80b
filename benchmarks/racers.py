"""The two trainings that ``benchmarks/time_to_loss.py`` compares, and the loss that judges both."""

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from allaprima.entrypoints.configuration import best_precision
from allaprima.photos import FixedPhotos
from benchmarks.baseline import PlainGenerator, PlainLoss, PlainStep
from benchmarks.recipes import SAME, build
from benchmarks.stepping import SteppedTraining

CROP_PX, BATCH, NUM_VAL = 128, 4, 8


@dataclass
class Schedule:
    """What of our training may be tuned here.

    Args:
        steps: of the whole run, at the end of which the learning rate has annealed to nothing.
        overrides: of train.py's configuration, over those that make the networks and losses Johnson
            2016's.
        small_crops: (steps, px): crops of that size in the first so many steps.
        validate_every: steps.
    """

    steps: int = 220
    overrides: list[str] = field(
        default_factory=lambda: [
            "optimizer=adam",
            "optimizer.lr=2e-3",
            "schedule.anneal_from=0.3",
            "run.module.average_decay=0.9",  # 0.99 would lag behind in so short a run
        ]
    )
    small_crops: tuple[int, int] | None = None
    validate_every: int = 10


class Run:
    """A training with a clock that stands still while its loss is measured."""

    def __init__(self) -> None:
        self.num_steps, self.seconds = 0, 0.0
        self.curve: list[dict[str, float]] = []  # "step", "seconds", "loss"

    def advance(self, num_steps: int) -> None:
        start = time.perf_counter()
        for _ in range(num_steps):
            self.step()
        self.seconds += time.perf_counter() - start
        self.num_steps += num_steps

    def step(self) -> None:
        raise NotImplementedError

    def generator(self) -> torch.nn.Module:
        """What is judged."""
        raise NotImplementedError

    def validate(self, judge: "Judge") -> None:
        loss = judge(self.generator())
        self.curve.append({"step": self.num_steps, "seconds": self.seconds, "loss": loss})


class PlainRun(Run):
    """``benchmarks/baseline.py`` on the stream of photos."""

    def __init__(self, photos: list[Path]):
        super().__init__()
        start = time.perf_counter()
        torch.manual_seed(0)
        loss = build(SAME, "module").loss
        self.plain = PlainStep(PlainGenerator(), PlainLoss(loss.network, loss.style))
        self.photos = photos
        self.batches = batches(photos, CROP_PX, 0)
        self.seconds += time.perf_counter() - start

    def step(self) -> None:
        self.plain(next(self.batches).contiguous())

    def generator(self) -> torch.nn.Module:
        return self.plain.generator

    def save(self, file: Path) -> None:
        state = {"generator": self.plain.generator.state_dict(), "curve": self.curve}
        state |= {"optimizer": self.plain.optimizer.state_dict()}
        torch.save(state | {"steps": self.num_steps, "seconds": self.seconds}, file)

    def load(self, file: Path) -> None:
        """Go on where a run was saved."""
        state = torch.load(file, weights_only=True)
        self.plain.generator.load_state_dict(state["generator"])
        self.plain.optimizer.load_state_dict(state["optimizer"])
        self.num_steps, self.seconds, self.curve = (
            state[key] for key in ("steps", "seconds", "curve")
        )
        self.batches = batches(self.photos, CROP_PX, self.num_steps)


class OurRun(Run):
    """StyleTransferModule as Lightning runs it; the clock includes what is compiled."""

    def __init__(self, photos: list[Path], schedule: Schedule):
        super().__init__()
        start = time.perf_counter()
        torch.manual_seed(0)
        self.training = SteppedTraining(
            build([*SAME, *schedule.overrides], "module"),
            in_channels_last(staged(photos, schedule)),
            accelerator="cpu",
            precision=best_precision("cpu"),
            max_steps=schedule.steps,
        )
        self.seconds += time.perf_counter() - start

    def step(self) -> None:
        self.training()

    def generator(self) -> torch.nn.Module:
        return self.training.module.painter


class Judge:
    """The one loss that both are judged by: the plain one, float32, on photos held fixed."""

    def __init__(self, photos: list[Path]):
        loss = build(SAME, "module").loss
        self.loss = PlainLoss(loss.network, loss.style)
        self.photos = torch.stack(FixedPhotos(photos, CROP_PX, NUM_VAL).images).float() / 255

    @torch.no_grad()
    def __call__(self, generator: torch.nn.Module) -> float:
        pairs = ((generator(photos).float(), photos) for photos in self.photos.split(4))
        losses = [self.loss(painted, photos) for painted, photos in pairs]
        return torch.stack(losses).mean().item()


def batches(photos: list[Path], crop_px: int, start_step: int) -> Iterator[Tensor]:
    """Float32 RGB batches of the stream of photos, from a step on."""
    options = [f"data.crop_px={crop_px}", f"data.batch_size={BATCH}", "data.num_workers=0"]
    data = build(options, "data")
    data.train_photos, data.start_position = photos, start_step * BATCH
    for batch in data.train_dataloader():
        yield data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)


def staged(photos: list[Path], schedule: Schedule) -> Iterator[Tensor]:
    num_small = 0
    if schedule.small_crops:
        num_small, crop_px = schedule.small_crops
        yield from itertools.islice(batches(photos, crop_px, 0), num_small)
    yield from batches(photos, CROP_PX, num_small)


def in_channels_last(photos: Iterator[Tensor]) -> Iterator[Tensor]:
    for batch in photos:
        yield batch.contiguous(memory_format=torch.channels_last)


class fresh_caches(tempfile.TemporaryDirectory):
    """Whatever is compiled goes to a new folder, as on a machine that has never trained."""

    NAMES = ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR")

    def __enter__(self) -> str:
        folder = super().__enter__()
        self.before = {name: os.environ.get(name) for name in self.NAMES}
        os.environ.update(dict.fromkeys(self.NAMES, folder))
        return folder

    def __exit__(self, *error: Any) -> None:
        for name, value in self.before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        super().__exit__(*error)
