"""Gram matrix, content, style and total variation losses, and the perceptual loss they make.

Statistics and losses are float32, whatever the precision of the activations.
"""

from collections.abc import Callable, Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from allaprima.errors import InputError
from allaprima.loss_network import LossNetwork

Error = Callable[[Tensor, Tensor], Tensor]  # (value, target), one batch each -> (B,)


def gram_matrix(features: Tensor, divide_by: str = "chw") -> Tensor:
    """Correlations between channels, summed over positions: (B, C, H, W) -> (B, C, C), float32.

    Source: Gatys 2016, equation 3 (``divide_by="one"``: the plain sum); Johnson 2016, equation
    3 (``"chw"``: divided by C·H·W); Ulyanov 2016, equation 2 (``"hw"``: divided by H·W).

    Raises:
        InputError: another ``divide_by``.
    """
    num_channels, height, width = features.shape[1:]
    divisors = {"one": 1, "hw": height * width, "chw": num_channels * height * width}
    if divide_by not in divisors:
        raise InputError(f"gram divide_by={divide_by}; choose one of {', '.join(divisors)}")
    return _Gram.apply(features, 1 / divisors[divide_by])


class _Gram(torch.autograd.Function):
    """scale · FᵀF. Its gradient as one product, where autograd would make two and a sum."""

    @staticmethod
    def forward(ctx, features: Tensor, scale: float) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(features)
        ctx.scale = scale
        with torch.autocast(features.device.type, enabled=False):
            f = _positions_by_channels(features)
            return torch.baddbmm(f.new_zeros(()), f.mT, f, beta=0, alpha=scale)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        (features,) = ctx.saved_tensors
        with torch.autocast(features.device.type, enabled=False):
            grad = (grad + grad.mT) * ctx.scale
            product = torch.bmm(_positions_by_channels(features), grad)
        batch, channels, height, width = features.shape
        product = product.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return product.to(features.dtype), None


def _positions_by_channels(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H·W, C), float32: a view of channels-last float32 activations."""
    return features.float().permute(0, 2, 3, 1).flatten(1, 2)


def squared_error(value: Tensor, target: Tensor) -> Tensor:
    """Σ (value − target)² of each image: (B, …) -> (B,). Johnson 2016, equation 4."""
    return (value.float() - target.float()).square().flatten(1).sum(1)


def mean_squared_error(value: Tensor, target: Tensor) -> Tensor:
    """Mean of (value − target)² of each image: (B, …) -> (B,). Johnson 2016, equation 2."""
    return squared_error(value, target) / value[0].numel()


def relative_error(value: Tensor, target: Tensor) -> Tensor:
    """Σ (value − target)² / Σ target² of each image: (B, …) -> (B,), without unit.

    0 is a perfect match and 1 is what an all-zero value scores, for every layer, network and
    painting alike. A target without energy counts as one of energy 1e-8 per element.
    """
    energy = target.float().square().flatten(1).sum(1)
    return squared_error(value, target) / energy.clamp_min(1e-8 * target[0].numel())


def total_variation(images: Tensor, pixel_range: float = 1.0, mean: bool = False) -> Tensor:
    """Squared differences of neighbouring pixels, down and across: (B, 3, H, W) -> (B,).

    Source: Johnson 2016, section 3.2, after Mahendran & Vedaldi 2015 with β = 2.

    Args:
        pixel_range: range that the papers' weights assume (255); the images are in [0,1].
        mean: average over pixels and channels instead of the sum, so that it does not grow with
            the image.
    """
    x = images.float() * pixel_range
    down = (x[..., 1:, :] - x[..., :-1, :]).square().sum((1, 2, 3))
    across = (x[..., :, 1:] - x[..., :, :-1]).square().sum((1, 2, 3))
    return (down + across) / (x[0].numel() if mean else 1)


class PerceptualLoss(nn.Module):
    """Content, style and total variation of a stylised photo, every term by layer.

    Source: Gatys 2016, equation 7; Johnson 2016, section 3.

    The terms of :meth:`forward` are weighted, so that the loss is their plain sum:
    ``content_weight · Σ_l w_l · content_error`` and so on, each a mean over the batch.

    Args:
        network: where activations come from.
        style: the style image, RGB (3, H, W) in [0,1], already at its working size.
        content_layers, style_layers: weight of each layer; may be empty. A layer of weight 0 is
            not computed.
        content_weight, style_weight, total_variation_weight: of the three parts.
        gram: (B, C, H, W) -> (B, C, C).
        content_error, style_error: (value, target) -> (B,).
        variation: (B, 3, H, W) -> (B,).

    Raises:
        InputError: an unknown layer, a negative weight, or weights that are all zero.
    """

    def __init__(
        self,
        network: LossNetwork,
        style: Tensor,
        content_layers: Mapping[str, float],
        style_layers: Mapping[str, float],
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        total_variation_weight: float = 0.0,
        gram: Callable[[Tensor], Tensor] = gram_matrix,
        content_error: Error = mean_squared_error,
        style_error: Error = squared_error,
        variation: Callable[[Tensor], Tensor] = total_variation,
    ):
        super().__init__()
        network.check_layers([*content_layers, *style_layers])
        weights = [content_weight, style_weight, total_variation_weight]
        weights += [*content_layers.values(), *style_layers.values()]
        self.network = network
        self.content_layers = _times(content_weight, content_layers)
        self.style_layers = _times(style_weight, style_layers)
        some_term = self.content_layers or self.style_layers or total_variation_weight
        if min(weights) < 0 or not some_term:
            raise InputError(f"loss weights must be ≥ 0 and leave a term > 0; got {weights}")
        self.total_variation_weight = total_variation_weight
        self.gram, self.variation = gram, variation
        self.content_error, self.style_error = content_error, style_error
        self.style = style
        self.target_grams = nn.ParameterDict()  # moves with the module; never trained
        if self.style_layers:
            with torch.no_grad():
                activations = network(style[None], list(self.style_layers))
                for layer, activation in activations.items():
                    self.target_grams[layer] = nn.Parameter(gram(activation), requires_grad=False)

    def content_targets(self, content: Tensor) -> dict[str, Tensor]:
        """The photo's activations in the content layers; no layer beyond them is computed."""
        if not self.content_layers:
            return {}
        with torch.no_grad():
            return self.network(content, list(self.content_layers))

    def forward(self, stylized: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms ``{"content/relu3_3": …, "style/relu1_2": …, "total_variation": …}``.

        Args:
            stylized: RGB (B, 3, H, W) in [0,1].
            targets: what :meth:`content_targets` gave for the photos.
        """
        layers = list(dict.fromkeys(chain(self.content_layers, self.style_layers)))
        activations = self.network(stylized, layers) if layers else {}
        terms = {}
        for layer, weight in self.content_layers.items():
            error = self.content_error(activations[layer], targets[layer])
            terms[f"content/{layer}"] = weight * error.mean()
        for layer, weight in self.style_layers.items():
            gram, target = self.gram(activations[layer]), self.target_grams[layer]
            terms[f"style/{layer}"] = weight * self.style_error(gram, target).mean()
        if self.total_variation_weight:
            variation = self.variation(stylized).mean()
            terms["total_variation"] = self.total_variation_weight * variation
        return terms


def _times(weight: float, layers: Mapping[str, float]) -> dict[str, float]:
    return {layer: weight * w for layer, w in layers.items() if weight * w}
