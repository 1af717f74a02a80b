"""One pass of a generator by torch, on a CPU or a GPU.

torch is imported by the functions that need it, so that a mistake in a command is told at once.
"""

import importlib.util
import math
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allaprima.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

TEXTURES_ONLY = (
    "this generator paints textures from noise, no photos: give it a size instead, "
    "stylize.py --texture 1024x768"
)


class OutOfMemory(InputError):
    """The device has not enough of it for a picture at once."""


def stylize(generator: "nn.Module", rgb: np.ndarray, precision: str = "32") -> np.ndarray:
    """One pass: (H, W, 3) float32 in [0,1] to the same, on the device where the generator is.

    A super-resolution generator's painting is larger than the photo.

    Args:
        precision: "32", or "bf16" for the convolutions.

    Raises:
        InputError: smaller than the generator takes, or larger than the device's memory allows,
            or a generator of textures.
    """
    if not getattr(generator, "photo", True):
        raise InputError(TEXTURES_ONLY)
    return _one_pass(generator, rgb, precision, fix="scale the photo down")


def paint_texture(
    generator: "nn.Module", width: int, height: int, precision: str = "32"
) -> np.ndarray:
    """A texture, (H, W, 3) float32 in [0,1]; the generator's ``noise_seed`` decides which.

    Raises:
        InputError: smaller than the generator paints, or larger than the device's memory allows,
            or a generator that needs a photo.
    """
    if getattr(generator, "photo", True):
        raise InputError(
            "this generator paints photos, no textures: name photos to paint, or train one for "
            "textures with train.py experiment=ulyanov2016a_texture"
        )
    canvas = np.broadcast_to(np.float32(1), (height, width, 3))
    return _one_pass(generator, canvas, precision, fix="ask for a smaller texture")


def _one_pass(generator: "nn.Module", rgb: np.ndarray, precision: str, fix: str) -> np.ndarray:
    import torch

    device = next(generator.parameters()).device
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    try:
        photo = torch.tensor(np.ascontiguousarray(rgb, np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode(), half:
            painted = generator(photo.to(device, memory_format=torch.channels_last))
            return np.ascontiguousarray(painted[0].permute(1, 2, 0).float().cpu().numpy())
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        height, width = rgb.shape[:2]
        raise OutOfMemory(
            f"{width} × {height} px need more memory than {device} has; {fix}"
        ) from error


def set_noise(generator: "nn.Module", seed: int | None, strength: float | None) -> None:
    """Set the noise that a generator paints with in evaluation mode; None leaves it as it is.

    Raises:
        InputError: the generator has none, a seed that is no whole number from 0 to 2⁶³-1, or a
            strength that is no number ≥ 0.
    """
    if seed is None and strength is None:
        return
    if not getattr(generator, "num_noise_channels", 0):
        raise InputError(
            "this generator has no noise, so that neither seed nor strength of noise can be "
            "chosen: leave --seed and --noise out"
        )
    if seed is not None:
        if not 0 <= seed < 2**63:
            raise InputError(f"seed {seed} must be a whole number from 0 to 2^63-1")
        generator.noise_seed = seed  # pyright: ignore
    if strength is not None:
        if not 0 <= strength < math.inf:
            raise InputError(f"noise {strength} must be a number from 0 (none); 1 is as trained")
        generator.noise_strength = strength  # pyright: ignore


def choose_device(name: str) -> "torch.device":
    """The device of that name; "auto" takes the first that there is of cuda, mps, cpu.

    Raises:
        InputError: there is none of that name here.
    """
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    names = [*(device for device in present if present[device]), "cpu"]
    if name != "auto" and name not in names:
        raise InputError(f"device {name} is not on this machine; take auto or {', '.join(names)}")
    return torch.device(names[0] if name == "auto" else name)


def may_have_gpu() -> bool:
    """Whether it is worth importing torch, which takes seconds, to ask it for a GPU.

    No: torch was built without CUDA and ROCm, or the system has no driver for them; a Mac has
    Apple's own processor, or has no GPU that torch uses.
    """
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    spec = importlib.util.find_spec("torch")
    built = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    if built is None or not built.is_file():
        return False
    if not re.search(r"^(cuda|hip)\b.*=\s*['\"]", built.read_text(), re.MULTILINE):
        return False
    drivers = "/dev/nvidiactl", "/dev/dxg", "/dev/kfd"  # NVIDIA, Windows' Linux, AMD
    return sys.platform == "win32" or any(Path(driver).exists() for driver in drivers)
