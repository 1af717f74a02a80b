"""Training a generator against a perceptual loss: step, optimiser, averaged weights."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from allaprima.errors import InputError
from allaprima.lightning import TorchCheckpointIO, pl
from allaprima.losses import PerceptualLoss
from allaprima.schedules import Schedule
from allaprima.tasks import Task
from allaprima.weights import FORMAT_VERSION, describe_generator

NOISE = 2 / 255  # of a camera, in photos whose painting shall be steady


class StyleTransferModule(pl.LightningModule):
    """One generator, one task, one loss.

    Source: Johnson 2016, equation 5: the expected weighted sum of losses is minimised over
    photos by stochastic gradient descent.
    Differs: validation, pictures and the finished generator use an exponential moving average
    of the weights.

    Args:
        generator: what the task gives to what is compared with the photos.
        loss: its weighted terms are summed.
        optimizer: parameters to optimiser; its learning rate is the schedule's 1.
        schedule: (step, progress in [0,1]) to a factor of the learning rate.
        average_decay: of the moving average, reached after a warm-up; 0 is no average.
        task: what the generator is given, and what is told of its output.
        record: what the finished file shall say of itself (style, recipe); plain data.
        jitter_px: the loss sees output and photos from a random pixel on, up to so many to the
            right and below, another in each step (Mordvintsev 2015, for single pictures). Else
            the generator learns the grid on which the loss network pools, and paints it.
        steadiness_weight: of :func:`unsteadiness`, a term of our own beside the loss's; 0 leaves
            it out. Else the generator is given parts of the photos with a camera's noise (2/255),
            and shall paint them as it does within the whole photo, to the border. For photos that
            the output has the size of.
    """

    def __init__(
        self,
        generator: nn.Module,
        loss: PerceptualLoss,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Schedule,
        average_decay: float,
        task: Task,
        record: dict[str, Any] | None = None,
        jitter_px: int = 0,
        steadiness_weight: float = 0.0,
    ):
        super().__init__()
        if type(jitter_px) is not int or jitter_px < 0:
            raise InputError(f"run.module.jitter_px={jitter_px} must be a whole number from 0")
        if not steadiness_weight >= 0:
            raise InputError(f"run.module.steadiness_weight={steadiness_weight} must be ≥ 0")
        self.jitter_px, self.steadiness_weight = jitter_px, steadiness_weight
        self.generator = generator.to(memory_format=torch.channels_last)  # pyright: ignore
        self.average = AveragedModel(
            generator, multi_avg_fn=_moving_average(average_decay), use_buffers=True
        )
        self.average.requires_grad_(False)
        self.loss, self.task = loss, task
        self.make_optimizer, self.schedule = optimizer, schedule
        self.record = record or {}
        self.photos_seen = 0
        self.budget_progress = 0.0  # set by the TimeBudget callback
        self.terms: dict[str, Tensor] = {}  # of the last step

    @property
    def painter(self) -> nn.Module:
        """The generator with averaged weights, in evaluation mode."""
        return self.average.module.eval()

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        by_steps = self.global_step / self.trainer.max_steps if self.trainer.max_steps > 0 else 0
        return min(1.0, max(by_steps, self.budget_progress))

    def start_from(self, generator: nn.Module) -> None:
        """Begin with the weights of another generator, whatever style it was trained on.

        Its dilations may be others: the weights serve them too, once they are trained on.

        Raises:
            InputError: it is built otherwise.
        """
        theirs, ours = describe_generator(generator), describe_generator(self.generator)
        if "dilations" in ours["arguments"]:
            as_ours = {"dilations": ours["arguments"]["dilations"]}
            theirs["arguments"] = theirs["arguments"] | as_ours
        if theirs != ours:
            raise InputError(
                f"start_from must be built as what is trained: it is {theirs}, not {ours}. "
                "Take another, or start_from=null"
            )
        for begun in (self.generator, self.average.module):
            begun.load_state_dict(generator.state_dict())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.generator.parameters())

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        factor = self.schedule(self.global_step, self.progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
            self.log("learning_rate", group["lr"])

    def training_step(self, photos: Tensor, batch_idx: int) -> Tensor:
        self.photos_seen += len(photos) * self.trainer.world_size
        given, shown = photos, None
        if self.steadiness_weight:
            photos, shown = self.part_of(photos)
            given = photos + NOISE * torch.randn(photos.shape).to(photos)
        painted = self.generator(self.task.input(given))
        output, compared = self.jitter(painted, photos)
        terms = self.loss(output, self.loss.content_targets(compared))
        if shown is not None:
            terms["steadiness"] = self.steadiness_weight * unsteadiness(painted, shown)
        loss = torch.stack(list(terms.values())).sum()
        self.terms = {"loss": loss.detach(), **{k: v.detach() for k, v in terms.items()}}
        self.log_dict({f"train/{name}": value for name, value in self.terms.items()})
        return loss

    @torch.no_grad()
    def part_of(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """A random part of each photo, and what the painting of the whole shows of it.

        The part is up to 32 px smaller each way (less of photos under 80 px), by multiples of the
        generator's grid.
        """
        height, width = photos.shape[-2:]
        most = most_less_px(min(height, width)) // 4
        y, x = (4 * torch.randint(-most, most + 1, (2,))).tolist()
        rows = slice(max(y, 0), height + min(y, 0))
        part = (..., rows, slice(max(x, 0), width + min(x, 0)))
        return photos[part], self.generator(self.task.input(photos))[part]

    def jitter(self, *images: Tensor) -> list[Tensor]:
        """The same random part of all, ``jitter_px`` smaller each way."""
        most = self.jitter_px
        if not most:
            return list(images)
        height, width = (side - most for side in images[0].shape[-2:])
        y, x = torch.randint(most + 1, (2,)).tolist()
        return [each[..., y : y + height, x : x + width] for each in images]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # Here, since a checkpoint may be written before this module hears that the batch ended.
        self.average.update_parameters(self.generator)

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        # On an accelerator each look waits for the device.
        if self.global_step % (1 if self.device.type == "cpu" else 50) == 0:
            self.check_finite()

    def validation_step(self, photos: Tensor, batch_idx: int) -> Tensor:
        """Log losses and metrics of the averaged generator; return a row of pictures a photo."""
        given = self.task.input(photos)
        output = self.painter(given)
        terms = self.loss(output, self.loss.content_targets(photos))
        values = {"loss": torch.stack(list(terms.values())).sum(), **terms}
        values |= self.task.metrics(output, photos, given)
        values = {f"validation/{name}": value for name, value in values.items()}
        self.log_dict(values, batch_size=len(photos), sync_dist=True)
        return torch.cat([p.float() for p in self.task.panels(output, photos, given)], dim=-1)

    def rehearse(self, size_px: int) -> None:
        """Paint a black photo of that size, and show the loss the smallest part a step may.

        Raises:
            InputError: such photos are not for this task, generator or loss, or these do not fit.
        """
        photos = torch.zeros(1, 3, size_px, size_px)
        given = self.task.input(photos)
        if self.steadiness_weight and given.shape != photos.shape:
            raise InputError(
                f"run.module.steadiness_weight={self.steadiness_weight} compares parts of photos "
                "that the generator is given at their own size; set 0 for this task"
            )
        with torch.no_grad():
            height, width = self.painter(given).shape[-2:]
        self.average.train()  # as it was: Lightning warns of modules that are not
        if (height, width) != (size_px, size_px):
            raise InputError(
                f"generator and task do not fit: photos of {size_px}×{size_px} px come out as "
                f"{width}×{height} px. For super-resolution, take generator=johnson_superres "
                "task=superresolution with one factor in both; else task=stylization"
            )
        least_px = size_px - self.jitter_px
        if self.steadiness_weight:
            least_px -= most_less_px(size_px)
        try:
            self.loss.content_targets(photos[..., :least_px, :least_px])
        except InputError as error:
            raise InputError(f"data.crop_px={size_px} is too small: {error}") from error

    def check_finite(self) -> None:
        """Raise FloatingPointError naming the step and the first term or weight not finite."""
        values = {f"loss term {name}": value for name, value in self.terms.items()}
        values |= {f"weight {name}": p for name, p in self.generator.named_parameters()}
        for name, value in values.items():
            if not torch.isfinite(value.detach()).all():
                raise FloatingPointError(
                    f"{name} is not finite at step {self.global_step}: training stopped. Go on "
                    "from the last checkpoint with a lower optimizer.lr or trainer.precision=32"
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_finite()  # never over a good one
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("loss.")}
        checkpoint["photos_seen"] = self.photos_seen
        checkpoint["random_state"] = torch.get_rng_state()
        checkpoint["allaprima"] = {
            "format_version": FORMAT_VERSION,
            **describe_generator(self.generator),
            "weights": self.painter.state_dict(),
            "metadata": self.record,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        frozen = {k: v for k, v in self.state_dict().items() if k.startswith("loss.")}
        checkpoint["state_dict"] |= frozen
        self.photos_seen = checkpoint["photos_seen"]
        torch.set_rng_state(checkpoint["random_state"])


def most_less_px(side_px: int) -> int:
    """How much smaller than a photo its part may be: leaves the 16 px that a generator takes."""
    return 4 * min(8, (side_px - 16) // 8)


def unsteadiness(painted: Tensor, shown: Tensor) -> Tensor:
    """Mean square of what differs, as a share of the variance: (B, 3, H, W) twice -> ().

    Args:
        painted: parts of photos, with noise.
        shown: the same, painted in their whole photos, without.
    """
    change = painted.float() - shown.float()
    return change.square().mean() / shown.float().var().clamp(min=1e-6)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, moved into place when complete."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        partial = Path(f"{path}.part")
        try:
            super().save_checkpoint(checkpoint, partial, storage_options)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential, but a plain mean at first, so that the start is forgotten in short runs.

    Batch norm's statistics are averaged too, for they are those of the weights; not its counts.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], num_averaged: Tensor | int) -> None:
        if not averages[0].is_floating_point():  # tensors come grouped by type
            torch._foreach_copy_(averages, values)  # pyright: ignore
            return
        count = int(num_averaged)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(averages, values, weight)  # pyright: ignore

    return update
