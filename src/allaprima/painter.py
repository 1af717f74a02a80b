"""One pass of Johnson's network on a CPU, without torch: numpy and compiled C."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from allaprima.errors import InputError
from allaprima.layers import Engine, Norm, run_layer
from allaprima.native import load_library
from allaprima.packing import Convolution, aligned_bytes, pack_generator
from allaprima.processors import num_cores

MIN_SIZE_PX = 16
KEPT_BYTES = 512 << 20  # of working memory between calls, at most
SUPPORTED = {
    "norm": ("instance", "batch"),
    "upsampling": ("smooth", "nearest"),
    "padding": ("layers",),
    "input": ("rgb",),
    "output": ("tanh", "linear"),
    "margin_px": range(0, 65, 4),
}


class Painter:
    """A trained JohnsonGenerator that paints on the CPU; threads may share it.

    Winograd's convolutions, and norms applied where the next layer reads: the same numbers as
    :class:`allaprima.generators.johnson.JohnsonGenerator` up to rounding (1e-4 of the range).

    Args:
        arguments: the generator's.
        weights: its state dict, as arrays.
        precision: "32", or "bf16" for bfloat16 products and storage, with float32 sums, norms
            and output: twice as fast; the RMS difference is within 2 levels of 255, single
            pixels may differ by up to about 50.
        threads: how many work on one photo; None is one for each core.

    Raises:
        InputError: arguments that :meth:`supports` denies, tensors missing or of other shapes,
            an unknown precision, or bf16 on a CPU without products of its own for it.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        weights: Mapping[str, np.ndarray],
        precision: str = "32",
        threads: int | None = None,
    ):
        if precision not in ("32", "bf16"):
            raise InputError(f"precision {precision}; choose one of 32, bf16")
        if not self.supports(arguments):
            raise InputError(
                "the compiled painter is not available here, or not for a generator with "
                f"{dict(arguments)}; paint with torch"
            )
        if not self.supports(arguments, precision):
            raise InputError(
                "precision bf16 needs a CPU with products of its own for it (AVX512_BF16); "
                "choose 32"
            )
        library = load_library("painter")
        assert library is not None
        self.engine = Engine(
            library,
            instance=arguments.get("norm", "instance") == "instance",
            smooth=arguments.get("upsampling", "smooth") == "smooth",
            cut=arguments.get("output", "tanh") == "linear",
            low=precision == "bf16",
            threads=num_cores() if threads is None else max(1, threads),
        )
        self.margin_px = int(arguments.get("margin_px", 0))
        self.layers = pack_generator(arguments, weights, self.engine.low)
        self._memory: list[np.ndarray] = []
        self._lock = threading.Lock()

    @staticmethod
    def available(precision: str = "32") -> bool:
        """Whether the C source could be compiled here; the first call does it.

        See :func:`allaprima.native.load_library`.
        """
        library = load_library("painter")
        return library is not None and (precision == "32" or bool(library.has_bfloat16()))

    @classmethod
    def supports(cls, arguments: Mapping[str, Any], precision: str = "32") -> bool:
        """Whether a JohnsonGenerator with these arguments can be painted here."""
        known = {"filters", "num_residual_blocks", "dilations", *SUPPORTED}
        return (
            set(arguments) <= known
            and all(arguments.get(name, of[0]) in of for name, of in SUPPORTED.items())
            and cls.available(precision)
        )

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Paint (H, W, 3) float32 in [0,1] into the same.

        Raises:
            InputError: a side under 16 px, or more pixels than there is memory for.
        """
        height, width = check_size(rgb)
        if is_flat(rgb):
            return np.broadcast_to(self.paint_flat(rgb[0, 0]), rgb.shape).astype(np.float32)
        try:
            margins = (*map(self.margins, rgb.shape[:2]), (0, 0))
            photo = np.pad(rgb, margins, "reflect") if self.margin_px else rgb
            photo = np.ascontiguousarray(photo, np.float32)
            picture = np.empty_like(photo)
            memory = self._take_memory(*photo.shape[:2])
            _Pass(self, photo, picture, memory).run()
        except MemoryError as error:
            raise InputError(
                f"{width} × {height} px need more memory than there is; scale the photo down"
            ) from error
        with self._lock:
            if not self._memory and memory.nbytes <= KEPT_BYTES:
                self._memory.append(memory)
        top = left = self.margin_px
        return picture[top : top + height, left : left + width]

    def margins(self, side_px: int) -> tuple[int, int]:
        """How much is reflected before and after a side of a photo; none without ``margin_px``."""
        margin = self.margin_px
        return (margin, margin + -side_px % 4) if margin else (0, 0)

    def _take_memory(self, height: int, width: int) -> np.ndarray:
        """Working memory for a photo of that size: what an earlier call left, if it is enough."""
        size = sum(_regions(self.layers, height, width, self.engine.item))
        with self._lock:
            kept = self._memory.pop() if self._memory else None
        if kept is not None and size <= kept.nbytes:
            return kept
        return aligned_bytes(size)

    def paint_flat(self, colour: np.ndarray) -> np.ndarray:
        """The one colour that a photo of one colour becomes.

        Its variance is zero, and instance norms would take rounding errors for texture.
        """
        first, *inner, last = self.layers
        x = self._flat_layer(first, colour.astype(np.float64) - 0.5)
        down, residual, up = inner[:2], inner[2:-2], inner[-2:]
        for layer in down:
            x = self._flat_layer(layer, np.maximum(x, 0))
        x = np.maximum(x, 0)
        for one, two in zip(residual[::2], residual[1::2], strict=True):
            x = x + self._flat_layer(two, np.maximum(self._flat_layer(one, x), 0))
        for layer in up:
            x = np.maximum(self._flat_layer(layer, x), 0)
        x = last.taps @ x + last.bias
        return np.clip(0.5 + x, 0, 1) if self.engine.cut else 0.5 + 0.5 * np.tanh(x)

    def _flat_layer(self, layer: Convolution, x: np.ndarray) -> np.ndarray:
        channels = len(layer.taps)
        offset = layer.offset[:channels].astype(np.float64)
        return offset if self.engine.instance else layer.gain[:channels] * (layer.taps @ x) + offset


class _Pass:
    """The layers in turn on one photo, in working memory of two regions.

    The first holds what has the photo's resolution, and in between, four images of a quarter of
    it: two sums of residual blocks in turn, and the two convolutions of a block. The second holds
    what has half of the resolution.
    """

    def __init__(self, painter: Painter, photo: np.ndarray, picture: np.ndarray, memory: Any):
        self.painter, self.photo, self.picture = painter, photo, picture
        self.height, self.width = padded_size(photo)
        item = painter.engine.item
        first, _ = _regions(painter.layers, self.height, self.width, item)
        self.full = memory.ctypes.data
        self.half = self.full + first
        quarter = _quarter(painter.layers, self.height, self.width, item)
        sums, other_sums, self.middle, self.end = (self.full + i * quarter for i in range(4))
        self.sums = sums, other_sums
        self.norm = photo_norm(painter, photo)

    def run(self) -> None:
        first, strided, strided_again, *residual, up, up_again, last = self.painter.layers
        self._paint(first, 1, self.photo.ctypes.data, self.full)
        self._paint(strided, 1, self.full, self.half, relu=True)
        self._paint(strided_again, 2, self.half, self.end, relu=True)
        shortcut = None
        for index, (one, two) in enumerate(zip(residual[::2], residual[1::2], strict=True)):
            sums = self.sums[index % 2]
            self._paint(one, 4, self.end, self.middle, not shortcut, shortcut, sums)
            self._paint(two, 4, self.middle, self.end, relu=True)
            shortcut = sums
        self._paint(up, 4, self.end, self.half, not shortcut, shortcut)
        self._paint(up_again, 2, self.half, self.full, relu=True)
        self._paint(last, 1, self.full, self.picture.ctypes.data, relu=True)

    def _paint(
        self,
        layer: Convolution,
        reduction: int,
        x: int,
        y: int,
        relu: bool = False,
        shortcut: int | None = None,
        sums: int | None = None,
    ) -> None:
        """One layer; ``x`` is ``reduction`` times smaller than the photo."""
        size = self.height // reduction, self.width // reduction
        height, width = self.photo.shape[:2]
        self.norm = run_layer(
            *(self.painter.engine, layer, self.norm, x, y, size, (height, width)),
            relu=relu,
            shortcut=shortcut,
            sums=sums,
        )


def check_size(photo: np.ndarray) -> tuple[int, int]:
    """Height and width of a photo; InputError if the network is too large for it."""
    height, width = photo.shape[:2]
    if min(height, width) < MIN_SIZE_PX:
        raise InputError(f"photo of {width}×{height} px; each side must be ≥ 16 px")
    return height, width


def padded_size(photo: np.ndarray) -> tuple[int, int]:
    """Height and width that the network pads it to, multiples of 4."""
    height, width = (-(-side // 4) * 4 for side in photo.shape[:2])
    return height, width


def is_flat(photo: np.ndarray) -> bool:
    """Whether it has one colour."""
    return bool((photo[0] == photo[0, 0]).all() and (photo == photo[0, 0]).all())


def photo_norm(painter: Painter, photo: np.ndarray) -> Norm:
    """What is done to a photo, uint8 or float32, first: minus its mean colour.

    A constant is lost in the first instance norm. The mean colour is that which leaves the
    smallest numbers, so that rounding errors are small where the photo has little contrast.
    """
    colour = np.full(3, 0.5)
    if painter.engine.instance:
        colour = photo[::8, ::8].mean((0, 1)) / (255 if photo.dtype == np.uint8 else 1)
    return Norm(np.ones(3, np.float32), -colour.astype(np.float32))


def working_bytes(painter: Painter, height: int, width: int) -> int:
    """What painting a photo at once takes: between layers, and photo and picture as float32."""
    height, width = (side + sum(painter.margins(side)) for side in (height, width))
    regions = _regions(painter.layers, height, width, painter.engine.item)
    return sum(regions) + 24 * height * width


def _quarter(layers: list[Convolution], height: int, width: int, item: int) -> int:
    """Bytes of an image of the residual blocks' size, in whole lines of the cache."""
    return -(-height * width // 16 * layers[2].cout * item // 64) * 64


def _regions(layers: list[Convolution], height: int, width: int, item: int) -> tuple[int, int]:
    """Bytes of either region."""
    height, width = (-(-side // 4) * 4 for side in (height, width))
    full = -(-height * width * layers[0].cout * item // 64) * 64
    half = height * width // 4 * layers[1].cout * item
    return max(full, 4 * _quarter(layers, height, width, item)), half
