"""Generators trained elsewhere, made ours: PyTorch's own example of fast neural style."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from allaprima.architectures import check_finite, check_held
from allaprima.errors import InputError, first_line, some_of
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.weights import named, read_pickle

EXAMPLE = "the transformer network of PyTorch's fast_neural_style example"
# Ours: theirs, convolution and norm.
LAYERS = {
    "down.0": ("conv1", "in1"),
    "down.1": ("conv2", "in2"),
    "down.2": ("conv3", "in3"),
    "up.0": ("deconv1", "in4"),
    "up.1": ("deconv2", "in5"),
}
# Kept by old versions for a norm that never used them.
STALE = re.compile(r"(in\d+|res\d+\.in\d+)\.(running_mean|running_var|num_batches_tracked)")
RESIDUAL = re.compile(r"res(\d{1,9})\.")


def import_transformer_net(path: str | Path) -> JohnsonGenerator:
    """Read weights of :data:`EXAMPLE` into our generator, which then paints what theirs did.

    Theirs takes and gives pixels of 0…255, neither shifted nor bent by tanh, and cut off for
    display. Ours takes x in [0,1] and subtracts ½, so with theirs W·255x + b

        W' = 255 W,   b' = b + 255/2 · ΣW      first convolution: reflection commutes with both
        W' = W / 255, b' = b / 255 − ½         last one, under ``output="linear"``

    Where a side is not divisible by 4, theirs gives a picture up to 3 px larger, and ours the
    photo's size.

    Args:
        path: a ``.safetensors`` file, or what ``torch.save`` wrote (``.pth``, ``.model``, ``.pt``):
            of that, tensors alone are read, and no code is run.

    Raises:
        InputError: no such file, a damaged one, one that asks for code, or another network.
    """
    with named(path) as file:
        read = _read_safetensors if file.suffix == ".safetensors" else read_pickle
        return _convert(_plain(read(file)))


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"damaged, incomplete or not a safetensors file ({error})") from error


def _plain(state: Any) -> dict[str, Tensor]:
    """Tensors by name, float32, without what is stale and what DataParallel puts before names."""
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state:
        raise InputError(f"holds no state dict of {EXAMPLE}")
    plain: dict[str, Any] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not key.isprintable():
            raise InputError(f"a tensor's name is no plain text: {_not_it()}")
        name = key.removeprefix("module.")
        if name in plain:
            raise InputError(f"{name:.60} is there twice, with and without 'module.'; keep one")
        plain[name] = value
    plain = {name: value for name, value in plain.items() if not STALE.fullmatch(name)}
    for name, value in plain.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name:.60} is {type(value).__name__}, no plain tensor: {_not_it()}")
        if not value.is_floating_point():
            raise InputError(f"{name:.60} holds {value.dtype}; must be fractions")
        if value.numel() == 0:
            raise InputError(f"{name:.60} is empty: {_not_it()}")
    check_held(plain)
    try:
        return {name: value.float() for name, value in plain.items()}
    except NotImplementedError as error:  # packed types, such as float4
        raise InputError(f"tensors that are no plain numbers ({first_line(error)})") from error


def _convert(theirs: dict[str, Tensor]) -> JohnsonGenerator:
    names = _names(sorted({int(m[1]) for name in theirs if (m := RESIDUAL.match(name))}))
    if missing := [name for name in names.values() if name not in theirs]:
        raise InputError(f"tensors are missing: {some_of(missing)}; {_not_it()}")
    if extra := theirs.keys() - set(names.values()):
        names = some_of(f"{name:.60}" for name in sorted(extra))
        raise InputError(f"{names} has no place: {_not_it()}")
    a, b, c = (theirs[names[f"down.{i}.0.weight"]].shape[:1].numel() for i in range(3))
    num_blocks = sum(name.endswith(".body.0.weight") for name in names)
    with torch.device("meta"):
        generator = JohnsonGenerator((a, b, c), num_blocks, upsampling="nearest", output="linear")
    weights = {ours: theirs[name].clone() for ours, name in names.items()}
    for ours, place in generator.state_dict().items():
        if weights[ours].shape != place.shape:
            raise InputError(
                f"{names[ours]} is of shape {tuple(weights[ours].shape)}; must be "
                f"{tuple(place.shape)}: {_not_it()}"
            )
    first, last = weights["down.0.0.weight"], weights["to_rgb.weight"]
    weights["down.0.0.bias"] += 127.5 * first.sum((1, 2, 3))
    first *= 255
    last /= 255
    weights["to_rgb.bias"] = weights["to_rgb.bias"] / 255 - 0.5
    check_finite({name: weights[ours] for ours, name in names.items()})
    generator.load_state_dict(weights, assign=True)
    return generator.eval().requires_grad_(False)


def _names(blocks: list[int]) -> dict[str, str]:
    """Our names of weights and biases, and theirs."""
    layers: dict[str, str] = {"to_rgb": "deconv3.conv2d"}
    for ours, (convolution, norm) in LAYERS.items():
        # In "up", the enlargement is before the convolution, and a layer of its own.
        place = 1 if ours.startswith("up") else 0
        layers[f"{ours}.{place}"] = f"{convolution}.conv2d"
        layers[f"{ours}.{place + 1}"] = norm
    for number, block in enumerate(blocks):
        for place, name in enumerate(("conv1.conv2d", "in1", "", "conv2.conv2d", "in2")):
            if name:
                layers[f"residual.{number}.body.{place}"] = f"res{block}.{name}"
    return {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in layers.items()
        for kind in ("weight", "bias")
    }


def _not_it() -> str:
    return f"it is not {EXAMPLE}"
