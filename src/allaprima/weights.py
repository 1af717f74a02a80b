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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

import allaprima.generators
from allaprima.errors import InputError
from allaprima.resources import resource_dir

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT_VERSION = "1"
SUFFIX = ".safetensors"
OURS = ("format_version", "generator", "arguments")


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
        metadata: style, title, licence, training recipe, commit, metrics: whatever JSON can say.
        half: store float16: half the size, about three decimal digits a weight.

    Raises:
        InputError: another suffix, a file that is there already or cannot be written, a generator
            from outside ``allaprima.generators``, weights that are not finite.
    """
    import torch
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"{path}: a generator file ends in {SUFFIX}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name or allow overwriting")
    assert not set(metadata) & set(OURS), f"{OURS} are written from the generator itself"

    dtype = torch.float16 if half else torch.float32
    weights = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in generator.state_dict().items()
    }
    try:
        _check_finite(weights)
        description = describe_generator(generator)
    except InputError as error:
        raise InputError(f"{path} was not written: {error}") from None
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
        raise InputError(f"cannot write {path}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def load_generator(path: str | Path) -> tuple["nn.Module", dict[str, Any]]:
    """The generator in a file, frozen, in evaluation mode, float32, on the CPU; its metadata.

    Reads ``.safetensors`` files and Lightning's ``.ckpt`` of our training. No code from the file
    is run, and nothing is allocated that the file does not hold.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such generator file")
    try:
        read = _read_checkpoint if path.suffix == ".ckpt" else _read_safetensors
        metadata, weights = read(path)
        generator = _build(metadata["generator"], metadata["arguments"], len(weights))
        _fill(generator, weights)
    except (InputError, OSError) as error:
        raise InputError(f"{path}: {error}") from None
    return generator, metadata


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What a ``.safetensors`` generator file says of itself, without reading its weights.

    Raises:
        InputError: not a generator file, or of another format version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return _decode_metadata(file.metadata())
    except (InputError, OSError, SafetensorError) as error:
        raise InputError(f"{path}: {error}") from None


def find_generator(name_or_path: str | Path) -> Path:
    """An existing file as it is, else the shipped generator of that name.

    Raises:
        InputError: neither; lists the shipped names.
    """
    path = Path(name_or_path)
    shipped = list_generators()
    if path.is_file():
        return path
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    known = f"the shipped ones are {', '.join(shipped)}" if shipped else "none is shipped yet"
    raise InputError(
        f"{name_or_path} is neither a file nor a shipped generator: {known}; "
        "scripts/train.py style.image=PAINTING.jpg trains one"
    )


def list_generators() -> dict[str, Path]:
    """The shipped generators' files by name."""
    return {file.stem: file for file in sorted(resource_dir("checkpoints").glob(f"*{SUFFIX}"))}


def describe_generator(generator: "nn.Module") -> dict[str, Any]:
    """What rebuilds a generator: its module in ``allaprima.generators``, and its arguments.

    Raises:
        InputError: its class is from elsewhere.
    """
    package, _, name = type(generator).__module__.rpartition(".")
    if package != allaprima.generators.__name__ or name not in _known_generators():
        raise InputError(f"{type(generator).__qualname__} is not in {allaprima.generators.__name__}")
    return {"generator": name, "arguments": generator.arguments}


def some_of(items: Iterable[Any], limit: int = 3) -> str:
    """The first few, and how many more."""
    items = [str(item) for item in items]
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more} more" if more > 0 else "")


