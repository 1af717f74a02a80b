"""One training step of ours against the plain float32 loop of ``benchmarks/baseline.py``."""

import itertools
from collections.abc import Callable
from typing import Any

import torch

from allaprima.entrypoints.configuration import best_precision
from allaprima.lightning import pl
from benchmarks.arithmetic import step_gmac
from benchmarks.baseline import CONTENT_LAYER, STYLE_LAYERS, PlainGenerator, PlainLoss, PlainStep
from benchmarks.figures import Goal, Row, Section, interleave, ratio
from benchmarks.memory import peak_memory
from benchmarks.recipes import DEFAULT, SAME, build
from benchmarks.stepping import SteppedTraining, plain_trainer

BATCH, CROP_PX = 4, 256
GPU_BATCHES = (4, 16, 64)
PLAIN, OURS, RECIPE = "plain float32 loop", "same networks and losses", "default recipe"
OVERRIDES = {OURS: SAME, RECIPE: DEFAULT}
NAMES = (PLAIN, OURS, RECIPE)


def training_figures(quick: bool) -> dict[str, Any]:
    """All three turn by turn at 256²; peak memory of each alone; what the time goes to.

    Args:
        quick: two rounds with one photo, and no more than times.
    """
    tables = [on_cpu(quick)]
    if torch.cuda.is_available():
        tables.append(on_gpu(quick))
    return {"sections": [table.as_dict() for table in tables]}


def on_cpu(quick: bool) -> Section:
    batch = 1 if quick else BATCH
    steps = {name: make_step(name, batch=batch) for name in NAMES}
    seconds = interleave(steps, rounds=2 if quick else 9, warm_up=1 if quick else 2)
    rows = [make_row(name, seconds[name], batch=batch) for name in NAMES]
    if not quick:
        for row in rows:
            row.memory_mb = weigh(row.name)
    section = Section("training", f"One training step, batch {batch} at {CROP_PX}²", rows)
    section.goals = goals(*rows)
    section.notes = [
        "Plain: 32-64-128, VGG-16, style relu1_2 … relu4_3, content relu2_2, eager, NCHW, float32. "
        "Second row: the same networks and losses through StyleTransferModule and Lightning. "
        "Third: what train.py does when nothing is chosen. Memory is the peak over what each held "
        "before its first step.",
    ]
    section.extra["profile"] = {} if quick else {name: profile(name) for name in OVERRIDES}
    return section


def on_gpu(quick: bool) -> Section:
    """Every batch size in rows of its own; the goals are of the best."""
    rows = []
    for batch in GPU_BATCHES:
        steps = {name: make_step(name, "cuda", batch) for name in NAMES}
        seconds = interleave(steps, rounds=5 if quick else 20, warm_up=5)
        rows += [make_row(name, seconds[name], "cuda", batch) for name in NAMES]
        for step in steps.values():
            if isinstance(step, SteppedTraining):
                step.close()
    plain, ours, recipe = (max(rows[i::3], key=lambda row: row.rate) for i in range(3))
    section = Section("training", f"One training step at {CROP_PX}² on a GPU", rows, plain.name)
    section.goals = [
        Goal("GPU: same networks and losses against plain, best batch", ratio(plain, ours), 4),
        Goal("GPU: same networks and losses", ours.rate, 1000, unit=" photos/s"),
        Goal("GPU: default recipe", recipe.rate, 1500, unit=" photos/s"),
    ]
    return section


def make_row(name: str, seconds: list[float], device: str = "cpu", batch: int = BATCH) -> Row:
    low = name != PLAIN and best_precision(device) != "32"
    precision = "bf16" if low else "32"
    return Row(
        name if device == "cpu" else f"{name}, batch {batch}",
        seconds,
        batch,
        "photos",
        gmac=batch * needed_gmac(name),
        precision=precision if device == "cpu" else f"{device} {precision}",
    )


def goals(plain: Row, ours: Row, recipe: Row) -> list[Goal]:
    memory = plain.memory_mb and ours.memory_mb and ours.memory_mb / plain.memory_mb
    found = [
        Goal("photos/s, same networks and losses, against plain", ratio(plain, ours), least=4),
        Goal("photos/s, default recipe, against plain", ratio(plain, recipe), least=5),
        Goal(
            "peak memory, same networks and losses, of plain's",
            memory,
            most=0.7,
            note="" if memory else "not weighed in this run",
        ),
    ]
    if not torch.cuda.is_available():
        gpu = "needs a GPU"
        found.append(Goal("H200, same networks", None, least=1000, unit=" photos/s", note=gpu))
        found.append(Goal("H200, default recipe", None, least=1500, unit=" photos/s", note=gpu))
    return found


def make_photos(batch: int = BATCH) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(batch, 3, CROP_PX, CROP_PX)


def make_step(name: str, device: str = "cpu", batch: int = BATCH) -> Callable[[], Any]:
    """One call is one training step on the same photos."""
    torch.manual_seed(0)
    photos = make_photos(batch).to(device)
    if name == PLAIN:
        step = plain_step(device)
        return lambda: step(photos)
    module = build(OVERRIDES[name], "module")
    photos = photos.contiguous(memory_format=torch.channels_last)
    accelerator = "gpu" if device == "cuda" else device
    return SteppedTraining(
        module, photos, accelerator=accelerator, devices=1, precision=best_precision(device)
    )


def plain_step(device: str = "cpu") -> PlainStep:
    loss = build(SAME, "module").loss.to(device)
    plain = PlainLoss(loss.network, loss.style.to(device))
    return PlainStep(PlainGenerator().to(device), plain)


def weigh(name: str) -> float | None:
    peak = peak_memory("benchmarks.training:make_step", name).over_ready
    return peak if peak == peak else None  # NaN: the system does not tell


def needed_gmac(name: str) -> float:
    """1e9 multiply-adds of a photo's share of a step; the plain one's task is the second's."""
    if name != RECIPE:
        arguments = {"filters": (32, 64, 128), "num_residual_blocks": 5}
        return step_gmac(arguments, "vgg16", CONTENT_LAYER, STYLE_LAYERS, CROP_PX)
    module = build(DEFAULT, "module")
    loss, arguments = module.loss, module.generator.arguments
    content = max(loss.content_layers)
    return step_gmac(arguments, loss.network.architecture, content, loss.style_layers, CROP_PX)


def profile(name: str, most: int = 12) -> list[dict[str, Any]]:
    """Share of one step's time by operator, the largest first: [{"name", "share", "calls"}, …]."""
    watch = _ProfileStep(number=2)
    trainer = plain_trainer(
        accelerator="cpu", precision=best_precision("cpu"), max_steps=3, callbacks=[watch]
    )
    photos = make_photos().contiguous(memory_format=torch.channels_last)
    trainer.fit(build(OVERRIDES[name], "module"), itertools.repeat(photos))
    operators = sorted(watch.operators, key=lambda o: o.self_cpu_time_total, reverse=True)
    total = sum(operator.self_cpu_time_total for operator in operators)
    return [
        {"name": o.key, "share": o.self_cpu_time_total / total, "calls": o.count}
        for o in operators[:most]
    ]


class _ProfileStep(pl.Callback):
    def __init__(self, number: int):
        self.number, self.operators = number, []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, number: int) -> None:
        if number == self.number:
            self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
            self.profiler.start()

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, n: int) -> None:
        if n == self.number:
            self.profiler.stop()
            self.operators = list(self.profiler.key_averages())
