"""Content, style and total variation losses, and the perceptual loss they make.

Statistics and losses are float32, whatever the precision of the activations (float64 stays).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allaprima.distances import (
    gatys_style_error,
    half_squared_error,
    mean_squared_error,
    relative_error,
    squared_error,
)
from allaprima.errors import InputError
from allaprima.gram import at_least_float32, gram_matrix
from allaprima.layer_weights import check_pairs, split_pair
from allaprima.loss_network import LossNetwork, Padding
from allaprima.pixel_terms import PixelTerms
from allaprima.variation import total_variation

__all__ = [
    "PerceptualLoss",
    "gatys_style_error",
    "gram_matrix",
    "half_squared_error",
    "mean_squared_error",
    "relative_error",
    "squared_error",
    "total_variation",
]

_OF_ONE_LOSS = {"self", "__class__", "style", "blend"}  # arguments that for_style() does not keep
Unit = Literal["one", "style"]
Error = Callable[[Tensor, Tensor], Tensor]  # (value, target), one batch each -> (B,)


class PerceptualLoss(nn.Module):
    """Content, style and total variation of a stylised photo, every term by layer.

    Source: Gatys 2016, equation 7; Johnson 2016, section 3.

    The terms of :meth:`forward` are weighted, so that the loss is their plain sum:
    ``content_weight · Σ_l w_l · content_error`` and so on, each a mean over the batch.

    Args:
        network: where activations come from.
        style: the style image, RGB (3, H, W) in [0,1], already at its working size; or several,
            of any sizes; None where no style layer has a weight.
        content_layers, style_layers: weight of each layer; may be empty. A layer of weight 0 is
            not computed. A style layer ``"relu2_1*relu1_2"`` is the correlation of two layers,
            the deeper first. Style weights may be negative beside positive ones
            (:func:`allaprima.layer_weights.difference_chain`).
        content_weight, style_weight, total_variation_weight: of the three parts.
        pattern_weight: of :func:`allaprima.spectrum.pattern_error`, of our own.
        palette_weight: of :func:`allaprima.palette.palette_error`, as a share of the variance of
            the style image's colours.
        tone_weight: of :func:`allaprima.tone.tone_error`, of our own.
        gram: (B, C, H, W) -> (B, C, C), and with ``other`` for pairs of layers.
        content_error, style_error: (value, target) -> (B,).
        variation: (B, 3, H, W) -> (B,).
        blend: weight of each style image in the mean of their Gram matrices; equal if None.
        style_scales: weight of the style error of pictures reduced so many times, painting and
            picture alike, by averaging; at 2, a layer sees strokes twice as large. The terms are
            ``style/relu1_2@2`` and so on.
        content_unit: "one", or "style": a layer's content error counts in mean squares of the
            style image's activations there, so that one weight means the same for every painting
            and no photo counts for more than another.
        padding: of the network's convolutions, for the painting too. "zeros", as VGG was trained:
            there is an edge around the picture, and what lies along it is seen with it. "reflect":
            the picture goes on, and all of it counts alike.

    Raises:
        InputError: an unknown layer, a negative weight, weights that are all zero, no style
            image for the style layers, or one too small for them, a blend of another length, a
            padding of no such name.
    """

    def __init__(
        self,
        network: LossNetwork,
        style: Tensor | Sequence[Tensor] | None,
        content_layers: Mapping[str, float],
        style_layers: Mapping[str, float],
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        total_variation_weight: float = 0.0,
        pattern_weight: float = 0.0,
        palette_weight: float = 0.0,
        tone_weight: float = 0.0,
        gram: Callable[..., Tensor] = gram_matrix,
        content_error: Error = mean_squared_error,
        style_error: Error = squared_error,
        variation: Callable[[Tensor], Tensor] = total_variation,
        blend: Sequence[float] | None = None,
        style_scales: Mapping[int, float] | None = None,
        content_unit: Unit = "one",
        padding: Padding = "zeros",
    ):
        options = locals().copy()
        super().__init__()
        self._options = {k: v for k, v in options.items() if k not in _OF_ONE_LOSS}
        style_scales = {1: 1.0} if style_scales is None else style_scales
        network.check_layers([*content_layers, *chain(*map(split_pair, style_layers))])
        check_pairs(style_layers, network.layers)
        of_pixels = {
            "total_variation": total_variation_weight,
            "pattern": pattern_weight,
            "palette": palette_weight,
            "tone": tone_weight,
        }
        if padding not in get_args(Padding):
            raise InputError(f"loss.padding={padding}: choose {' or '.join(get_args(Padding))}")
        self.padding: Padding = padding
        weights = [content_weight, style_weight, *of_pixels.values(), *content_layers.values()]
        self.network = network
        self.content_layers = _times(content_weight, content_layers)
        self.style_layers = _times(style_weight, style_layers)
        self.style_scales = {int(k): float(w) for k, w in style_scales.items() if w}
        if not self.style_scales or min(*self.style_scales.values(), *self.style_scales) <= 0:
            raise InputError(
                f"loss.style_scales={dict(style_scales)}: whole numbers from 1, with weights > 0, "
                "such as {1: 0.5, 2: 0.5}"
            )
        some_term = self.content_layers or self.style_layers or any(of_pixels.values())
        some_attracts = not self.style_layers or max(self.style_layers.values()) > 0
        if not (all(weight >= 0 for weight in weights) and some_term and some_attracts):
            raise InputError(
                "loss weights must be ≥ 0 and leave a term > 0 (of style layers, some may be < 0 "
                f"beside one > 0); got {weights} and style layers {dict(style_layers)}"
            )
        self.gram, self.content_error, self.style_error = gram, content_error, style_error
        parts = chain(*map(split_pair, self.style_layers))
        self._style_parts = list(dict.fromkeys(parts))  # layers of the network
        self.styles = [style] if isinstance(style, Tensor) else list(style or [])
        self.target_grams = nn.ParameterDict()  # moves with the module; never trained
        self.blend = _normalized(blend, len(self.styles))
        self.content_units = dict.fromkeys(self.content_layers, 1.0)
        if _counts_in_styles(content_unit, len(self.styles)):
            self._measure_content_units()
        if self.style_layers:
            self._keep_targets()
        self.pixels = PixelTerms(of_pixels, self.styles, self.blend, variation).to(network.mean)

    @property
    def style(self) -> Tensor | None:
        """The style image, or the first of them."""
        return self.styles[0] if self.styles else None

    @property
    def layers(self) -> list[str]:
        """The layers of the network that a call needs."""
        return list(dict.fromkeys([*self.content_layers, *self._style_parts]))

    def for_style(
        self, style: Tensor | Sequence[Tensor], blend: Sequence[float] | None = None
    ) -> "PerceptualLoss":
        """The same loss, network and weights, with another style image or several."""
        return PerceptualLoss(style=style, blend=blend, **self._options)

    @torch.no_grad()
    def _measure_content_units(self) -> None:
        """What the content error of each layer is divided by."""
        units = dict.fromkeys(self.content_layers, 0.0)
        for style, share in zip(self.styles, self.blend, strict=True):
            self.network.check_size(style, list(units), "style image", self.padding)
            activations = self.activations(style[None].to(self.network.mean), units)
            for layer in units:
                units[layer] += share * at_least_float32(activations[layer]).square().mean().item()
        self.content_units = {layer: max(unit, 1e-8) for layer, unit in units.items()}

    @torch.no_grad()
    def _keep_targets(self) -> None:
        if not self.styles:
            raise InputError(f"style layers {', '.join(self.style_layers)} need a style image")
        for style, share in zip(self.styles, self.blend, strict=True):
            images = style[None].to(self.network.mean)
            for scale in self.style_scales:
                reduced = F.avg_pool2d(images, scale)
                parts = self._style_parts
                self.network.check_size(reduced[0], parts, "style image", self.padding)
                activations = self.activations(reduced, parts)
                for name, gram in self._grams(activations, scale).items():
                    mean = self.target_grams.get(name, 0) + share * gram
                    self.target_grams[name] = nn.Parameter(mean, requires_grad=False)

    def _grams(self, activations: Mapping[str, Tensor], scale: int) -> dict[str, Tensor]:
        """The Gram matrix of every style layer, or of a pair; its term's name."""
        grams = {}
        for name in self.style_layers:
            layer, *other = (activations[part] for part in split_pair(name))
            gram = self.gram(layer, other=other[0]) if other else self.gram(layer)
            grams[_at_scale(name, scale)] = gram
        return grams

    def activations(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """The network's, of (B, 3, H, W), padded as this loss has it."""
        return self.network(images, list(layers), self.padding)

    def check_size(self, image: Tensor, what: str) -> None:
        """Raise InputError unless (…, H, W) is large enough for every layer, at every scale."""
        self.network.check_size(image, self.layers, what, self.padding)
        scale = max(self.style_scales) if self.style_layers else 1
        reduced = image[..., ::scale, ::scale]
        self.network.check_size(reduced, self._style_parts, what, self.padding)

    def content_targets(self, content: Tensor) -> dict[str, Tensor]:
        """The photo's activations in the content layers, and no layer beyond; its tones, "tone".

        Raises:
            InputError: the photo is too small for the loss's layers.
        """
        self.check_size(content, "photo")
        if not self.content_layers:
            return self.pixels.targets(content)
        with torch.no_grad():
            targets = self.activations(content, self.content_layers)
        return targets | self.pixels.targets(content)

    def forward(self, stylized: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms ``{"content/relu3_3": …, "style/relu1_2": …, "total_variation": …}``.

        Args:
            stylized: RGB (B, 3, H, W) in [0,1].
            targets: what :meth:`content_targets` gave for the photos.
        """
        layers = self.layers if 1 in self.style_scales else list(self.content_layers)
        activations = self.activations(stylized, layers) if layers else {}
        terms = {}
        for layer, weight in self.content_layers.items():
            error = self.content_error(activations[layer], targets[layer])
            terms[f"content/{layer}"] = weight * error.mean() / self.content_units[layer]
        for scale, share in self.style_scales.items() if self.style_layers else ():
            if scale > 1:
                activations = self.activations(F.avg_pool2d(stylized, scale), self._style_parts)
            for layer, gram in self._grams(activations, scale).items():
                error = self.style_error(gram, self.target_grams[layer])
                weight = share * self.style_layers[layer.split("@")[0]]
                terms[f"style/{layer}"] = weight * error.mean()
        return terms | self.pixels(stylized, targets)


def _counts_in_styles(unit: Unit, num_styles: int) -> bool:
    if unit == "one":
        return False
    if unit != "style" or not num_styles:
        raise InputError(
            f"loss.content_unit={unit} with {num_styles} style images; choose one, or style "
            "where there is a style image"
        )
    return True


def _at_scale(layer: str, scale: int) -> str:
    return layer if scale == 1 else f"{layer}@{scale}"


def _times(weight: float, layers: Mapping[str, float]) -> dict[str, float]:
    return {layer: weight * w for layer, w in layers.items() if weight * w}


def _normalized(blend: Sequence[float] | None, num_styles: int) -> list[float]:
    shares = [1.0] * num_styles if blend is None else list(blend)
    if len(shares) != num_styles:
        raise InputError(
            f"style.blend={shares} has {len(shares)} weights for {num_styles} style images: give "
            "one for each"
        )
    if num_styles and not (min(shares) >= 0 and sum(shares) > 0):
        raise InputError(f"style.blend={shares}: weights must be ≥ 0 and one of them > 0")
    return [share / sum(shares) for share in shares]
