"""What gatys.py shows, saves and records while it optimises, and how it is stopped."""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from allaprima.durations import format_duration
from allaprima.errors import InputError
from allaprima.gatys import Evaluation
from allaprima.images import check_writable, write_picture
from allaprima.stylize import choose_device

console = Console(highlight=False, markup=False, soft_wrap=True)


class Watch:
    """Progress, pictures on the way, the curve, and Ctrl-C: called after each evaluation.

    Ctrl-C and SIGTERM end the optimisation after the evaluation at hand; a second one at once.

    Raises:
        InputError: a file that it would write is there already, or cannot be written.
    """

    def __init__(
        self, cfg: DictConfig, output: Path, total: int, finish: Callable[[Tensor], np.ndarray]
    ):
        self.cfg, self.output, self.total, self.finish = cfg, output, total, finish
        self.device = choose_device(cfg.device)
        self.curve: list[dict[str, float]] = []
        self.stopped_by: int | None = None
        for file in [output, *map(self.snapshot, self.snapshots())]:
            check_writable(file, overwrite=cfg.overwrite)
        if cfg.record:
            check_record(Path(cfg.record), cfg.overwrite)
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}")
        self.progress = Progress(
            *columns,
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=600,
        )

    def __enter__(self) -> None:
        self.start_s = time.monotonic()
        self.previous = {n: signal.signal(n, self._stop) for n in (signal.SIGINT, signal.SIGTERM)}
        self.progress.start()
        self.task = self.progress.add_task("", total=self.total, loss="")

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def __call__(self, evaluation: Evaluation) -> bool:
        num, spent_s = evaluation.num_done, time.monotonic() - self.start_s
        parts: dict[str, float] = {}
        for name, value in evaluation.terms.items():
            part = name.split("/")[0]
            parts[part] = parts.get(part, 0.0) + value
        self.curve.append(
            {"evaluation": num, "scale": evaluation.scale, "loss": evaluation.value}
            | parts
            | {"seconds": round(spent_s, 3)}
        )
        self.progress.update(self.task, completed=num, loss=f"{evaluation.value:.4g}")
        if not console.is_terminal and (num % 10 == 0 or num == self.total):
            left = format_duration(spent_s / num * (self.total - num))
            console.print(
                f"{num:4d} of {self.total} evaluations  loss {evaluation.value:.4g}  "
                f"{format_duration(spent_s)}, {left} left"
            )
        if num in self.snapshots():
            picture = self.finish(evaluation.image)
            write_picture(self.snapshot(num), picture, overwrite=self.cfg.overwrite)
        return self.stopped_by is not None

    def snapshots(self) -> range:
        """The evaluations after which a picture is written."""
        every = self.cfg.save_every
        if every is not None and every < 1:
            raise InputError(f"save_every={every}: give a number of evaluations ≥ 1, or null")
        return range(every, self.total, every) if every else range(0)

    def snapshot(self, num_done: int) -> Path:
        return self.output.with_stem(f"{self.output.stem}_{num_done:04d}")

    def report(self) -> None:
        """Print time and memory, and write the record."""
        spent_s, memory = time.monotonic() - self.start_s, peak_memory_mb(self.device)
        console.print(
            f"{len(self.curve)} evaluations in {format_duration(spent_s)} on {self.device}; "
            f"peak memory {memory:.0f} MB"
        )
        if self.cfg.record:
            options: Any = OmegaConf.to_container(self.cfg, resolve=True)
            record = {
                "output": self.output.name,
                "device": str(self.device),
                "seconds": round(spent_s, 3),
                "peak_memory_mb": round(memory, 1),
                "curve": self.curve,
                "options": options,
            }
            Path(self.cfg.record).write_text(json.dumps(record, indent=1), encoding="utf-8")

    def _stop(self, number: int, frame: Any) -> None:
        if self.stopped_by is not None:
            raise KeyboardInterrupt
        self.stopped_by = number


def check_record(record: Path, overwrite: bool) -> None:
    if record.exists() and not overwrite:
        raise InputError(f"record={record} exists already and is kept; say overwrite=true")
    if record.is_dir() or not record.absolute().parent.is_dir():
        raise InputError(f"record={record} is a folder, or in none; name a file in a folder")


def peak_memory_mb(device: torch.device) -> float:
    """Of the GPU's allocations, or of the whole process on a CPU; 0 where it is not told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
