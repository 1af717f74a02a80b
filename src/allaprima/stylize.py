"""Photo, or none → generator → picture.

torch is imported by the functions that need it, so that a mistake in a command is told at once.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from allaprima.errors import InputError
from allaprima.images import Picture, resize, to_uint8
from allaprima.weights import find_generator, load_generator

if TYPE_CHECKING:
    import torch
    from torch import nn


def stylize(generator: "nn.Module", rgb: np.ndarray) -> np.ndarray:
    """One pass: (H, W, 3) float32 in [0,1] to the same, on the device where the generator is.

    A super-resolution generator's painting is larger than the photo.

    Raises:
        InputError: smaller than the generator takes, or larger than the device's memory allows,
            or a generator of textures.
    """
    check_takes_photos(generator)
    return _one_pass(generator, rgb, fix="scale the photo down")


def paint_texture(generator: "nn.Module", width: int, height: int) -> np.ndarray:
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
    return _one_pass(generator, canvas, fix="ask for a smaller texture")


def check_takes_photos(generator: "nn.Module") -> None:
    """Raise InputError if it paints textures."""
    if not getattr(generator, "photo", True):
        raise InputError(
            "this generator paints textures from noise, no photos: give it a size instead, "
            "stylize.py --texture 1024x768"
        )


def _one_pass(generator: "nn.Module", rgb: np.ndarray, fix: str) -> np.ndarray:
    import torch

    device = next(generator.parameters()).device
    try:
        photo = torch.tensor(np.ascontiguousarray(rgb, np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            painted = generator(photo.to(device, memory_format=torch.channels_last))
            return np.ascontiguousarray(painted[0].permute(1, 2, 0).float().cpu().numpy())
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        height, width = rgb.shape[:2]
        raise InputError(
            f"{width} × {height} px need more memory than {device} has; {fix}"
        ) from error


class Stylizer:
    """A trained generator that takes and gives pictures; threads may share it.

    Args:
        name_or_path: a shipped style, or a generator's file (``.safetensors``, or ``.ckpt``).
        device: "auto" (the first of the others that there is), "cuda", "mps" or "cpu".
        seed: of the noise, for generators that have any; None is 0. The same seed and size give
            the same noise on every device.
        noise: its strength; None is 1, as in training, and 0 leaves none.

    Raises:
        InputError: no such generator or a faulty file, no such device, noise for a generator
            without any, or out of its range.
    """

    def __init__(
        self,
        name_or_path: str | Path,
        device: str = "auto",
        seed: int | None = None,
        noise: float | None = None,
    ):
        import torch

        generator, self.metadata = load_generator(find_generator(name_or_path))
        self.device = choose_device(device)
        set_noise(generator, seed, noise)
        self.generator = generator.to(self.device, memory_format=torch.channels_last)  # pyright: ignore

    def __call__(self, image: Image.Image) -> Image.Image:
        """Paint an 8-bit image of any mode: RGB, or RGBA with the same alpha; of the same size.

        Super-resolution's painting is larger, and alpha with it.

        Raises:
            InputError: more than 8 bits a channel, or as :func:`stylize`.
        """
        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"image of mode {image.mode}; 8 bits a channel are needed: convert it, "
                "or paint what allaprima.images.read_picture gives"
            )
        rgba = image.convert("RGBA") if image.has_transparency_data else None
        rgb = np.asarray((rgba or image).convert("RGB"), np.float32) / 255
        painted = to_uint8(stylize(self.generator, rgb))
        if rgba is not None:
            painted = np.dstack([painted, _fit(np.asarray(rgba.getchannel("A")), painted)])
        return Image.fromarray(painted)

    def paint(self, picture: Picture) -> Picture:
        """Paint what :func:`allaprima.images.read_picture` gives; alpha stays."""
        painted = stylize(self.generator, picture.rgb)
        return Picture(painted, None if picture.alpha is None else _fit(picture.alpha, painted))

    def texture(self, width: int, height: int) -> Picture:
        """Paint a texture of that size in pixels, as :func:`paint_texture`."""
        return Picture(paint_texture(self.generator, width, height), None)


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


def _fit(alpha: np.ndarray, painted: np.ndarray) -> np.ndarray:
    """Alpha at the painting's size."""
    height, width = painted.shape[:2]
    return alpha if alpha.shape == (height, width) else resize(alpha, height, width)


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
