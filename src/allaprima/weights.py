"""Generator files: safetensors whose metadata say what was trained, how and on whose picture.

torch is imported by the functions that need it, so that a mistake in a command is told at once.
"""

import json
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from allaprima.architectures import check_finite, describe_generator, rebuild_generator
from allaprima.errors import InputError, first_line, reason, some_of
from allaprima.partial import partial_of
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

    The same weights and metadata give the same bytes.

    Args:
        metadata: style, licence, training recipe, commit, metrics: whatever JSON can say.
        half: store float16: half the size, about three decimal digits a weight.

    Raises:
        InputError: another suffix, a file that is there already or cannot be written, weights
            that are not finite or exceed float16, a generator from elsewhere than
            ``allaprima.generators``.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"{path}: a generator's file ends in {SUFFIX}")
    if os.path.exists(path) and not overwrite:  # where it may not be asked, writing says why
        raise InputError(f"{path} exists already; choose another name or say --overwrite")
    assert not set(metadata) & set(OURS), f"{OURS} are written from the generator itself"
    weights = {
        name: t.detach().to("cpu", torch.float32 if t.is_floating_point() else None).contiguous()
        for name, t in generator.state_dict().items()
    }
    check_finite(weights)
    if half:
        weights = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}
        if large := [name for name, t in weights.items() if not t.isfinite().all()]:
            raise InputError(
                f"{path}: weights exceed float16's range (65504): {some_of(large)}; "
                "leave out --float16"
            )
    description = describe_generator(generator)
    header = {
        "format_version": FORMAT_VERSION,
        "generator": description["generator"],
        "arguments": json.dumps(description["arguments"]),
        **{name: as_text(value) for name, value in metadata.items()},
    }
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(_in_order(save(weights, header)))
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be written: {reason(error)}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _in_order(file: bytes) -> bytes:
    """The same with its metadata by name: safetensors writes them in another order each time."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + file[end:]


def load_generator(path: str | Path) -> tuple["nn.Module", dict[str, Any]]:
    """The generator in a file, frozen, in evaluation mode, float32, on the CPU; its metadata.

    Reads ``.safetensors`` files and the ``.ckpt`` files of our training. No code from the file is
    run, and nothing is allocated that the file does not hold.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    with named(path) as file:
        read = _read_checkpoint if file.suffix == ".ckpt" else _read_safetensors
        metadata, weights = read(file)
        return rebuild_generator(metadata, weights), metadata


def read_weights(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and tensors of a generator's file, fractions as float32.

    torch is loaded for a ``.ckpt`` alone, and for types that numpy has not. Whether the tensors
    fit the generator is for those to check who compute with them.

    Raises:
        InputError: as :func:`load_generator`, but for that.
    """
    found = None
    with named(path) as file:
        if file.suffix != ".ckpt":
            with suppress(TypeError, AttributeError):  # bfloat16 and the like
                found = _read_safetensors(file, "numpy")
    if found is None:
        generator, metadata = load_generator(path)
        return metadata, {name: tensor.numpy() for name, tensor in generator.state_dict().items()}
    metadata, tensors = found
    with np.errstate(over="ignore"):
        # Copies: safetensors maps the file, which then could not be replaced on every system.
        weights = {
            name: tensor.astype(np.float32 if tensor.dtype.kind == "f" else tensor.dtype)
            for name, tensor in tensors.items()
        }
    if bad := [name for name, a in weights.items() if not (a.size and np.isfinite(a).all())]:
        raise InputError(f"{path}: weights are NaN, infinite or none: {some_of(bad)}")
    return metadata, weights


@contextmanager
def named(path: str | Path) -> Iterator[Path]:
    """What is wrong with a file is told with the file's name."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError("this is a folder; name the file in it")
        if not path.is_file():
            raise InputError("there is no such file")
        yield path
    except (InputError, OSError) as error:
        raise InputError(f"{path}: {reason(error)}") from error


def find_generator(name_or_path: str | Path) -> Path:
    """An existing file as it is, else the shipped generator of that name.

    Raises:
        InputError: neither, listing the shipped names; a path that the system refuses.
    """
    path, shipped = Path(name_or_path), list_generators()
    try:
        if path.is_file():
            return path
    except OSError as error:  # no permission, too long a name
        raise InputError(f"{path}: {reason(error)}") from error
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


def _read_safetensors(path: Path, framework: str = "pt") -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with safe_open(path, framework=framework) as file:
            metadata = _decode_header(file.metadata())
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"damaged, incomplete or not a safetensors file ({error}). Generators are read from "
            "safetensors files and from the .ckpt files of our training"
        ) from error


def read_pickle(path: Path) -> Any:
    """What ``torch.save`` wrote, if that is tensors and plain values; no code is run.

    Raises:
        InputError: a damaged file, or one that asks for code.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises nearly anything at a damaged file
        why = first_line(error)
        if "TorchScript" in why:
            raise InputError(
                "refused, for a TorchScript archive is a program. Where you trust it, save the "
                "state_dict() of what torch.jit.load reads of it, with torch.save"
            ) from error
        # Its own words for code advise to run it.
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in why:
            asked = re.search(r"GLOBAL (\S+)", str(error))
            what = asked[1] if asked else "more than tensors and plain values"
            raise InputError(
                f"refused, for reading it could run code that it brings (it asks for {what}). "
                "Where you trust it, save its tensors alone, its state_dict(), with torch.save"
            ) from error
        why = f" ({why})" if " " in why else ""  # else a bare number or type
        raise InputError(f"damaged, incomplete or no file of torch.save{why}") from error


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    checkpoint = read_pickle(path)
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
    decoded = {name: from_text(text) for name, text in header.items()}
    return {"arguments": None, **decoded, **{name: header.get(name) for name in OURS[:2]}}


def _check_version(record: Mapping[str, Any]) -> None:
    version = record.get("format_version")
    if version is None:
        raise InputError("not a generator of allaprima: it says no format_version")
    if version != FORMAT_VERSION:
        raise InputError(f"format version {version!r:.40}; this release reads {FORMAT_VERSION!r}")


def as_text(value: Any) -> str:
    """Text as it is, where that is read back as the same text; JSON of all else."""
    return value if isinstance(value, str) and from_text(value) == value else json.dumps(value)


def from_text(text: str) -> Any:
    """What :func:`as_text` was given; text that is no JSON is itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
