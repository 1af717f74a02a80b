"""Multiply-adds that a network or a training step needs, counted from shapes alone.

Every convolution counts as the direct one, whatever way it is computed: Winograd's do with fewer.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from allaprima.loss_network import ARCHITECTURES
from benchmarks.baseline import PlainGenerator


def layer_gmac(network: nn.Module, height: int, width: int) -> list[float]:
    """1e9 multiply-adds of every convolution in the order of running, for one image."""
    return [
        output.numel() * conv.weight[0].numel() / 1e9
        for conv, _, output in convolutions(network, height, width)
    ]


def convolutions(
    network: nn.Module, height: int, width: int
) -> list[tuple[nn.Conv2d, Tensor, Tensor]]:
    """Every convolution that one image runs through, its input and its output, without numbers."""
    found: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    def note(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append((conv, inputs[0], output))

    network = copy.deepcopy(network).to("meta")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)  # pyright: ignore
    network(torch.empty(1, 3, height, width, device="meta"))
    return found


def generator_gmac(arguments: dict, height: int, width: int) -> list[float]:
    """The same of a :class:`JohnsonGenerator` of these arguments."""
    return layer_gmac(*plain_generator(arguments, height, width))


def generator_traffic_gb(arguments: dict, height: int, width: int, item: int) -> float:
    """1e9 bytes that its convolutions read and write for one image, each input and output once.

    Args:
        item: bytes of a number.
    """
    run = convolutions(*plain_generator(arguments, height, width))
    return item * sum(x.numel() + y.numel() for _, x, y in run) / 1e9


def plain_generator(arguments: dict, height: int, width: int) -> tuple[nn.Module, int, int]:
    """The network, and the size of what it sees: the margin is around the image."""
    around = 2 * arguments.get("margin_px", 0)
    network = PlainGenerator(arguments["filters"], arguments["num_residual_blocks"])
    return network, height + around, width + around


def vgg_gmac(architecture: str, deepest: str, height: int, width: int) -> float:
    """Of the loss network up to a layer such as "relu4_3"."""
    total, num_in = 0.0, 3
    for block, widths in enumerate(ARCHITECTURES[architecture], start=1):
        for index, num_out in enumerate(widths, start=1):
            total += 9 * num_in * num_out * height * width / 1e9
            num_in = num_out
            if deepest.endswith(f"{block}_{index}"):
                return total
        height, width = height // 2, width // 2
    raise ValueError(f"{deepest} is no convolution of {architecture}")


def gram_gmac(architecture: str, layers: Iterable[str], height: int, width: int) -> float:
    """Of the layers' Gram matrices."""
    total = 0.0
    for layer in layers:
        block, index = map(int, layer.removeprefix("relu").split("_"))
        channels = ARCHITECTURES[architecture][block - 1][index - 1]
        total += channels**2 * (height >> block - 1) * (width >> block - 1) / 1e9
    return total


def step_gmac(
    arguments: dict,
    architecture: str,
    content_layer: str,
    style_layers: Iterable[str],
    size_px: int,
) -> float:
    """Of one photo's share of a training step.

    The generator forward and twice back (of its first convolution the weights alone), the loss
    network forward and back (its weights are frozen), the photo as far as its content layer. The
    generator sees its margin, the loss network does not.
    """
    style_layers, size = list(style_layers), (size_px, size_px)
    convolutions = generator_gmac(arguments, *size)
    generator = 3 * sum(convolutions) - convolutions[0]
    deepest = max([content_layer, *style_layers])  # relu4_3 after relu3_3 also as words
    network = 2 * vgg_gmac(architecture, deepest, *size)
    content = vgg_gmac(architecture, content_layer, *size)
    grams = 2 * gram_gmac(architecture, style_layers, *size)
    return generator + network + content + grams
