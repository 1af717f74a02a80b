"""What evaluate.py evaluates: a generator, and the task and loss of its recipe, built again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from allaprima.errors import InputError
from allaprima.evaluate import (
    EarlierRuns,
    Figures,
    Pictures,
    Plan,
    evaluate_restoration,
    evaluate_stylization,
)
from allaprima.evaluation_files import fingerprint
from allaprima.losses import PerceptualLoss
from allaprima.recipes import checked_part, find_style, read_recipe
from allaprima.styles import read_style
from allaprima.stylize import choose_device
from allaprima.tasks import Stylization, Task
from allaprima.weights import find_generator, load_generator


class Job(NamedTuple):
    """All that an evaluation is of."""

    generator: nn.Module
    task: Task
    loss: PerceptualLoss | None  # of stylisation
    plan: Plan
    settings: Figures  # what decides the figures, so that an earlier run's may be kept
    device: torch.device

    def evaluate(
        self, photo: Tensor, on_evaluation: Any, earlier: EarlierRuns | None
    ) -> tuple[Figures, Pictures]:
        if self.loss is None:
            return evaluate_restoration(self.generator, self.task, photo)
        return evaluate_stylization(
            self.generator, self.loss, photo, self.plan, on_evaluation, earlier
        )


def prepare(cfg: DictConfig, plan: Plan) -> tuple[Job, dict[str, Any]]:
    """Load the generator, and build its task and loss from its recipe, which is returned too."""
    file, device = find_generator(cfg.checkpoint), choose_device(cfg.device)
    generator, metadata = load_generator(file)
    arguments: Any = metadata["arguments"]
    if arguments.get("photo") is False:
        raise InputError(
            f"{file} paints textures and takes no photo, so there is none to compare on; look at "
            "them with scripts/stylize.py --texture"
        )
    recipe = read_recipe(metadata)
    task = build(checked_part(recipe, "task"), "task") if "task" in recipe else Stylization()
    loss, target = None, {}
    if isinstance(task, Stylization):
        loss, target = make_loss(cfg, recipe, metadata, device)
    settings = {
        "checkpoint": fingerprint(file.read_bytes()),
        "task": type(task).__name__,
        **target,
        "starts": list(plan.starts),
        "evaluations": plan.evaluations,
        "until_beaten": plan.until_beaten,
        "seed": plan.seed,
        "device": device.type,
    }
    placed: Any = generator.to(device, memory_format=torch.channels_last)  # pyright: ignore
    return Job(placed, task, loss, plan, settings, device), recipe


def make_loss(
    cfg: DictConfig, recipe: Mapping[str, Any], metadata: Mapping[str, Any], device: torch.device
) -> tuple[PerceptualLoss, Figures]:
    """The loss of the recipe, or the one chosen instead; what decides it, as plain data."""
    parts: dict[str, Any] = {}
    for name in ("loss_network", "loss"):
        chosen: Any = OmegaConf.to_container(cfg[name], resolve=True) if cfg[name] else None
        parts[name] = chosen or checked_part(recipe, name)
    plain = {key: v for key, v in parts["loss"].items() if key not in ("network", "style")}
    style, about = None, {}
    if plain.get("style_layers"):
        record: Any = metadata.get("style")
        image = find_style(record, cfg.style.image)
        style = read_style(image, record.get("size_px"), record.get("blur_px")).to(device)
        pixels = fingerprint(style.cpu().numpy().tobytes())
        about = {"image": Path(image).name, "size_px": record.get("size_px"), "pixels": pixels}
    network = build(parts["loss_network"], "loss_network").to(device)
    loss = build(plain, "loss", network=network, style=style)
    if not isinstance(loss, PerceptualLoss):
        raise InputError(f"loss: {plain['_target_']} is not allaprima.losses.PerceptualLoss")
    return loss.to(device), {"loss": plain, "loss_network": parts["loss_network"], "style": about}


def build(part: Mapping[str, Any], name: str, **objects: Any) -> Any:
    """Instantiate a part of a recipe, which has been checked, or of the configuration."""
    try:
        make: Any = instantiate({**part, "_partial_": True}, _convert_="all")
        return make(**objects)
    except InputError:
        raise
    except (InstantiationException, AttributeError, TypeError, ValueError) as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(f"{name} cannot be built from {dict(part)}: {error}") from error


def check_size(job: Job, size_px: int) -> None:
    """Raise InputError unless photos of this side suit the task, the generator and the loss."""
    try:
        with FakeTensorMode():  # shapes alone, no memory
            given = job.task.input(torch.zeros(1, 3, size_px, size_px))
    except InputError as error:
        raise InputError(f"sizes: {size_px} px do not suit the task: {error}") from error
    least: Any = getattr(job.generator, "min_size_px", 1)
    if min(given.shape[-2:]) < least:
        raise InputError(
            f"sizes: {size_px} px give the generator {given.shape[-1]} px a side, and it needs "
            f"{least}; take a larger size"
        )
    if job.loss is not None:
        job.loss.check_size(given[0], "photo")
