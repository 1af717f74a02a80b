"""What watches a training run: time budget, stop signals, throughput, progress bar, pictures."""

import signal
import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from torch import Tensor

from allaprima.durations import format_duration, parse_duration
from allaprima.lightning import TensorBoardLogger, callbacks, pl
from allaprima.training import StyleTransferModule

LONG_RUN_S = 1800


class TimeBudget(pl.Callback):
    """End the run after a given time; the schedule anneals to that moment, however fast it goes.

    Args:
        duration: "10m", "2h", "45s"; None leaves the run to ``trainer.max_steps``. A resumed
            run has what was left.
    """

    def __init__(self, duration: str | float | None):
        self.duration_s = None if duration is None else parse_duration(duration)
        self.elapsed_s = 0.0
        self.last_time = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last_time = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.duration_s is not None:
            # One clock for all processes, or their learning rates would drift apart.
            self._tick()
            elapsed_s = trainer.strategy.broadcast(self.elapsed_s)
            pl_module.budget_progress = elapsed_s / self.duration_s

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.duration_s is not None:
            self._tick()
            trainer.should_stop |= trainer.strategy.broadcast(self.elapsed_s) >= self.duration_s

    def _tick(self) -> None:
        now = time.monotonic()
        self.elapsed_s += now - self.last_time
        self.last_time = now

    def state_dict(self) -> dict[str, Any]:
        return {"elapsed_s": self.elapsed_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.elapsed_s = state_dict["elapsed_s"]


class StopSignals(pl.Callback):
    """Ctrl-C and SIGTERM finish the step and end the run; a second one ends it at once.

    ``received`` is then the signal's number, in every process of the run.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A signal may have reached one process alone, but all must stop after the same step.
        if trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            self.received = self.received or signal.SIGTERM
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # no validation on the way out

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _note(self, number: int, frame: Any) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number


class Throughput(pl.Callback):
    """Log photos per second and the share of the time spent waiting for the data loader.

    On an accelerator the share is an upper bound: meanwhile the device may have work left.
    """

    photos_per_s = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reset(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        self.num_photos += len(batch) * trainer.world_size
        duration_s = time.perf_counter() - self.window_start
        if duration_s > 1:
            self.photos_per_s = self.num_photos / duration_s
            waited_s = _waited_s(trainer) - self.waited_before
            pl_module.log("speed/photos_per_s", self.photos_per_s)
            pl_module.log("speed/waiting_for_data", waited_s / duration_s)
            self._reset(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reset(trainer)  # validation is neither training nor waiting

    def _reset(self, trainer: pl.Trainer) -> None:
        self.window_start, self.num_photos = time.perf_counter(), 0
        self.waited_before = _waited_s(trainer)


def _waited_s(trainer: pl.Trainer) -> float:
    # The loader's own clock: between two steps there is more than waiting, such as checkpoints.
    return getattr(trainer.train_dataloader, "waited_s", 0.0)


class ProgressBar(callbacks.ProgressBar):
    """One line: share done, time left, step, photos/s, losses; a new line a minute in a log.

    On a CPU, a run of over half an hour is announced with its length and how to shorten it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self.console = Console()
        self.bar: Progress | None = None

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.start, self.start_progress, self.last_line = time.monotonic(), None, 0.0
        self.first_step = trainer.global_step
        if self._enabled and self.console.is_terminal:
            columns = (
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
            )
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task("first step", total=1.0)
            self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._enabled:
            return
        now, progress = time.monotonic(), pl_module.progress
        if self.start_progress is None:  # the first step is not typical: allocation, start-up
            self.start, self.start_progress = now, progress
        done = progress - self.start_progress
        left_s = (now - self.start) * (1 - progress) / done if done > 0 else None
        sixth = trainer.global_step == self.first_step + 6
        unknown = not pl_module.budget_progress  # who gives a time knows it
        if sixth and unknown and left_s and left_s > LONG_RUN_S:
            self._announce(trainer, left_s)
        if self.bar:
            if now - self.last_line > 0.5:
                self.last_line = now
                self.bar.update(
                    self.task,
                    completed=progress,
                    description=self._describe(trainer, pl_module, left_s),
                )
        elif now - self.last_line > 60:
            self.last_line = now
            line = f"{progress:4.0%}  {self._describe(trainer, pl_module, left_s)}"
            self.console.print(line, soft_wrap=True, highlight=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar:
            self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _describe(
        self, trainer: pl.Trainer, pl_module: StyleTransferModule, left_s: float | None
    ) -> str:
        parts: dict[str, float] = {}
        for name, value in pl_module.terms.items():
            part = name.split("/")[0].replace("total_variation", "tv")
            parts[part] = parts.get(part, 0.0) + value.item()
        losses = "  ".join(f"{name} {value:.3g}" for name, value in parts.items())
        speed = trainer.callback_metrics.get("speed/photos_per_s")
        rate = f"{speed:.2f} photos/s  " if speed is not None else ""
        left = f"{format_duration(left_s)} left  " if left_s is not None else ""
        return f"{left}step {trainer.global_step}  {rate}{losses}"

    def _announce(self, trainer: pl.Trainer, left_s: float) -> None:
        device = trainer.strategy.root_device.type
        if device == "cpu":
            self.console.print(
                f"This run takes about {format_duration(left_s)} on this CPU. To shorten it, stop "
                "(Ctrl-C) and give it a time, such as budget=15m: the schedule then ends with it."
            )


class PictureGrid(pl.Callback):
    """The style images once, and the fixed validation photos beside what is made of them.

    Args:
        num_photos: rows of the grid.
    """

    def __init__(self, num_photos: int = 4):
        self.num_photos = num_photos
        self.rows: list[Tensor] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for number, style in enumerate(pl_module.loss.styles):
            self._show(trainer, "style", style, number)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rows = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Tensor,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.rows += outputs.cpu()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.rows:
            grid = torch.cat(self.rows[: self.num_photos], dim=-2)
            self._show(trainer, "validation/photo_and_painting", grid, trainer.global_step)

    def _show(self, trainer: pl.Trainer, name: str, image: Tensor, step: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, image.detach().clamp(0, 1).cpu(), step)
