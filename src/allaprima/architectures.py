"""Generators from their names and arguments, and back; no code from a file is run.

torch is imported by the functions that need it, so that a mistake in a command is told at once.
"""

import importlib
import inspect
import pkgutil
import reprlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from allaprima import generators
from allaprima.errors import InputError, first_line, some_of

if TYPE_CHECKING:
    from torch import Tensor, nn


def describe_generator(generator: "nn.Module") -> dict[str, Any]:
    """What rebuilds a generator: its module in ``allaprima.generators``, and its arguments.

    Raises:
        InputError: its class is from elsewhere.
    """
    package, _, name = type(generator).__module__.rpartition(".")
    if package != generators.__name__ or name not in _known_generators():
        raise InputError(f"{type(generator).__qualname__} is no class of allaprima.generators")
    return {"generator": name, "arguments": generator.arguments}


def rebuild_generator(metadata: Mapping[str, Any], weights: "dict[str, Tensor]") -> "nn.Module":
    """The generator that a file describes, with its weights; frozen, float32, on the CPU.

    Raises:
        InputError: no such generator or arguments, or tensors that do not fit it.
    """
    generator = _build(metadata["generator"], metadata["arguments"], len(weights))
    _fill(generator, weights)
    return generator


def _build(name: Any, arguments: Any, num_tensors: int) -> "nn.Module":
    """The generator without its weights, on the meta device, which allocates nothing."""
    import torch

    known = _known_generators()
    if name not in known:
        raise InputError(f"unknown generator {name!r:.40}; known are {', '.join(known)}")
    module = importlib.import_module(f"{generators.__name__}.{name}")
    [generator_class] = (
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, torch.nn.Module)
        and value.__module__ == module.__name__
        and value.__name__.endswith("Generator")
    )
    try:
        for argument, value in {**arguments}.items():
            # A layer has weights. A larger count of them is false, and takes long to build.
            counts_layers = argument.startswith("num_") and not argument.endswith("_channels")
            if counts_layers and not 0 <= value <= num_tensors:
                raise InputError(f"{argument}={value} in a file of {num_tensors} tensors")
        with torch.device("meta"):
            return generator_class(**arguments)
    except Exception as error:  # whatever a constructor may say to a stranger's arguments
        raise InputError(
            f"the arguments {reprlib.repr(arguments)} do not fit {generator_class.__name__}: "
            f"{first_line(error)}"
        ) from error


def _fill(generator: "nn.Module", weights: dict[str, "Tensor"]) -> None:
    """Put the weights in, as float32 and after checks; freeze."""
    expected = generator.state_dict()
    if missing := expected.keys() - weights.keys():
        raise InputError(f"tensors are missing: {some_of(sorted(missing))}")
    if extra := weights.keys() - expected.keys():
        raise InputError(f"{type(generator).__name__} has no {some_of(sorted(map(str, extra)))}")
    for name, place in expected.items():
        if _kind(weights[name]) != _kind(place):
            raise InputError(f"{name} is {_kind(weights[name])}; must be {_kind(place)}")
    check_held(weights)
    try:
        # Copies: safetensors maps the file, which then could not be replaced on every system.
        own = {name: weights[name].to(place.dtype, copy=True) for name, place in expected.items()}
        check_finite(own)
    except RuntimeError as error:  # types that torch cannot convert
        raise InputError(f"tensors that are no plain numbers ({first_line(error)})") from error
    generator.load_state_dict(own, assign=True)
    generator.eval().requires_grad_(False)
    assert not any(tensor.is_meta for tensor in (*generator.parameters(), *generator.buffers()))


def check_held(weights: "Mapping[str, Tensor]") -> None:
    """Raise InputError if tensors have more numbers than their storages: converting allocates them.

    A file of some kB can spread one number over many GB, within a tensor or over many.
    """
    import torch

    needed: Counter[int] = Counter()
    for name, tensor in weights.items():
        if tensor.layout != torch.strided:
            raise InputError(f"{name:.60} is {tensor.layout}, no plain tensor; save it to_dense()")
        storage = tensor.untyped_storage()
        needed[storage.data_ptr()] += tensor.numel() * tensor.element_size()
        if tensor.is_meta or needed[storage.data_ptr()] > storage.nbytes():
            raise InputError(
                f"{name:.60} of shape {tuple(tensor.shape)} has more numbers than the file holds "
                "(it is expanded, shared or on the meta device); save a clone() of the whole"
            )


def check_finite(weights: "Mapping[str, Tensor]") -> None:
    """Raise InputError if a tensor is empty, or holds anything but numbers."""
    bad = [name for name, t in weights.items() if not (t.numel() and t.isfinite().all())]
    if bad:
        raise InputError(f"weights are NaN, infinite or none: {some_of(bad)}")


def _kind(value: Any) -> str:
    """What a tensor and its place must have in common: fractions or not, and the shape."""
    try:
        number = "fractions" if value.is_floating_point() else "integers"
        return f"{number} of shape ({', '.join(map(str, value.shape))})"
    except AttributeError:
        return type(value).__name__


def _known_generators() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(generators.__path__))
