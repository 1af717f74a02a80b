"""Weights of many style layers by rule, and pairs of layers: Novak & Nikulin's chains.

Each function gives what ``style_layers`` takes, and each can be named in YAML by ``_target_``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from allaprima.errors import InputError


def split_pair(name: str) -> list[str]:
    """``"relu2_1*relu1_2"`` -> both layers; ``"relu2_1"`` -> the one."""
    first, _, second = name.partition("*")
    return [first, second] if second else [first]


def check_pairs(names: Iterable[str], order: Sequence[str]) -> None:
    """Raise InputError unless every pair is two layers, the one later in ``order`` first."""
    for name in names:
        first, *second = split_pair(name)
        if second and order.index(first) <= order.index(second[0]):
            raise InputError(
                f"style layer {name}: a pair is the deeper layer first, then a shallower one; "
                f"write {second[0]}*{first}, or one layer alone"
            )


def geometric_weights(
    layers: Sequence[str], ratio: float = 2.0, last: float = 1.0
) -> dict[str, float]:
    """Each layer weighs ``ratio`` times the one before; the last weighs ``last``.

    Source: Novak & Nikulin 2016, section 3.1: 2^(D − d) for style, d the layer's depth out of D,
    is ``ratio=0.5``: shallow layers weigh most.
    Differs: the article that this project follows has 2^-(12 − (i + 1)) for the layers
    i = 0 … 11 of 13, ``ratio=2`` and ``last=2``: deep layers weigh most.

    Raises:
        InputError: no layers, or a ratio or weight that is not positive.
    """
    if not (layers and ratio > 0 and last > 0):
        raise InputError(
            f"geometric weights need layers, ratio > 0 and last > 0; got {list(layers)}, "
            f"ratio={ratio}, last={last}"
        )
    return {layer: last * ratio ** (i + 1 - len(layers)) for i, layer in enumerate(layers)}


def correlation_chain(weights: Mapping[str, float]) -> dict[str, float]:
    """Pairs of neighbouring layers, each with the weight of its deeper one.

    Source: Novak & Nikulin 2016, section 3 (chained inter-layer correlations), as far as it is
    known: Gram matrices of a layer with the enlarged next replace those within layers.

    Args:
        weights: of at least two layers, the shallowest first.
    """
    layers = _at_least_two(weights)
    return {f"{deep}*{shallow}": weights[deep] for shallow, deep in pairwise(layers)}


def difference_chain(weights: Mapping[str, float]) -> dict[str, float]:
    """Σ w_i (E_i − E_{i+1}) over neighbouring layers, as weights w_l − w_{l−1} of single E_l.

    Source: the article that this project follows, after code that circulates as "chained
    inference"; no correlation of two layers is in it. The sum can be negative. Deep layers, whose
    errors are the smaller, are pushed away from the painting.

    Args:
        weights: of at least two layers, the shallowest first; the last one's is not used.
    """
    layers = _at_least_two(weights)
    chain = dict.fromkeys(layers, 0.0)
    for layer, following in pairwise(layers):
        chain[layer] += weights[layer]
        chain[following] -= weights[layer]
    return chain


def per_picture(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights that make Gram matrices over H·W count as if all were over the picture's pixels.

    Source: the Keras example's style loss, Σ (G − G')² / (4 · 3² · pixels²), G the plain sum. A
    layer of block b has 1/4^(b−1) of the pixels, and the error is a square.
    """
    blocks = {layer: int(re.sub(r"\D*(\d).*", r"\1", layer)) for layer in weights}
    return {layer: weight / 16 ** (blocks[layer] - 1) for layer, weight in weights.items()}


def rescaled(
    weights: Mapping[str, float], means: Mapping[str, float], power: int
) -> dict[str, float]:
    """Weights w / mean^power, that mean on the original network what w does on a rescaled one.

    Source: Gatys 2016, section 2: the network is rescaled so that the mean activation of each
    filter is 1, which its outputs do not notice, but the errors do.
    Differs: one mean for all the filters of a layer.

    Args:
        means: each layer's mean activation on photos.
        power: of activations in the error: 2 for content, 4 for style.
    """
    missing = [layer for layer in weights if not means.get(layer)]
    if missing:
        raise InputError(f"no mean activation of {', '.join(missing)}; known: {', '.join(means)}")
    return {layer: weight / means[layer] ** power for layer, weight in weights.items()}


def _at_least_two(weights: Mapping[str, float]) -> list[str]:
    if len(weights) < 2:
        raise InputError(f"a chain needs at least two layers; got {list(weights)}")
    return list(weights)
