"""Which engine paints: compiled C on a CPU, torch elsewhere, ONNX Runtime for exported files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allaprima.controls import Paint
from allaprima.errors import InputError
from allaprima.processors import num_cores
from allaprima.torch_painter import (
    OutOfMemory,
    choose_device,
    may_have_gpu,
    paint_texture,
    set_noise,
    stylize,
)
from allaprima.weights import read_weights

if TYPE_CHECKING:
    from torch import nn

    from allaprima.painter import Painter

PRECISIONS = ("32", "bf16")
TILINGS = ("auto", "off", "fast", "exact")
ONNX_SUFFIX = ".onnx"
CPU_BYTES = 4 << 30  # of a CPU's memory that torch may take to paint a photo whole
IMAGES_AT_ONCE = 4  # of the photo's size and the last layer's channels, that torch has in memory

Progress = Callable[[float], None]


class TorchPainter:
    """A generator on a device, called with the pixels of a photo.

    Args:
        tile: "auto" paints in tiles, exactly, what a GPU has too little memory for, or what would
            take more than 4 GB of a CPU's; "exact" and "fast" always; "off" never.

    Raises:
        InputError: tiles are asked for, and the generator is not one for them.
    """

    def __init__(
        self,
        generator: "nn.Module",
        device: str,
        precision: str,
        tile: str = "auto",
        progress: Progress | None = None,
    ):
        import torch

        from allaprima.torch_tiling import can_tile

        self.generator = generator.to(device, memory_format=torch.channels_last)  # pyright: ignore
        self.device, self.precision = device, precision
        self.tile, self.progress = tile, progress
        self.takes_photos = getattr(generator, "photo", True)
        self.min_size_px = getattr(generator, "min_size_px", 1)
        self.can_tile = can_tile(generator)
        if tile in ("exact", "fast") and not self.can_tile:
            raise InputError(
                f"--tile {tile}: this generator cannot paint in tiles (it wraps around, pads at "
                "the start or changes the size): leave it out, and scale large photos by --size"
            )

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        in_tiles = self.tile in ("exact", "fast")
        if not in_tiles and not (self.tile == "auto" and self._is_large(rgb)):
            try:
                return stylize(self.generator, rgb, self.precision)
            except OutOfMemory:
                if self.tile == "off" or not self.can_tile:
                    raise
        from allaprima.torch_tiling import paint_in_tiles

        exact = self.tile != "fast"
        return paint_in_tiles(self.generator, rgb, self.precision, exact, self.progress)

    def _is_large(self, rgb: np.ndarray) -> bool:
        """For a CPU, which may end the process where a GPU says no."""
        if self.device != "cpu" or not self.can_tile:
            return False
        channels: Any = self.generator.to_rgb.in_channels  # pyright: ignore
        return 4 * IMAGES_AT_ONCE * channels * rgb[..., 0].size > CPU_BYTES

    def texture(self, width: int, height: int) -> np.ndarray:
        """As :func:`allaprima.torch_painter.paint_texture`."""
        return paint_texture(self.generator, width, height, self.precision)


def open_painters(
    files: Sequence[Path],
    shares: Sequence[float] | None,
    *,
    device: str,
    precision: str,
    seed: int | None,
    noise: float | None,
    num_parallel: int,
    tile: str = "auto",
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[Paint]]:
    """The metadata of a generator's file, or of the first of several, and who paints with it.

    There may be fewer painters than ``num_parallel``: more on one GPU would not be faster. A CPU's
    cores are shared out among them.

    Raises:
        InputError: as :class:`allaprima.stylize.Stylizer`.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision}; choose one of {', '.join(PRECISIONS)}")
    if tile not in TILINGS:
        raise InputError(f"--tile {tile}; choose one of {', '.join(TILINGS)}")
    if files[0].suffix == ONNX_SUFFIX:
        _refuse_tiles(files[0], tile)
        return _open_onnx(files, device, seed, noise, num_parallel)
    metadata, weights = average_weights(files, shares)
    if device != "cpu" and (device != "auto" or may_have_gpu()):
        device = choose_device(device).type
    elif device == "auto":
        device = "cpu"
    plain = device == "cpu" and (seed, noise) == (None, None)
    try:
        painters = _open_native(metadata, weights, precision, num_parallel) if plain else []
        if painters:
            from allaprima.tiling import TiledPainter

            return metadata, [TiledPainter(each, tile, progress=progress) for each in painters]
        generator = _to_torch(metadata, weights)
        painter = TorchPainter(generator, device, precision, tile, progress)
    except InputError as error:
        raise InputError(f"{files[0]}: {error}") from error
    set_noise(generator, seed, noise)
    return metadata, [painter]


