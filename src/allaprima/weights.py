"""Generator files: safetensors whose metadata say what was trained, how and on whose picture.

torch is imported by the functions that need it, so that a mistake in a command is told at once.
"""

import importlib
import inspect
import json
import os
import pickle
import pkgutil
import re
import reprlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from allaprima import generators
from allaprima.errors import InputError
from allaprima.resources import resource_dir

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT_VERSION = "1"
SUFFIX = ".safetensors"
OURS = ("format_version", "generator", "arguments")  # beside what the caller says


def save_generator(
    path: str | Path,
    generator: "nn.Module",
    metadata: Mapping[str, Any],
    *,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a generator and what is known about it to one ``.safetensors`` file.

    Args:
        metadata: style, licence, training recipe, commit, metrics: whatever JSON can say.
        half: store float16: half the size, about three decimal digits a weight.

    Raises:
        InputError: another suffix, a file that is there already or cannot be written, weights
            that are not finite, a generator from outside ``allaprima.generators``.
    """
    import torch
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"{path}: a generator's file ends in {SUFFIX}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name or allow overwriting")
    assert not set(metadata) & set(OURS), f"{OURS} are written from the generator itself"
    dtype = torch.float16 if half else torch.float32
    weights = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in generator.state_dict().items()
    }
    _check_finite(weights)
    description = describe_generator(generator)
    header = {
        "format_version": FORMAT_VERSION,
        "generator": description["generator"],
        "arguments": json.dumps(description["arguments"]),
        **{name: _encode(value) for name, value in metadata.items()},
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, partial, header)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def load_generator(path: str | Path) -> tuple["nn.Module", dict[str, Any]]:
    """The generator in a file, frozen, in evaluation mode, float32, on the CPU; its metadata.

    Reads ``.safetensors`` files and the ``.ckpt`` files of our training. No code from the file is
    run, and nothing is allocated that the file does not hold.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        read = _read_checkpoint if path.suffix == ".ckpt" else _read_safetensors
        metadata, weights = read(path)
        generator = _build(metadata["generator"], metadata["arguments"], len(weights))
        _fill(generator, weights)
    except (InputError, OSError) as error:
        raise InputError(f"{path}: {error}") from error
    return generator, metadata


def find_generator(name_or_path: str | Path) -> Path:
    """An existing file as it is, else the shipped generator of that name.

    Raises:
        InputError: neither; lists the shipped names.
    """
    path, shipped = Path(name_or_path), list_generators()
    if path.is_file():
        return path
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    known = f"shipped are {', '.join(shipped)}" if shipped else "none is shipped yet"
    raise InputError(
        f"{name_or_path} is neither a file nor a shipped generator ({known}); to train one: "
        "scripts/train.py style.image=PAINTING.jpg"
    )


def list_generators() -> dict[str, Path]:
    """The shipped generators' files by name."""
    return {file.stem: file for file in sorted(resource_dir("checkpoints").glob(f"*{SUFFIX}"))}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What a ``.safetensors`` generator file says of itself, without reading its weights.

    Raises:
        InputError: not such a file, or of another format version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return _decode_header(file.metadata())
    except (InputError, OSError, SafetensorError) as error:
        raise InputError(f"{path}: {error}") from error


def describe_generator(generator: "nn.Module") -> dict[str, Any]:
    """What rebuilds a generator: its module in ``allaprima.generators``, and its arguments.

    Raises:
        InputError: its class is from elsewhere.
    """
    package, _, name = type(generator).__module__.rpartition(".")
    if package != generators.__name__ or name not in _known_generators():
        raise InputError(f"{type(generator).__qualname__} is no class of allaprima.generators")
    return {"generator": name, "arguments": generator.arguments}


def some_of(items: Iterable[Any], limit: int = 3) -> str:
    """The first few items, and how many more there are."""
    names = [str(item) for item in items]
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = _decode_header(file.metadata())
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"damaged, incomplete or not a safetensors file ({error}). Generators are read from "
            "safetensors files and from the .ckpt files of our training"
        ) from error


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    import torch

    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        asked = re.findall(r"GLOBAL (\S+)", str(error)) or ["more than tensors and plain values"]
        raise InputError(
            f"refused, for reading it could run code that it brings (it asks for {asked[0]})"
        ) from error
    except Exception as error:  # torch raises nearly anything at a damaged file
        raise InputError(f"damaged or incomplete checkpoint ({_first_line(error)})") from error
    record = checkpoint.get("allaprima") if isinstance(checkpoint, dict) else None
    if not isinstance(record, dict):
        raise InputError("holds no generator: it is not a checkpoint of our training")
    _check_version(record)
    weights, metadata = record.get("weights"), record.get("metadata")
    if not isinstance(weights, dict) or not isinstance(metadata, dict):
        raise InputError("its generator has no weights or no metadata")
    return {**metadata, **{name: record.get(name) for name in OURS}}, weights


def _decode_header(header: dict[str, str] | None) -> dict[str, Any]:
    header = header or {}
    _check_version(header)
    decoded = {name: _decode(text) for name, text in header.items()}
    return {"arguments": None, **decoded, **{name: header.get(name) for name in OURS[:2]}}


def _check_version(record: Mapping[str, Any]) -> None:
    version = record.get("format_version")
    if version is None:
        raise InputError("not a generator of allaprima: it says no format_version")
    if version != FORMAT_VERSION:
        raise InputError(f"format version {version!r:.40}; this release reads {FORMAT_VERSION!r}")


def _encode(value: Any) -> str:
    """Text as it is, where that is read back as the same text; JSON of all else."""
    return value if isinstance(value, str) and _decode(value) == value else json.dumps(value)


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _known_generators() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(generators.__path__))


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
            f"{_first_line(error)}"
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
    try:
        # Copies: safetensors maps the file, which then could not be replaced on every system.
        own = {name: weights[name].to(place.dtype, copy=True) for name, place in expected.items()}
        _check_finite(own)
    except RuntimeError as error:  # sparse, without storage and the like
        raise InputError(f"tensors that are no plain numbers ({_first_line(error)})") from error
    generator.load_state_dict(own, assign=True)
    generator.eval().requires_grad_(False)
    assert not any(tensor.is_meta for tensor in (*generator.parameters(), *generator.buffers()))


def _kind(value: Any) -> str:
    """What a tensor and its place must have in common: fractions or not, and the shape."""
    try:
        number = "fractions" if value.is_floating_point() else "integers"
        return f"{number} of shape ({', '.join(map(str, value.shape))})"
    except AttributeError:
        return type(value).__name__


def _check_finite(weights: dict[str, "Tensor"]) -> None:
    bad = [name for name, t in weights.items() if not (t.numel() and t.isfinite().all())]
    if bad:
        raise InputError(f"weights are NaN, infinite or none: {some_of(bad)}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
