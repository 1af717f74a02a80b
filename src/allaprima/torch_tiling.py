"""Photos of any size by torch, tile by tile, with the same statistics for all tiles.

For a GPU, and for networks that the compiled painter does not know; see tiling.py for that one's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from allaprima.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from allaprima.engines import Progress

TILE_PX = 512
EVERY = 4  # of ``fast``: statistics are gathered from one tile of so many


@dataclass(frozen=True)
class Span:
    """Rows or columns of a tile: those painted, and around them those that must be seen."""

    begin: int
    end: int
    first: int
    last: int
    whole: int  # of the photo

    def inside(self, size: int) -> slice:
        """The painted ones, in an activation of that size."""
        factor = 2 ** round(math.log2((self.last - self.first) / size))
        end = size if self.end == self.whole else (self.end - self.first) // factor
        return slice((self.begin - self.first) // factor, end)


def spans(whole: int, halo_px: int, step_px: int) -> list[Span]:
    """A side of a photo in parts of ``step_px``, each with ``halo_px`` around it."""
    return [
        Span(
            begin,
            end := min(begin + step_px, whole),
            max(0, begin - halo_px),
            min(whole, end + halo_px),
            whole,
        )
        for begin in range(0, whole, step_px)
    ]


def can_tile(generator: "nn.Module") -> bool:
    """Whether :func:`paint_in_tiles` knows how far this generator sees."""
    return getattr(generator, "halo_px", None) is not None


def paint_in_tiles(
    generator: "nn.Module",
    rgb: np.ndarray,
    precision: str,
    exact: bool,
    progress: "Progress | None" = None,
    tile_px: int = TILE_PX,
) -> np.ndarray:
    """(H, W, 3) float32 in [0,1] to the same; no more than a tile of it is on the device.

    Every tile is painted with as much of the photo around it as the network sees, so that there
    are no borders. Of each instance norm, the mean and variance of the whole photo are gathered
    tile by tile, in the order in which the network has them: the picture is that of the whole
    photo up to rounding, for about half as many passes as there are norms. Not ``exact``, they
    are gathered from a quarter of the tiles. Batch norms need one pass.

    Args:
        progress: told of the share that is done, from 0 to 1.

    Raises:
        InputError: a generator that :func:`can_tile` denies.
    """
    if not can_tile(generator):
        raise InputError(
            "this generator cannot paint in tiles (it wraps around, pads at the start, or changes "
            "the size): leave --tile out, and scale large photos down by --size"
        )
    return _Tiling(generator, rgb, precision, exact, progress, tile_px).paint()


class _Gathered(Exception):
    """A tile is done: it has come to the norm whose statistics are gathered."""


@dataclass
class _Moments:
    """Count, mean and squared deviations of each channel, by Chan's formula, in float64."""

    count: int = 0
    mean: Any = 0.0
    squares: Any = 0.0

    def add(self, x: "Tensor") -> None:
        """Those of (1, C, h, w)."""
        import torch

        variance, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
        variance, mean = variance.double().cpu(), mean.double().cpu()
        count = x[0, 0].numel()
        total, change = self.count + count, mean - self.mean
        self.squares = (
            self.squares + count * variance + change * change * (self.count * count / total)
        )
        self.mean = self.mean + change * (count / total)
        self.count = total