def average_weights(
    files: Sequence[Path], shares: Sequence[float] | None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The first file's metadata, and the weights of all averaged; equally without ``shares``.

    The average is one network, as fast as each. It paints between them where all descend from one
    training, and often something poorer than any where each was trained from its own start.

    Raises:
        InputError: generators that differ by more than their weights, a file that cannot be read,
            or shares that are not a positive number for each file.
    """
    shares = [1.0] * len(files) if shares is None else shares
    if len(shares) != len(files) or min(shares) < 0 or not 0 < sum(shares) < float("inf"):
        raise InputError(
            f"--blend {','.join(map(str, shares))} for {len(files)} checkpoints; name a share "
            "from 0 for each, and one above 0"
        )
    metadata, weights = read_weights(files[0])
    total = {name: np.float32(shares[0] / sum(shares)) * array for name, array in weights.items()}
    for file, share in zip(files[1:], shares[1:], strict=True):
        other, more = read_weights(file)
        if _architecture(other, more) != _architecture(metadata, weights):
            raise InputError(
                f"{file} and {files[0]} are different networks; weights of the same kind of "
                "generator with the same options can be blended"
            )
        for name in total:
            total[name] = total[name] + np.float32(share / sum(shares)) * more[name]
    return metadata, {
        name: np.asarray(total[name]).astype(array.dtype) for name, array in weights.items()
    }


def _architecture(metadata: dict[str, Any], weights: dict[str, np.ndarray]) -> list[Any]:
    """By the rebuilt generator: an older file does not name what has become an option since."""
    return [metadata["generator"], _to_torch(metadata, weights).arguments]


def _open_native(
    metadata: dict[str, Any], weights: dict[str, np.ndarray], precision: str, num_parallel: int
) -> "list[Painter]":
    """None of them where C cannot be compiled, or does not know this generator."""
    from allaprima.painter import Painter

    arguments = metadata["arguments"]
    if metadata["generator"] != "johnson" or not isinstance(arguments, dict):
        return []  # torch's way tells what is wrong
    if not Painter.supports(arguments, precision):
        return []
    threads = max(1, num_cores() // num_parallel)
    return [Painter(arguments, weights, precision, threads) for _ in range(num_parallel)]


def _refuse_tiles(file: Path, tile: str) -> None:
    if tile in ("fast", "exact"):
        raise InputError(
            f"--tile {tile}: {file} is painted whole by ONNX Runtime: take the .safetensors file, "
            "or scale large photos down by --size"
        )


def _to_torch(metadata: dict[str, Any], weights: dict[str, np.ndarray]) -> "nn.Module":
    import torch

    from allaprima.architectures import rebuild_generator

    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    return rebuild_generator(metadata, tensors)


def _open_onnx(
    files: Sequence[Path], device: str, seed: int | None, noise: float | None, num_parallel: int
) -> tuple[dict[str, Any], list[Paint]]:
    if len(files) > 1 or device not in ("auto", "cpu") or (seed, noise) != (None, None):
        raise InputError(
            f"{files[0]} is painted by ONNX Runtime, on the CPU, alone and without noise: leave "
            "out --device, --blend, --seed and --noise, or take the .safetensors file"
        )
    from allaprima.onnx_painter import OnnxPainter

    threads = max(1, num_cores() // num_parallel)
    painters = [OnnxPainter(files[0], threads) for _ in range(num_parallel)]
    return painters[0].metadata, list(painters)
