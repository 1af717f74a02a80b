"""Layers over a photo from top to bottom, with no more than a band of rows of each in memory.

Every layer writes a row as soon as the rows around it that it sees are there, and rows that
nobody sees any more are dropped. So nothing is computed twice, and every pixel is what the layer
makes of the whole image: there are no tiles whose borders could be seen.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from allaprima.layers import Norm, last_row, run_layer
from allaprima.packing import Convolution, aligned_bytes
from allaprima.painter import Painter


class Rows:
    """Those rows of an image that are in memory: from ``top`` to ``bottom``."""

    def __init__(self, height: int, row_bytes: int):
        self.height, self.row_bytes = height, row_bytes
        self.top = self.bottom = 0
        self.is_lent = False
        self._memory = aligned_bytes(0)

    def lend(self, memory: np.ndarray) -> None:
        """Be in memory that has room for all rows, where none is dropped."""
        self._memory, self.is_lent = memory, True

    def address(self, row: int) -> int:
        """Where a row is, or would be."""
        return self._memory.ctypes.data + (row - self.top) * self.row_bytes

    def make_room(self, bottom: int) -> None:
        """Memory for all rows from ``top`` to there."""
        needed = (bottom - self.top) * self.row_bytes
        if needed > self._memory.nbytes:
            memory = aligned_bytes(needed)
            held = (self.bottom - self.top) * self.row_bytes
            memory[:held] = self._memory[:held]
            self._memory = memory

    def view(self, top: int, bottom: int) -> np.ndarray:
        """Bytes of rows for which there is room."""
        return self._memory[
            (top - self.top) * self.row_bytes : (bottom - self.top) * self.row_bytes
        ]

    def forget(self, row: int) -> None:
        """Drop the rows above."""
        row = min(row, self.bottom)
        if row > self.top and not self.is_lent:
            size = (self.bottom - row) * self.row_bytes
            ctypes.memmove(self.address(self.top), self.address(row), size)
            self.top = row


@dataclass
class Stage:
    """A layer, what it reads and writes; ``shortcut`` and ``sums`` as of ``run_layer``."""

    layer: Convolution
    x: Rows
    y: Rows
    size: tuple[int, int]  # of x, the photo's as it is padded
    relu: bool
    shortcut: Rows | None = None
    sums: Rows | None = None
    done: int = 0  # rows, as run_layer counts them

    def advance(
        self,
        painter: Painter,
        norm: Norm,
        photo_size: tuple[int, int],
        moments: np.ndarray | None = None,
        until: int | None = None,
    ) -> Norm | None:
        """Write what can be written from the rows that there are; the norm, if any was.

        Args:
            until: no row from there on, as run_layer counts them.
        """
        read = [self.x] if self.shortcut is None else [self.x, self.shortcut]
        end = self._reach(min(rows.bottom for rows in read), photo_size[0])
        end = end if until is None else min(end, until)
        if end <= self.done:
            return None
        doubles = self.layer.function == "paint_upsampled"
        self.y.make_room(2 * end if doubles else end)
        if self.sums is not None:
            self.sums.make_room(end)
        next_norm = run_layer(
            *(painter.engine, self.layer, norm, self.x.address(0), self.y.address(0)),
            *(self.size, photo_size),
            rows=(self.done, end),
            relu=self.relu,
            shortcut=None if self.shortcut is None else self.shortcut.address(0),
            sums=None if self.sums is None else self.sums.address(0),
            moments=moments,
        )
        self.done = end
        self.y.bottom = 2 * end if doubles else end
        if self.sums is not None:
            self.sums.bottom = end
        for rows in read:
            rows.forget(self._needed())
        return next_norm

    def _reach(self, bottom: int, photo_height: int) -> int:
        """How far the rows above ``bottom`` are enough."""
        last = last_row(self.layer, self.size[0], photo_height)
        if bottom >= self.x.height:
            return last
        square = 4 * self.layer.dilation
        reach = {
            "paint_first": (bottom - 4) // 4 * 4,
            "paint_strided": bottom // 2,
            "paint_residual": (bottom - self.layer.dilation) // square * square,
            "paint_upsampled": bottom - 2,
            "paint_last": (bottom - 4) // 4 * 4,
        }[self.layer.function]
        return min(reach, last)

    def _needed(self) -> int:
        """The first row of x that is still seen; more where a rest of a tile is reflected."""
        if self.layer.function == "paint_strided":
            return max(0, 2 * self.done - 1)
        doubles = self.layer.function == "paint_upsampled"
        return max(0, self.done - (2 if doubles else 4 * self.layer.dilation))


@dataclass
class Chain:
    """Some neighbouring layers, from rows of what they read to rows of what they write.

    Args:
        first, stop: which of the painter's layers.
        norms: of what each layer reads, from the photo on.
        photo_size: height and width.
        moments: of the last layer's output; its pixels are added.
        counted: only those of these rows of the photo, multiples of 4.
    """

    painter: Painter
    first: int
    stop: int
    norms: Sequence[Norm]
    photo_size: tuple[int, int]
    moments: np.ndarray | None = None
    counted: tuple[int, int] | None = None
    stages: list[Stage] = field(init=False)
    norm: Norm | None = None  # of the last layer, by the moments so far

    def __post_init__(self) -> None:
        layers, up = self.painter.layers, len(self.painter.layers) - 3  # up doubles the size
        self.stages = []
        sums = x = self.x = self._rows(self.first)
        self.shortcut = self.sums = None  # what is fed and drained beside x and y
        for index in range(self.first, self.stop):
            y = self._rows(index + 1)
            stage = Stage(layers[index], x, y, self._padded(index), index not in (0, 3, up))
            opens = 3 <= index < up and index % 2 == 1
            if opens or index == up:
                stage.relu = index == 3
                if index > 3:
                    if index == self.first:
                        sums = self.shortcut = self._rows(index)
                    stage.shortcut = sums
            if opens:
                stage.sums = sums = self._rows(index)
                self.sums = sums if index == self.stop - 1 else None
            self.stages.append(stage)
            x = y
        self.y = x

    def run(self, feed: Callable[[int], None], drain: Callable[[], None], step: int) -> None:
        """Feed ``step`` rows of x after the other, and drain y (and sums) after each.

        Args:
            feed: brings x (and the shortcut) down to a row.
            drain: may take rows of y (and sums); all are dropped then.
        """
        *inner, last = self.stages
        given = self.painter, self.norms[self.stop - 1], self.photo_size
        height, _ = self._padded(0)
        num_rows = last_row(last.layer, last.size[0], self.photo_size[0])
        begin, end = (row * num_rows // height for row in self.counted or (0, height))
        for top in range(0, self.x.height, step):
            feed(min(self.x.height, top + step))
            for stage, norm in zip(inner, self.norms[self.first :], strict=False):
                stage.advance(self.painter, norm, self.photo_size)
            last.advance(*given, until=begin)
            self.norm = last.advance(*given, self.moments, until=end) or self.norm
            last.advance(*given)
            drain()
            for rows in (self.y, self.sums):
                if rows is not None:
                    rows.forget(rows.bottom)

    def _padded(self, index: int) -> tuple[int, int]:
        """Height and width of what a layer reads."""
        num_layers = len(self.painter.layers)
        reduction = {0: 1, 1: 1, 2: 2, num_layers - 2: 2, num_layers - 1: 1}.get(index, 4)
        height, width = (-(-side // 4) * 4 // reduction for side in self.photo_size)
        return height, width

    def _rows(self, index: int) -> Rows:
        """None yet, of what a layer reads or, after the last, of the picture."""
        if index in (0, len(self.painter.layers)):
            height, width = self.photo_size
            return Rows(height, width * 12)
        height, width = self._padded(index)
        return Rows(height, width * self.painter.layers[index].cin * self.painter.engine.item)
