"""Photo → generator → photo, and which file each photo is painted into.

torch is imported by the functions that need it, so that a mistake in a command is told at once.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from allaprima.errors import InputError
from allaprima.images import (
    READ_SUFFIXES,
    WRITE_FORMATS,
    Picture,
    check_writable,
    find_pictures,
    to_uint8,
)
from allaprima.weights import find_generator, load_generator, some_of

if TYPE_CHECKING:
    import torch
    from torch import nn


def stylize(generator: "nn.Module", rgb: np.ndarray) -> np.ndarray:
    """One pass: (H, W, 3) float32 in [0,1] to the same, on the device where the generator is.

    Raises:
        InputError: smaller than the generator takes, or larger than the device's memory allows.
    """
    import torch

    device = next(generator.parameters()).device
    photo = torch.tensor(np.ascontiguousarray(rgb, np.float32)).permute(2, 0, 1)[None]
    try:
        with torch.inference_mode():
            painted = generator(photo.to(device, memory_format=torch.channels_last))
            return np.ascontiguousarray(painted[0].permute(1, 2, 0).float().cpu().numpy())
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        height, width = rgb.shape[:2]
        raise InputError(
            f"{width} × {height} px need more memory than {device} has; scale the photo down"
        ) from error


class Stylizer:
    """A trained generator that takes and gives pictures; threads may share it.

    Args:
        name_or_path: a shipped style, or a generator's file (``.safetensors``, or ``.ckpt``).
        device: "auto" (the first of the others that there is), "cuda", "mps" or "cpu".

    Raises:
        InputError: no such generator or a faulty file, no such device.
    """

    def __init__(self, name_or_path: str | Path, device: str = "auto"):
        import torch

        generator, self.metadata = load_generator(find_generator(name_or_path))
        self.device = choose_device(device)
        self.generator = generator.to(self.device, memory_format=torch.channels_last)  # pyright: ignore

    def __call__(self, image: Image.Image) -> Image.Image:
        """Paint an 8-bit image of any mode: RGB of the same size, or RGBA with the same alpha.

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
        painted = Image.fromarray(to_uint8(stylize(self.generator, rgb)))
        if rgba is not None:
            painted.putalpha(rgba.getchannel("A"))
        return painted

    def paint(self, picture: Picture) -> Picture:
        """Paint what :func:`allaprima.images.read_picture` gives; alpha stays."""
        return Picture(stylize(self.generator, picture.rgb), picture.alpha)


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


def plan_outputs(
    inputs: Sequence[Path], output: Path | None, style: str, *, overwrite: bool = False
) -> list[tuple[Path, Path]]:
    """Pairs of a photo and the file to paint it into.

    Without ``output``, ``photo.jpg`` becomes ``photo_STYLE.jpg`` beside it, and a folder is
    mirrored in ``FOLDER_STYLE`` beside it. ``output`` is a file, if it is named like a picture
    and there is one photo, else a folder that keeps the photos' names; with several inputs, each
    input folder has a folder of its own there. JPEG, PNG and WebP stay what they are, others
    become PNG. Pictures in the output folder are not photos to paint.

    Raises:
        InputError: a photo is missing, there is none at all, or an output would be written twice,
            over a photo, over an existing file (unless ``overwrite``) or where it cannot be.
    """
    to_file = output is not None and not output.is_dir() and output.suffix.lower() in READ_SUFFIXES
    if to_file and (len(inputs) > 1 or inputs[0].is_dir()):
        raise InputError(f"--output {output} is one file, for one photo; name a folder instead")
    plan: dict[Path, Path] = {}
    for path in inputs:
        if path.is_dir():
            plan |= _mirror(path, output, style, alone=len(inputs) == 1)
        elif not path.exists():
            raise InputError(f"{path}: no such photo or folder")
        elif output is None:
            plan[path] = path.with_name(f"{path.stem}_{style}{_suffix(path)}")
        else:
            plan[path] = output if to_file else output / f"{path.stem}{_suffix(path)}"
    if not plan:
        raise InputError(
            f"no picture in {some_of(inputs)}; pictures end in {', '.join(READ_SUFFIXES)}"
        )
    _check_plan(plan, overwrite)
    return list(plan.items())


def _mirror(
    folder: Path, output: Path | None, style: str, alone: bool
) -> Iterator[tuple[Path, Path]]:
    named = folder if folder.name not in ("", "..") else folder.resolve()
    if output is None:
        output = named.parent / f"{named.name}_{style}"
    elif not alone:
        output = output / named.name
    own = output.resolve()
    for photo in find_pictures(folder):
        if own == folder.resolve() or own not in photo.resolve().parents:
            inside = photo.relative_to(folder)
            yield photo, output / inside.with_name(f"{photo.stem}{_suffix(photo)}")


def _suffix(photo: Path) -> str:
    return photo.suffix if photo.suffix.lower() in WRITE_FORMATS else ".png"


def _check_plan(plan: dict[Path, Path], overwrite: bool) -> None:
    photos = {photo.resolve() for photo in plan}
    painted_from: dict[Path, Path] = {}
    for photo, painted in plan.items():
        real = painted.resolve()
        if real in photos:
            raise InputError(f"{painted} is itself a photo to paint; choose another --output")
        if real in painted_from:
            raise InputError(
                f"{painted_from[real]} and {photo} would both be painted into {painted}; "
                "paint them in two commands with different --output"
            )
        painted_from[real] = photo
        check_writable(painted, overwrite=True)
    existing = [painted for painted in plan.values() if painted.exists()]
    if existing and not overwrite:
        raise InputError(f"existing files are kept unless you say --overwrite: {some_of(existing)}")
