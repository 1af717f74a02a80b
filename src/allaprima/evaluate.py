"""The yardstick: how many evaluations of slow optimisation one forward pass is worth."""

import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import allaprima
from allaprima.gatys import make_noise
from allaprima.image_optimization import Terms, optimize_image
from allaprima.losses import PerceptualLoss
from allaprima.tasks import Task

TABLE_COUNTS = (50, 100, 200, 300, 500)  # evaluations: Johnson 2016, table 1, and between
PICTURE_COUNTS = (50, 100, 500)
NUM_TIMED_PASSES = 5

Figures = dict[str, Any]  # what JSON can say
Pictures = list[Tensor | None]  # RGB (3, H, W) in [0,1]; None where a run ended before


def _start_from_noise(photo: Tensor, loss: PerceptualLoss, seed: int) -> Tensor:
    """As gatys.py init=noise: around the style's mean colour."""
    images = photo if loss.style is None else loss.style
    height, width = photo.shape[1:]
    return make_noise(height, width, images.mean((1, 2)), seed).to(photo.device)


def _start_from_content(photo: Tensor, loss: PerceptualLoss, seed: int) -> Tensor:
    return photo


STARTS: dict[str, Callable[[Tensor, PerceptualLoss, int], Tensor]] = {
    "noise": _start_from_noise,
    "content": _start_from_content,
}


@dataclass(frozen=True)
class Plan:
    """How a pass is compared with the optimiser.

    Args:
        starts: names in STARTS.
        evaluations: of L-BFGS, from each start.
        until_beaten: end a run once its loss is no worse than the pass's.
        seed: of the noise.
    """

    starts: tuple[str, ...] = ("noise", "content")
    evaluations: int = 500
    until_beaten: bool = False
    seed: int = 0

    @property
    def table_counts(self) -> list[int]:
        """Evaluations after which the terms are told; the last one always."""
        return sorted({n for n in TABLE_COUNTS if n < self.evaluations} | {self.evaluations})

    @property
    def picture_counts(self) -> list[int]:
        """Evaluations after which the first start's picture is kept."""
        return sorted({n for n in PICTURE_COUNTS if n < self.evaluations} | {self.evaluations})


@dataclass(frozen=True)
class EarlierRuns:
    """The optimiser's runs on a photo from an earlier evaluation, under the same loss and seed.

    Args:
        by_start: figures, as :func:`evaluate_stylization` has them in ``optimizer``.
        until_beaten: they may have ended at the loss of another pass.
        pictures: the first start's, at ``plan.picture_counts``.
    """

    by_start: Figures
    until_beaten: bool
    pictures: Pictures

    def find(self, start: str, plan: Plan, goal: float) -> Figures | None:
        """A run as the plan would have it, judged by another pass's loss; None: there is none."""
        run = self.by_start.get(start)
        if run is None:
            return None
        equivalent = equivalent_evaluations(run["losses"], goal)
        if self.until_beaten and (equivalent is None or not plan.until_beaten):
            return None
        return {**run, "equivalent": equivalent}


def evaluate_stylization(
    generator: nn.Module,
    loss: PerceptualLoss,
    photo: Tensor,
    plan: Plan,
    on_evaluation: Callable[[], object] = lambda: None,
    earlier: EarlierRuns | None = None,
) -> tuple[Figures, Pictures]:
    """Loss terms of a photo, of one pass, and of L-BFGS on its way: all by one float32 loss.

    Source: Johnson 2016, figure 5 and table 1.

    Args:
        photo: RGB (3, H, W) in [0,1], on the device of generator and loss.
        on_evaluation: called after each of the optimiser's.
        earlier: runs that need not be run again.

    Returns:
        Figures: ``photo`` and ``pass`` (terms and their sum, ``loss``), ``pass_s``, and for each
        start in ``optimizer`` its ``losses`` by evaluation, ``equivalent`` (None: not reached),
        ``s_per_evaluation``, and the best so far ``at`` some counts. Pictures: the photo, the
        pass, the first start's at ``plan.picture_counts``.
    """
    content = photo[None].contiguous(memory_format=torch.channels_last)
    targets = loss.content_targets(content)

    def terms_of(image: Tensor) -> Terms:
        return loss(image, targets)

    painted, pass_s = time_pass(generator, content)
    with torch.no_grad():
        of_photo, of_pass = (numbers(terms_of(image)) for image in (content, painted))
    runs = {}
    pictures: Pictures = [photo.cpu(), painted[0].cpu()]
    for name in plan.starts:
        if earlier and (found := earlier.find(name, plan, of_pass["loss"])):
            runs[name] = found
            pictures += earlier.pictures if name == plan.starts[0] else []
            continue
        start = STARTS[name](photo, loss, plan.seed)[None]
        run = Run(terms_of, plan, of_pass["loss"], on_evaluation)
        optimize_image(start, run.loss, plan.evaluations, run.note, on_best=run.keep)
        runs[name] = run.figures()
        if name == plan.starts[0]:
            pictures += [run.pictures.get(count) for count in plan.picture_counts]
    figures = {"photo": of_photo, "pass": of_pass, "pass_s": pass_s, "optimizer": runs}
    return figures, pictures