@dataclass
class _Tiling:
    """One photo's painting."""

    generator: Any
    rgb: np.ndarray
    precision: str
    exact: bool
    progress: Any
    tile_px: int
    fixed: dict[Any, tuple[Any, Any]] = field(default_factory=dict)  # scale and shift of a norm
    gathered: Any = None
    moments: _Moments = field(default_factory=_Moments)
    tile: tuple[Span, Span] | None = None
    noise: Any = None
    num_done: int = 0

    def paint(self) -> np.ndarray:
        """With a generator's margin around the photo, it is a photo of a generator without."""
        margin = getattr(self.generator, "margin_px", 0)
        if not margin:
            return self._paint()
        height, width = self.rgb.shape[:2]
        around = [(margin, margin + -side % 4) for side in (height, width)]
        self.rgb = np.pad(self.rgb, [*around, (0, 0)], "reflect")
        self.generator.margin_px = 0
        try:
            return self._paint()[margin : margin + height, margin : margin + width]
        finally:
            self.generator.margin_px = margin

    def _paint(self) -> np.ndarray:
        generator = self.generator
        height, width = self.rgb.shape[:2]
        if hasattr(generator, "draw_noise"):
            self.noise = generator.draw_noise(1, height, width)
        step = -(-self.tile_px // generator.alignment_px) * generator.alignment_px
        rows, columns = (spans(side, generator.halo_px, step) for side in (height, width))
        tiles = [(row, column) for row in rows for column in columns]
        some = tiles if self.exact or len(tiles) < 2 * EVERY else tiles[:: EVERY + 1]
        norms = self._norms()
        self.num_tiles = len(norms) * len(some) + len(tiles)
        picture = np.empty_like(self.rgb, np.float32)
        try:
            for norm in norms:
                norm.stand_in = self._normalize
            for norm in norms:
                self.gathered, self.moments = norm, _Moments()
                for tile in some:
                    self._run(tile)
                self.fixed[norm] = self._scale_and_shift(norm)
            self.gathered = None
            for row, column in tiles:
                painted = self._run((row, column))
                inside = row.inside(len(painted)), column.inside(painted.shape[1])
                picture[row.begin : row.end, column.begin : column.end] = painted[inside]
        finally:
            for norm in norms:
                norm.stand_in = None
        return picture

    def _norms(self) -> list[Any]:
        """Those that depend on the photo, in the order in which they are come to."""
        from allaprima.fused import InstanceNorm

        order: list[Any] = []
        hooks = [
            module.register_forward_pre_hook(lambda norm, _: order.append(norm))
            for module in self.generator.modules()
            if isinstance(module, InstanceNorm)
        ]
        try:
            least = max(32, self.generator.min_size_px)
            self._forward(np.zeros((least, least, 3), np.float32), None)
        finally:
            for hook in hooks:
                hook.remove()
        return order

    def _run(self, tile: tuple[Span, Span]) -> Any:
        row, column = self.tile = tile
        part = self.rgb[row.first : row.last, column.first : column.last]
        noise = None
        if self.noise is not None:
            noise = [_cut(level, row, column, self.rgb.shape[:2]) for level in self.noise]
        try:
            return self._forward(part, noise)
        except _Gathered:
            return None
        finally:
            self.num_done += 1
            if self.progress:
                self.progress(self.num_done / self.num_tiles)

    def _forward(self, part: np.ndarray, noise: Sequence["Tensor"] | None) -> np.ndarray:
        import torch

        device = next(self.generator.parameters()).device
        half = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")
        photo = torch.tensor(np.ascontiguousarray(part, np.float32)).permute(2, 0, 1)[None]
        photo = photo.to(device, memory_format=torch.channels_last)
        with torch.inference_mode(), half:
            painted = self.generator(photo, noise) if noise else self.generator(photo)
            return painted[0].permute(1, 2, 0).float().cpu().numpy()

    def _normalize(self, norm: Any, x: "Tensor") -> "Tensor":
        """What stands in for an instance norm."""
        if norm is self.gathered:
            assert self.tile is not None
            row, column = self.tile
            self.moments.add(x[..., row.inside(x.shape[-2]), column.inside(x.shape[-1])])
            raise _Gathered
        scale, shift = self.fixed[norm]
        return (x.float() * scale + shift).to(x.dtype)

    def _scale_and_shift(self, norm: Any) -> tuple[Any, Any]:
        variance = self.moments.squares / self.moments.count
        weight, bias = (p.detach().double().cpu() for p in (norm.weight, norm.bias))
        scale = weight * (variance + norm.eps).rsqrt()
        shift = bias - scale * self.moments.mean
        return tuple(v.float().to(norm.weight.device).view(-1, 1, 1) for v in (scale, shift))  # pyright: ignore


def _cut(level: "Tensor", row: Span, column: Span, size: tuple[int, int]) -> "Tensor":
    """A tile's part of the noise of one scale."""
    factor = 2 ** round(math.log2(size[0] / level.shape[-2]))

    def part(span: Span) -> slice:
        return slice(span.first // factor, -(-span.last // factor))

    return level[..., part(row), part(column)]
