"""Image optimisation: the pixels themselves are trained, as Gatys did."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from allaprima.errors import InputError
from allaprima.loss_network import LossNetwork
from allaprima.losses import PerceptualLoss, relative_error, total_variation

Terms = dict[str, Tensor]


def optimize_image(
    start: Tensor,
    loss: Callable[[Tensor], Terms],
    num_evaluations: int,
    on_evaluation: Callable[[int, float], None] = lambda evaluation, value: None,
) -> Tensor:
    """Minimise the sum of the loss's terms over the pixels by L-BFGS.

    Source: Gatys 2016, section 2; strong Wolfe line search (Nocedal & Wright 2006, ch. 3).
    Differs: pixels are put back into [0,1] at every restart (25 iterations) and at the end.

    Args:
        start: RGB (1, 3, H, W) in [0,1]; left as it is.
        num_evaluations: evaluations of loss and gradient; the line search may take a few more.
        on_evaluation: called with the count and the loss after each.
    """
    image = start.clone(memory_format=torch.contiguous_format).requires_grad_()  # L-BFGS's layout
    count = 0

    def evaluate() -> Tensor:
        nonlocal count
        image.grad = None
        terms = loss(image.contiguous(memory_format=torch.channels_last))
        value = torch.stack(list(terms.values())).sum()
        value.backward()
        count += 1
        on_evaluation(count, value.item())
        return value

    while count < num_evaluations:
        remaining = num_evaluations - count
        optimizer = torch.optim.LBFGS(
            [image],
            max_iter=25,
            max_eval=remaining,
            history_size=25,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(evaluate)
        with torch.no_grad():
            image.clamp_(0, 1)
    return image.detach()


def synthesize_texture(
    network: LossNetwork,
    style: Tensor,
    style_layers: dict[str, float],
    size_px: int = 512,
    evaluations: Sequence[int] = (150, 100),
    total_variation_weight: float = 1e-3,
    seed: int = 0,
    on_evaluation: Callable[[int, float], None] = lambda evaluation, value: None,
) -> Tensor:
    """A square texture with the Gram matrices of a painting: (1, 3, size, size) in [0,1].

    Source: Gatys 2015, coarse to fine as in Gatys 2017 (section 6), from seeded noise.

    Args:
        style: RGB (3, H, W) in [0,1] at the scale at which it will be trained on.
        style_layers: weight of each layer; errors are relative to the painting's own.
        size_px: side of the texture; divisible by 2 ** (number of scales − 1).
        evaluations: per scale, coarsest first; each scale is half of the next and goes on being
            matched at all the finer ones.
    """
    num_scales = len(evaluations)
    if size_px % 2 ** (num_scales - 1):
        raise InputError(
            f"size_px={size_px} with {num_scales} scales must be divisible by "
            f"{2 ** (num_scales - 1)}; choose another size or fewer evaluations"
        )
    losses = [
        PerceptualLoss(
            network,
            style=halve(style, level),
            content_layers={},
            style_layers=style_layers,
            total_variation_weight=total_variation_weight,
            style_error=relative_error,
            variation=partial(total_variation, mean=True),
        )
        for level in range(num_scales)
    ]
    side = size_px >> (num_scales - 1)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 3, side, side, generator=generator)
    image = (style.mean((1, 2)).view(1, 3, 1, 1) + 0.1 * noise.to(style.device)).clamp(0, 1)
    for level, count in zip(reversed(range(num_scales)), evaluations, strict=True):
        if image.shape[-1] < size_px >> level:
            image = F.interpolate(image, scale_factor=2, mode="bilinear").clamp(0, 1)

        def loss(image: Tensor, level: int = level) -> Terms:
            return {
                f"{coarser - level}/{name}": term
                for coarser in range(level, num_scales)
                for name, term in losses[coarser](halve(image, coarser - level), {}).items()
            }

        image = optimize_image(image, loss, count, on_evaluation)
    return image


def halve(images: Tensor, times: int) -> Tensor:
    """Average 2×2 pixels into one, ``times`` times; the painting and the texture alike."""
    for _ in range(times):
        images = F.avg_pool2d(images, 2)
    return images