class Run:
    """One optimisation, watched through the loss that it calls.

    Args:
        goal: the loss of the single pass.
    """

    def __init__(
        self,
        loss: Callable[[Tensor], Terms],
        plan: Plan,
        goal: float,
        on_evaluation: Callable[[], object],
    ):
        self.terms_of, self.plan, self.goal, self.on_evaluation = loss, plan, goal, on_evaluation
        self.losses: list[float] = []
        self.times_s: list[float] = []
        self.latest: Terms = {}
        self.best: tuple[Terms, Tensor] | None = None
        self.at: dict[str, dict[str, float]] = {}
        self.pictures: dict[int, Tensor] = {}

    def loss(self, image: Tensor) -> Terms:
        self.latest = self.terms_of(image)
        return self.latest

    def keep(self, image: Tensor) -> None:
        self.best = {name: term.detach() for name, term in self.latest.items()}, image

    def note(self, count: int, value: float) -> bool:
        self.losses.append(value)
        self.times_s.append(time.perf_counter())
        if self.best and count in self.plan.table_counts:
            self.at[str(count)] = numbers(self.best[0])
        if self.best and count in self.plan.picture_counts:
            self.pictures[count] = self.best[1][0].cpu().clone()  # it is overwritten by the next
        self.on_evaluation()
        return self.plan.until_beaten and value <= self.goal

    def figures(self) -> Figures:
        spans = [b - a for a, b in zip(self.times_s, self.times_s[1:], strict=False)]
        return {
            "equivalent": equivalent_evaluations(self.losses, self.goal),
            "s_per_evaluation": statistics.median(spans) if spans else None,
            "at": self.at,
            "losses": self.losses,
        }


@torch.no_grad()
def evaluate_restoration(
    generator: nn.Module, task: Task, photo: Tensor
) -> tuple[Figures, Pictures]:
    """The task's metrics of one pass (PSNR, SSIM, their baseline's), and its time.

    Returns:
        Figures: ``metrics``, ``pass_s``. Pictures: the task's panels.
    """
    photos = photo[None].contiguous(memory_format=torch.channels_last)
    given = task.input(photos)
    output, pass_s = time_pass(generator, given)
    metrics = {name: value.item() for name, value in task.metrics(output, photos, given).items()}
    panels: Pictures = [panel[0].cpu() for panel in task.panels(output, photos, given)]
    return {"metrics": metrics, "pass_s": pass_s}, panels


@torch.no_grad()
def time_pass(generator: nn.Module, given: Tensor) -> tuple[Tensor, float]:
    """What the generator makes, float32, and the median time that it takes once warm."""
    durations = []
    for _ in range(2 + NUM_TIMED_PASSES):  # the first calls allocate and choose kernels
        start = time.perf_counter()
        output = generator(given)
        output[0, 0, 0, 0].item()  # a number here, so the device has finished
        durations.append(time.perf_counter() - start)
    return output.float(), statistics.median(durations[2:])  # pyright: ignore


def numbers(terms: Terms) -> dict[str, float]:
    """The sum of the terms as ``loss``, summed as the optimiser does, and the terms."""
    total = torch.stack(list(terms.values())).sum()
    return {"loss": total.item(), **{name: term.item() for name, term in terms.items()}}


def equivalent_evaluations(losses: Iterable[float], goal: float) -> int | None:
    """The smallest number of evaluations whose loss is no worse than the goal; None: never."""
    return next((count for count, value in enumerate(losses, 1) if value <= goal), None)


def quantile(counts: Sequence[int | None], q: float) -> float:
    """Linear between neighbours; None counts as infinite, for it lies beyond the last evaluation.

    >>> quantile([10, None, 20], 0.5), quantile([10, None], 0.5)
    (20.0, inf)
    """
    values = sorted(math.inf if count is None else float(count) for count in counts)
    below = q * (len(values) - 1)
    low, high = values[math.floor(below)], values[math.ceil(below)]
    return low if low == high else low + (below - math.floor(below)) * (high - low)


def best_so_far(losses: Iterable[float]) -> list[float]:
    """The running minimum."""
    best, minimum = math.inf, []
    for value in losses:
        best = min(best, value)
        minimum.append(best)
    return minimum


def mean_terms(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each term over photos."""
    return {name: statistics.fmean(r[name] for r in records) for name in records[0]}


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the times depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "allaprima": allaprima.__version__,
    }


def processor_name() -> str:
    """As the operating system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
