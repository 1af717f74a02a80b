"""Errors of a batch of activations or Gram matrices against their targets, one number an image."""

from torch import Tensor

from allaprima.gram import at_least_float32


def squared_error(value: Tensor, target: Tensor) -> Tensor:
    """Σ (value − target)² of each image: (B, …) -> (B,). Johnson 2016, equation 4."""
    return (at_least_float32(value) - at_least_float32(target)).square().flatten(1).sum(1)


def half_squared_error(value: Tensor, target: Tensor) -> Tensor:
    """½ Σ (value − target)² of each image: (B, …) -> (B,). Gatys 2016, equation 1."""
    return squared_error(value, target) / 2


def gatys_style_error(value: Tensor, target: Tensor, channels: int | None = None) -> Tensor:
    """Σ (value − target)² / 4N² of each image's Gram matrix: (B, N, N) -> (B,).

    Source: Gatys 2016, equation 4, of Gram matrices divided by H·W, the paper's M.
    Differs: each Gram matrix is divided by its own M, so that photo and painting need not be of
    one size.

    Args:
        channels: instead of N; the Keras example has 3 at every layer.
    """
    rows, columns = value.shape[1:]
    return squared_error(value, target) / (4 * (channels**2 if channels else rows * columns))


def mean_squared_error(value: Tensor, target: Tensor) -> Tensor:
    """Mean of (value − target)² of each image: (B, …) -> (B,). Johnson 2016, equation 2."""
    return squared_error(value, target) / value[0].numel()


def relative_error(value: Tensor, target: Tensor) -> Tensor:
    """Σ (value − target)² / Σ target² of each image: (B, …) -> (B,), without unit.

    0 is a perfect match and 1 is what an all-zero value scores, for every layer, network and
    painting alike. A target without energy counts as one of energy 1e-8 per element.
    """
    energy = at_least_float32(target).square().flatten(1).sum(1)
    return squared_error(value, target) / energy.clamp_min(1e-8 * target[0].numel())
