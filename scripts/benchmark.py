"""Time one training step against the plain float32 loop: ``python scripts/benchmark.py``.

Both run in one process, turn by turn, on the same photos; the figure is the ratio of medians.
Nothing else should be running.
"""

import json
import platform
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from allaprima.entrypoints.configuration import best_precision, register_resolvers
from allaprima.resources import resource_dir

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.baseline import PlainStep


def main(
    batch_size: Annotated[int, typer.Option(help="Photos per step.")] = 4,
    crop_px: Annotated[int, typer.Option(help="Side of a photo, px.")] = 256,
    rounds: Annotated[int, typer.Option(help="Timed steps of each; the median counts.")] = 9,
    generator: Annotated[str, typer.Option(help="A name in configs/generator.")] = "johnson",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.")] = None,
) -> None:
    """Compare the default training step with the straightforward one."""
    photos = torch.rand(batch_size, 3, crop_px, crop_px, device=device)
    steps = {
        "plain float32 loop": plain_step(generator, device),
        "allaprima": our_step(generator, device),
    }
    for step in steps.values():  # first calls allocate and choose kernels
        step(photos)
        step(photos)
    times_s: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            synchronize(device)
            start = time.perf_counter()
            step(photos)
            synchronize(device)
            times_s[name].append(time.perf_counter() - start)

    medians = {name: statistics.median(values) for name, values in times_s.items()}
    reference = medians["plain float32 loop"]
    table = Table(title=f"One training step, batch {batch_size} at {crop_px}², {generator}")
    for column in ("", "median s", "min–max s", "photos/s", "times faster"):
        table.add_column(column, justify="right")
    for name, values in times_s.items():
        spread = f"{min(values):.3f}–{max(values):.3f}"
        rate = f"{batch_size / medians[name]:.2f}"
        table.add_row(
            name, f"{medians[name]:.3f}", spread, rate, f"{reference / medians[name]:.2f}"
        )
    Console().print(table)
    machine = {
        "processor": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "precision": best_precision(device),
        "torch": torch.__version__,
        "peak memory of the process, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        // 1024,
    }
    Console().print(machine)
    if output:
        output.write_text(json.dumps({"seconds": times_s, "machine": machine}, indent=1))


def compose_parts(generator: str, device: str) -> dict:
    register_resolvers()
    with initialize_config_dir(str(resource_dir("configs").resolve()), version_base="1.3"):
        overrides = ["style=starry_night", f"generator={generator}", "output_dir=."]
        cfg = compose("train", overrides)
    torch.manual_seed(0)
    parts = instantiate(
        {"generator": cfg.generator, "loss": cfg.loss, "optimizer": cfg.optimizer}, _convert_="all"
    )
    return {
        name: part.to(device) if isinstance(part, torch.nn.Module) else part
        for name, part in parts.items()
    }


def plain_step(generator: str, device: str):
    parts = compose_parts(generator, device)
    loss = parts["loss"]
    return PlainStep(parts["generator"], loss.network, loss.style.to(device))


def our_step(generator: str, device: str):
    """The same arithmetic as StyleTransferModule.training_step and Lightning around it."""
    parts = compose_parts(generator, device)
    network, loss = parts["generator"].to(memory_format=torch.channels_last), parts["loss"]
    optimizer = parts["optimizer"](network.parameters())
    low = best_precision(device) != "32"

    def step(photos: torch.Tensor) -> float:
        photos = photos.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            terms = loss(network(photos), loss.content_targets(photos))
            total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total.item()

    return step


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    typer.run(main)
