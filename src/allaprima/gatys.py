"""Image optimisation: the pixels themselves are trained, as Gatys did."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from allaprima.errors import InputError
from allaprima.image_optimization import (
    Loss,
    MakeOptimizer,
    PixelLBFGS,
    Terms,
    optimize_image,
)
from allaprima.images import resize
from allaprima.losses import PerceptualLoss


class Evaluation(NamedTuple):
    """What is known after one evaluation of a coarse-to-fine optimisation."""

    scale: int  # 0 is the coarsest
    num_done: int  # over all the scales
    value: float
    terms: dict[str, float]
    image: Tensor  # (1, 3, H, W), the best of this scale so far; the next one overwrites it


OnEvaluation = Callable[[Evaluation], object]  # True ends the optimisation


def coarse_to_fine(
    start: Tensor,
    stages: Iterable[tuple[tuple[int, int], Loss]],
    evaluations: Sequence[int],
    optimizer: MakeOptimizer = PixelLBFGS,
    on_evaluation: OnEvaluation = lambda evaluation: None,
) -> Tensor:
    """Optimise at one size after the other, each from the enlarged result of the one before.

    Source: Gatys 2017, section 6.

    Args:
        start: RGB (1, 3, h, w) in [0,1].
        stages: (height, width) and loss of each scale, the coarsest first; taken one by one, so
            that a generator need hold the targets of one scale alone.
        evaluations: of each scale.
        on_evaluation: if it returns True, the rest is only enlarged.
    """
    image, total, stopped = start, 0, False
    for scale, ((size, loss), num) in enumerate(zip(stages, evaluations, strict=True)):
        if image.shape[-2:] != size:
            image = F.interpolate(image, size=size, mode="bilinear").clamp(0, 1)
        latest: Terms = {}
        best = [image]

        def remember(image: Tensor, loss: Loss = loss, latest: Terms = latest) -> Terms:
            latest.update(loss(image))
            return latest

        def tell(
            count: int, value: float, scale: int = scale, latest: Terms = latest, best: list = best
        ) -> bool:
            nonlocal total, stopped
            total += 1
            terms = {name: term.item() for name, term in latest.items()}
            stopped = on_evaluation(Evaluation(scale, total, value, terms, best[-1])) is True
            return stopped

        if not stopped:
            image = optimize_image(image, remember, num, tell, optimizer, best.append)
    return image


def stylize_photo(
    loss: PerceptualLoss,
    photo: Tensor,
    start: Tensor | None = None,
    evaluations: Sequence[int] = (300,),
    optimizer: MakeOptimizer = PixelLBFGS,
    on_evaluation: OnEvaluation = lambda evaluation: None,
) -> Tensor:
    """The photo in the loss's style: (1, 3, H, W) in [0,1], on the loss network's device.

    Source: Gatys 2016, section 2.3; for large photos coarse to fine as in Gatys 2017, section 6:
    each scale is half of the next, for the photo and the style images alike.

    Args:
        photo: RGB (3, H, W) in [0,1] at its working size.
        start: of the photo's size; None is the photo.
        evaluations: per scale, coarsest first.

    Raises:
        InputError: another size of the start; too many scales for a photo or style image so small.
    """
    start = photo if start is None else start
    if start.shape != photo.shape:
        sizes = ["{2} × {1}".format(*image.shape) for image in (start, photo)]
        raise InputError(f"the start is {sizes[0]} px, but the photo {sizes[1]} px; make them one")
    height, width = photo.shape[1:]
    levels = list(reversed(range(_check_evaluations(evaluations))))
    sizes = [(max(1, height >> level), max(1, width >> level)) for level in levels]
    device = loss.network.mean.device

    def stage(level: int, size: tuple[int, int]) -> tuple[tuple[int, int], Loss]:
        content = scale_image(photo, *size)[None].to(device, memory_format=torch.channels_last)
        styles = [scale_image(s, s.shape[1] >> level, s.shape[2] >> level) for s in loss.styles]
        own = loss.for_style(styles, loss.blend) if level and styles else loss
        targets = own.content_targets(content)
        return size, lambda image: own(image, targets)

    first = scale_image(start, *sizes[0])[None].to(device)
    stages = (stage(level, size) for level, size in zip(levels, sizes, strict=True))
    return coarse_to_fine(first, stages, evaluations, optimizer, on_evaluation)


def synthesize_texture(
    loss: PerceptualLoss,
    size_px: int = 512,
    evaluations: Sequence[int] = (150, 100),
    seed: int = 0,
    optimizer: MakeOptimizer = PixelLBFGS,
    on_evaluation: OnEvaluation = lambda evaluation: None,
) -> Tensor:
    """A square texture with the Gram matrices of a painting: (1, 3, size, size) in [0,1].

    Source: Gatys 2015, coarse to fine as in Gatys 2017 (section 6), from seeded noise.

    Args:
        loss: without content layers; its style images are at the scale that is to be matched.
        size_px: side of the texture; divisible by 2 ** (number of scales − 1).
        evaluations: per scale, coarsest first; each scale is half of the next and goes on being
            matched at all the finer ones.

    Raises:
        InputError: a loss with content layers or without a style image; such a size.
    """
    num_scales = _check_evaluations(evaluations)
    if size_px % 2 ** (num_scales - 1):
        raise InputError(
            f"size_px={size_px} with {num_scales} scales must be divisible by "
            f"{2 ** (num_scales - 1)}; choose another size or fewer evaluations"
        )
    if loss.content_layers or loss.style is None:
        raise InputError(
            f"a texture needs a style image and no content layers; got {loss.content_layers}: "
            "give content=PHOTO, or loss.content_weight=0"
        )
    losses = [loss] + [
        loss.for_style([halve(style, level) for style in loss.styles], loss.blend)
        for level in range(1, num_scales)
    ]
    sides = [size_px >> level for level in range(num_scales)]
    loss.check_size(torch.empty(1, sides[-1], sides[-1]), "texture")

    def stage(level: int) -> tuple[tuple[int, int], Loss]:
        def total(image: Tensor) -> Terms:
            return {
                f"{coarser - level}/{name}": term
                for coarser in range(level, num_scales)
                for name, term in losses[coarser](halve(image, coarser - level), {}).items()
            }

        return (sides[level], sides[level]), total

    start = make_noise(sides[-1], sides[-1], loss.style.mean((1, 2)), seed)
    start = start[None].to(loss.network.mean.device)
    stages = map(stage, reversed(range(num_scales)))
    return coarse_to_fine(start, stages, evaluations, optimizer, on_evaluation)


def make_noise(height: int, width: int, color: Tensor, seed: int) -> Tensor:
    """Seeded Gaussian noise of deviation 0.1 around a colour (3,): (3, height, width) in [0,1]."""
    noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))[0]
    return (color.cpu().view(3, 1, 1) + 0.1 * noise).clamp(0, 1)


def scale_image(image: Tensor, height: int, width: int) -> Tensor:
    """(3, H, W) to (3, height, width) on the CPU, by the project's one resize."""
    if image.shape[1:] == (height, width):
        return image
    rgb = np.ascontiguousarray(image.cpu().permute(1, 2, 0).numpy())
    return torch.from_numpy(resize(rgb, max(1, height), max(1, width))).permute(2, 0, 1)


def halve(images: Tensor, times: int) -> Tensor:
    """Average 2×2 pixels into one, ``times`` times; the painting and the texture alike."""
    for _ in range(times):
        images = F.avg_pool2d(images, 2)
    return images


def _check_evaluations(evaluations: Sequence[int]) -> int:
    """The number of scales."""
    if not evaluations or min(evaluations) < 0:
        raise InputError(
            f"evaluations={list(evaluations)}: give a number ≥ 0 for each scale, as in "
            "evaluations=[100,50], coarsest first"
        )
    return len(evaluations)
