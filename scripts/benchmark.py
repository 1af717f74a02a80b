"""Time and weigh one training step against the plain float32 loop: ``python scripts/benchmark.py``.

Both run in one process, turn by turn, on the same photos; the figure is the ratio of medians.
Peak memory is that of a process of its own for each, over what it held before its first step.
Nothing else should be running.
"""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from allaprima.entrypoints.configuration import best_precision, register_resolvers
from allaprima.evaluate import processor_name
from allaprima.resources import resource_dir
from allaprima.winograd import fast_conv_available

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.baseline import PlainStep

Step = Callable[[torch.Tensor], float]


def main(
    batch_size: Annotated[int, typer.Option(help="Photos per step.")] = 4,
    crop_px: Annotated[int, typer.Option(help="Side of a photo, px.")] = 256,
    rounds: Annotated[int, typer.Option(help="Timed steps of each; the median counts.")] = 9,
    generator: Annotated[str, typer.Option(help="A name in configs/generator.")] = "johnson",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.")] = None,
    weigh: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Compare the default training step with the straightforward one."""
    photos = torch.rand(batch_size, 3, crop_px, crop_px, device=device)
    if weigh:
        print(peak_memory_mb(STEPS[weigh](generator, device), photos))
        return
    steps = {name: make(generator, device) for name, make in STEPS.items()}
    for step in steps.values():  # first calls allocate and choose kernels
        step(photos)
        step(photos)
    times_s: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times_s[name].append(duration_s(step, photos))
    memory_mb = {name: weigh_alone(name) for name in STEPS}

    plain, _ = STEPS
    table = Table(title=f"One training step, batch {batch_size} at {crop_px}², {generator}")
    for column in ("", "median s", "min–max s", "photos/s", "faster", "memory MB", "of plain"):
        table.add_column(column, justify="right")
    for name, values in times_s.items():
        median = statistics.median(values)
        table.add_row(
            name,
            f"{median:.3f}",
            f"{min(values):.3f}–{max(values):.3f}",
            f"{batch_size / median:.2f}",
            f"{statistics.median(times_s[plain]) / median:.2f}×",
            f"{memory_mb[name]:.0f}",
            f"{memory_mb[name] / memory_mb[plain]:.2f}×",
        )
    machine = {
        "device": torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "precision": best_precision(device),
        "compiled convolutions": fast_conv_available(),
        "torch": torch.__version__,
    }
    Console().print(table, machine)
    if output:
        figures = {"seconds": times_s, "memory_mb": memory_mb, "machine": machine}
        output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def compose_parts(generator: str, device: str) -> dict[str, Any]:
    register_resolvers()
    with initialize_config_dir(str(resource_dir("configs").resolve()), version_base="1.3"):
        overrides = ["style=starry_night", f"generator={generator}", "output_dir=."]
        run = compose("train", overrides).run.module
    torch.manual_seed(0)
    module = instantiate(run, _convert_="all").to(device)
    return {"generator": module.generator, "loss": module.loss, "optimizer": module.make_optimizer}


def plain_step(generator: str, device: str) -> Step:
    parts = compose_parts(generator, device)
    network = parts["generator"].to(memory_format=torch.contiguous_format)
    return PlainStep(network, parts["loss"].network, parts["loss"].style.to(device))


def our_step(generator: str, device: str) -> Step:
    """StyleTransferModule.training_step, with what Lightning does around it."""
    parts = compose_parts(generator, device)
    network, loss = parts["generator"], parts["loss"]
    optimizer = parts["optimizer"](network.parameters())
    low = best_precision(device) != "32"

    def step(photos: torch.Tensor) -> float:
        photos = photos.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=low):
            targets = loss.content_targets(photos)
            total = torch.stack(list(loss(network(photos), targets).values())).sum()
        total.backward()
        optimizer.step()
        return total.item()

    return step


STEPS: dict[str, Callable[[str, str], Step]] = {
    "plain float32 loop": plain_step,
    "allaprima": our_step,
}


def duration_s(step: Step, photos: torch.Tensor) -> float:
    start = time.perf_counter()
    step(photos)  # ends with the loss as a number, so the device has finished
    return time.perf_counter() - start


def peak_memory_mb(step: Step, photos: torch.Tensor) -> float:
    if photos.is_cuda:
        step(photos)
        return torch.cuda.max_memory_allocated() / 2**20
    if not Path("/proc/self/clear_refs").exists():
        return math.nan  # only Linux lets a process measure its peak anew
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory_kb("VmRSS")
    step(photos)
    step(photos)
    return (memory_kb("VmHWM") - before) / 1024


def memory_kb(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(name))


def weigh_alone(name: str) -> float:
    command = [sys.executable, *sys.argv, "--weigh", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    typer.run(main)