def _known_generators() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(allaprima.generators.__path__))


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = _decode_metadata(file.metadata())
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"not a whole safetensors file ({error}); fetch or export it again "
            "(generators are read from .safetensors files and our training's .ckpt)"
        ) from None


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    import torch

    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        names = re.findall(r"GLOBAL (\S+)", str(error))
        asked = f"it asks for {names[0]}" if names else "it is no checkpoint of tensors and values"
        raise InputError(f"refused: reading it could run code from the file ({asked})") from None
    except (EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"not a whole checkpoint ({_first_line(error)})") from None
    record = checkpoint.get("allaprima") if isinstance(checkpoint, dict) else None
    if not isinstance(record, dict):
        raise InputError("no generator in this checkpoint; it is not from allaprima's training")
    _check_version(record)
    weights, metadata = record.get("weights"), record.get("metadata")
    if not isinstance(weights, dict) or not isinstance(metadata, dict):
        raise InputError("its generator has no weights or no metadata")
    return {**metadata, **{name: record.get(name) for name in OURS}}, weights


def _decode_metadata(header: dict[str, str] | None) -> dict[str, Any]:
    header = header or {}
    _check_version(header)
    decoded = {name: _decode(text) for name, text in header.items()}
    return {**decoded, **{name: header.get(name) for name in OURS[:2]}}


def _check_version(header: Mapping[str, Any]) -> None:
    version = header.get("format_version")
    if version is None:
        raise InputError("not a generator file of allaprima: its metadata name no format_version")
    if version != FORMAT_VERSION:
        raise InputError(f"format version {version!r:.40}; this release reads {FORMAT_VERSION!r}")


def _encode(value: Any) -> str:
    """Text as it is where that is read back as the same text; JSON for all else."""
    return value if isinstance(value, str) and _decode(value) == value else json.dumps(value)


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _build(name: Any, arguments: Any, num_tensors: int) -> "nn.Module":
    """The generator without its weights, on the meta device, which allocates nothing."""
    import torch
    from torch import nn

    known = _known_generators()
    if name not in known:
        raise InputError(f"unknown generator {name!r:.40}; known: {', '.join(known)}")
    module = importlib.import_module(f"{allaprima.generators.__name__}.{name}")
    (generator_class,) = (
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
        and value.__name__.endswith("Generator")
    )
    try:
        inspect.signature(generator_class).bind(**arguments)
        for argument, value in arguments.items():
            # Every block has weights, so a larger count is false; and building it takes for ever.
            if argument.startswith("num_") and not 0 <= value <= num_tensors:
                raise InputError(f"{argument}={value} in a file of {num_tensors} tensors")
        with torch.device("meta"):
            return generator_class(**arguments)
    except Exception as error:  # whatever a constructor may say to a stranger's arguments
        raise InputError(
            f"the arguments {reprlib.repr(arguments)} do not fit {generator_class.__name__}: "
            f"{_first_line(error)}"
        ) from None


def _fill(generator: "nn.Module", weights: dict[str, "Tensor"]) -> None:
    expected = generator.state_dict()
    if missing := expected.keys() - weights.keys():
        raise InputError(f"tensors are missing: {some_of(sorted(missing))}")
    if extra := weights.keys() - expected.keys():
        raise InputError(f"tensors that {type(generator).__name__} lacks: {some_of(extra)}")
    for name, model in expected.items():
        if not _is_like(weights[name], model):
            raise InputError(f"{name} is {_summary(weights[name])}; must be {_summary(model)}")
    converted = {name: weights[name].to(model.dtype, copy=True) for name, model in expected.items()}
    _check_finite(converted)
    generator.load_state_dict(converted, assign=True)
    generator.eval().requires_grad_(False)
    assert not any(tensor.is_meta for tensor in (*generator.parameters(), *generator.buffers()))


def _is_like(tensor: Any, model: "Tensor") -> bool:
    import torch

    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_floating_point() == model.is_floating_point()
        and tensor.shape == model.shape
        and tensor.numel() > 0
    )


def _summary(tensor: Any) -> str:
    """Kind and shape of a tensor, for a message."""
    shape = "×".join(map(str, getattr(tensor, "shape", ()))) or "one value"
    return f"{str(getattr(tensor, 'dtype', type(tensor).__name__)).removeprefix('torch.')} {shape}"


def _check_finite(weights: dict[str, "Tensor"]) -> None:
    bad = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if bad:
        raise InputError(f"weights are NaN or infinite: {some_of(bad)}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
