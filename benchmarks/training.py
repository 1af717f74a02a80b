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
PLAIN, OURS, RECIPE = "plain float32 loop", "same networks and losses", "default recipe"
OVERRIDES = {OURS: SAME, RECIPE: DEFAULT}


def training_figures(quick: bool) -> dict[str, Any]:
    """All three turn by turn at 256², batch 4; peak memory of each alone; what the time goes to."""
    steps = {name: make_step(name) for name in (PLAIN, *OVERRIDES)}
    seconds = interleave(steps, rounds=3 if quick else 9, warm_up=1 if quick else 2)
    gmac = {name: needed_gmac(name) for name in steps}
    rows = [
        Row(
            name,
            seconds[name],
            BATCH,
            "photos",
            gmac=gmac[name],
            precision="32" if name == PLAIN or best_precision("cpu") == "32" else "bf16",
            memory_mb=None if quick else weigh(name),
        )
        for name in steps
    ]
    section = Section("training", f"One training step, batch {BATCH} at {CROP_PX}²", rows)
    section.goals = goals(*rows)
    section.notes = [
        "Plain: 32-64-128, VGG-16, style relu1_2 … relu4_3, content relu2_2, eager, NCHW, float32. "
        "Second row: the same networks and losses through StyleTransferModule and Lightning. "
        "Third: what train.py does when nothing is chosen. Memory is the peak over what each held "
        "before its first step.",
    ]
    section.extra["profile"] = {name: profile(name) for name in ([OURS] if quick else OVERRIDES)}
    return section.as_dict()


def goals(plain: Row, ours: Row, recipe: Row) -> list[Goal]:
    found = [
        Goal("photos/s, same networks and losses, against plain", ratio(plain, ours), least=4),
        Goal("photos/s, default recipe, against plain", ratio(plain, recipe), least=5),
    ]
    memory = plain.memory_mb and ours.memory_mb and ours.memory_mb / plain.memory_mb
    found.append(
        Goal(
            "peak memory, same networks and losses, of plain's",
            memory,
            most=0.7,
            note="" if memory else "not weighed in this run",
        )
    )
    if not torch.cuda.is_available():
        gpu = "needs a GPU"
        found.append(Goal("H200, same networks", None, least=1000, unit=" photos/s", note=gpu))
        found.append(Goal("H200, default recipe", None, least=1500, unit=" photos/s", note=gpu))
    return found


def make_photos() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(BATCH, 3, CROP_PX, CROP_PX)


def make_step(name: str) -> Callable[[], Any]:
    """One call is one training step on the same photos."""
    torch.manual_seed(0)
    photos = make_photos()
    if name == PLAIN:
        step = plain_step()
        return lambda: step(photos)
    module = build(OVERRIDES[name], "module")
    photos = photos.contiguous(memory_format=torch.channels_last)
    return SteppedTraining(module, photos, accelerator="cpu", precision=best_precision("cpu"))


def plain_step() -> PlainStep:
    loss = build(SAME, "module").loss
    return PlainStep(PlainGenerator(), PlainLoss(loss.network, loss.style))


def weigh(name: str) -> float | None:
    peak = peak_memory("benchmarks.training:make_step", name).over_ready
    return peak if peak == peak else None  # NaN: the system does not tell


def needed_gmac(name: str) -> float:
    """1e9 multiply-adds of one step; the plain one's task is the second's."""
    if name != RECIPE:
        arguments = {"filters": (32, 64, 128), "num_residual_blocks": 5}
        return BATCH * step_gmac(arguments, "vgg16", CONTENT_LAYER, STYLE_LAYERS, CROP_PX)
    module = build(DEFAULT, "module")
    loss, arguments = module.loss, module.generator.arguments
    content = max(loss.content_layers)
    network = loss.network.architecture
    return BATCH * step_gmac(arguments, network, content, loss.style_layers, CROP_PX)


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
