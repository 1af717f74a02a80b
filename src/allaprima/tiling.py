"""Photos of any size in bounded memory: bands of rows, with the same statistics for all."""

import tempfile
from typing import Any, NamedTuple

import numpy as np

from allaprima.bands import Chain, Rows
from allaprima.engines import TILINGS, Progress
from allaprima.errors import InputError
from allaprima.images import to_float, to_uint8
from allaprima.layers import Norm, new_moments
from allaprima.packing import aligned_bytes
from allaprima.painter import MIN_SIZE_PX, Painter, check_size, is_flat, photo_norm, working_bytes

BUDGET_BYTES = 1 << 30
BAND_PX = 64
STRIP_PX, EVERY_PX, MARGIN_PX = 16, 64, 8  # of ``fast``: rows that are counted, of so many


class Strip(NamedTuple):
    """Rows of a photo, and how many of them at either end are seen but not counted."""

    top: int
    bottom: int
    margin: int = 0


class TiledPainter:
    """A Painter that takes photos in bands of rows, where they are too large to be held at once.

    A band's rows are computed once, from all the rows that the network sees, so that no borders
    can appear; all that bands could disagree in is the statistics of instance norms. *exact*
    gathers those of the whole photo, layer by layer: the layers at either end are computed anew
    for each of their norms, and what is between them, a sixteenth of the pixels, is kept in memory
    or, where that is too little, in a temporary file. The picture is that of the whole photo up to
    rounding. *fast* gathers the norms of the layers at either end from a quarter of the rows, in
    strips all over the photo, and those in between from all. Batch norms have fixed statistics:
    one pass without a file, and exact. What was tried instead: a copy of half the size (27 dB
    from the whole photo's picture); strips whose outermost rows, which see no more of the photo,
    are counted too (31 dB, however many, where it was 39 dB without them); half as many strips
    (33 dB of one shipped generator, where it is 37 dB).

    Memory grows with the photo's width alone, beside the photo and the picture.

    Args:
        painter: paints what is small enough.
        tiling: "auto", at once up to ``budget_bytes``, else exact; "off"; "fast"; or "exact".
        budget_bytes: of working memory.
        progress: told of the share that is done, in bands, from 0 to 1.
    """

    takes_bytes = True
    min_size_px = MIN_SIZE_PX

    def __init__(
        self,
        painter: Painter,
        tiling: str = "auto",
        budget_bytes: int = BUDGET_BYTES,
        progress: Progress | None = None,
    ):
        if tiling not in TILINGS:
            raise InputError(f"--tile {tiling}; choose one of {', '.join(TILINGS)}")
        self.painter, self.tiling, self.budget_bytes = painter, tiling, budget_bytes
        self.progress = progress or (lambda _: None)

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Paint (H, W, 3), uint8 or float32 in [0,1].

        Returns:
            float32 in [0,1]; uint8 where the photo is, and is painted in bands.

        Raises:
            InputError: a side under 16 px, or no room for the temporary file.
        """
        height, width = check_size(photo)
        fits = working_bytes(self.painter, height, width) <= self.budget_bytes
        if self.tiling == "off" or (self.tiling == "auto" and fits) or is_flat(photo):
            return self.painter(to_float(photo))
        try:
            return _Banded(self, photo).paint()
        except OSError as error:
            raise InputError(
                f"the temporary file of {width} × {height} px cannot be written "
                f"({error.strerror}): name another folder by TMPDIR, or say --tile fast"
            ) from error


class _Banded:
    """One photo's painting."""

    def __init__(self, tiled: TiledPainter, photo: np.ndarray):
        self.painter, self.photo, self.tiled = tiled.painter, photo, tiled
        self.num_layers = len(self.painter.layers)
        self.up = self.num_layers - 3
        self.norms = [photo_norm(self.painter, photo)]
        self.work = self.done = 0.0
        above, self.columns = map(self.painter.margins, photo.shape[:2])
        self.rows = np.pad(np.arange(len(photo)), above, "reflect")  # of the photo, as painted
        self.width = photo.shape[1] + sum(self.columns)
        self.all = Strip(0, len(self.rows))
        self.exact = tiled.tiling != "fast"
        self.convolution = self.sums = _Store(0, 0, True)
        if self.painter.engine.instance:
            height, width = (-(-side // 4) for side in (len(self.rows), self.width))
            row_bytes = width * self.painter.layers[2].cout * self.painter.engine.item
            dilation = max(layer.dilation for layer in self.painter.layers)
            in_memory = 2 * height * row_bytes <= tiled.budget_bytes
            self.convolution, self.sums = (
                _Store(height, row_bytes, in_memory, dilation, num_passes)
                for num_passes in (self.up - 2, (self.up - 2) // 2)
            )

    def paint(self) -> np.ndarray:
        picture = np.empty_like(self.photo)
        if not self.painter.engine.instance:
            self.norms += [Norm(layer.gain, layer.offset) for layer in self.painter.layers]
            self.work = self._cost(0, self.num_layers)
            self._run(0, self.num_layers, picture=picture)
            return picture
        passes = [(self._start(i), i + 1, self._parts(i)) for i in range(self.num_layers - 1)]
        self.work = self._cost(self.up, self.num_layers) + sum(
            self._cost(first, stop) * sum(part.bottom - part.top for part in parts) / len(self.rows)
            for first, stop, parts in passes
        )
        for first, stop, parts in passes:
            moments = new_moments(self.painter.layers[stop - 1])
            norm = None
            for strip in parts:
                norm = self._run(first, stop, strip, moments)
            assert norm is not None
            self.norms.append(norm)
        self._run(self.up, self.num_layers, picture=picture)
        return picture

    def _parts(self, index: int) -> list[Strip]:
        """Rows of the photo from which a layer's statistics are gathered."""
        in_between = 2 <= index < self.up
        return [self.all] if self.exact or in_between else strips(len(self.rows))

    def _start(self, index: int) -> int:
        """Where to begin, to gather a layer's statistics: the last layer whose input is kept."""
        return 0 if index < 3 else min(index, self.up)

    def _cost(self, first: int, stop: int) -> float:
        """Of these layers over the whole photo, relative: multiplications, roughly."""
        return sum(
            layer.taps.size * _KERNELS[layer.function] for layer in self.painter.layers[first:stop]
        )

    def _run(
        self,
        first: int,
        stop: int,
        strip: Strip | None = None,
        moments: np.ndarray | None = None,
        picture: np.ndarray | None = None,
    ) -> Norm | None:
        """One pass of some layers; into the picture, or into the stores where they begin.

        Args:
            strip: of the photo, all by default; it is taken for a photo of its own.
        """
        top, bottom, margin = strip or self.all
        size = bottom - top, self.width
        counted = (margin, size[0] - margin) if margin else None
        chain = Chain(self.painter, first, stop, self.norms, size, moments, counted)
        kept = 3 <= stop <= self.up
        read = [(chain.x, self.convolution), (chain.shortcut, self.sums)] if first >= 3 else []
        written = [(chain.y, self.convolution), (chain.sums, self.sums)] if kept else []
        for rows, store in read:
            store.lend(rows, top // 4)
        for rows, store in written:
            store.lend_above(rows)
        share = self._cost(first, stop) * size[0] / len(self.rows) / chain.x.height

        def feed(bottom: int) -> None:
            self.done += share * (bottom - chain.x.bottom)
            self.tiled.progress(min(1.0, self.done / self.work))
            for rows, store in read:
                store.read(rows, bottom, top // 4)
            if first == 0:
                chain.x.make_room(bottom)
                photo = self.photo[self.rows[top + chain.x.bottom : top + bottom]]
                to = chain.x.view(chain.x.bottom, bottom).view(np.float32)
                to = to.reshape(len(photo), self.width, 3)
                to[...] = np.pad(to_float(photo), ((0, 0), self.columns, (0, 0)), "reflect")
                chain.x.bottom = bottom

        def drain() -> None:
            y = chain.y
            if picture is not None:
                margin = self.painter.margin_px
                top, bottom = np.clip((y.top, y.bottom), margin, margin + len(picture))
                painted = y.view(top, bottom).view(np.float32).reshape(-1, self.width, 3)
                painted = painted[:, margin : margin + picture.shape[1]]
                part = picture[top - margin : bottom - margin]
                part[...] = to_uint8(painted) if part.dtype == np.uint8 else painted
            for rows, store in written:
                store.write(rows)

        chain.run(feed, drain, BAND_PX if first == 0 else BAND_PX // 4)
        return chain.norm


_KERNELS = {
    "paint_first": 40.0,
    "paint_strided": 3.0,
    "paint_residual": 0.25,
    "paint_upsampled": 1.5,
    "paint_last": 40.0,
}


class _Store:
    """An image of the residual blocks' size between two passes: in memory, or a temporary file.

    In memory, a pass reads and writes it in place. What it writes lies above what it reads, by a
    band and the 4 rows (times the dilation) to either side that a tile of 4 may need, so that no
    row is overwritten while it is still seen.
    """

    def __init__(
        self,
        height: int,
        row_bytes: int,
        in_memory: bool,
        dilation: int = 1,
        num_passes: int = 0,
    ):
        self._shift = BAND_PX // 4 + 8 * dilation
        self._row_bytes, self._top = row_bytes, num_passes * self._shift
        self._memory = aligned_bytes((self._top + height) * row_bytes) if in_memory else None
        self._file: Any = None if in_memory else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115

    def lend(self, rows: Rows | None, top: int) -> None:
        """Let them be the image's, from that one on."""
        if self._memory is not None and rows is not None:
            rows.lend(self._memory[(self._top + top) * self._row_bytes :])

    def lend_above(self, rows: Rows | None) -> None:
        """Let them be the next image's."""
        if self._memory is not None and rows is not None:
            self._top -= self._shift
            self.lend(rows, 0)

    def read(self, rows: Rows | None, bottom: int, top: int) -> None:
        """Rows down to ``bottom``, whose first is the image's row ``top``."""
        if rows is None:
            return
        if self._memory is None:
            rows.make_room(bottom)
            self._file.seek((top + rows.bottom) * self._row_bytes)
            left: Any = memoryview(rows.view(rows.bottom, bottom))  # pyright: ignore
            while left:
                left = left[self._file.readinto(left) :]
        rows.bottom = bottom

    def write(self, rows: Rows | None) -> None:
        """Those that are there."""
        if self._memory is None and rows is not None:
            self._file.seek(rows.top * self._row_bytes)
            left: Any = memoryview(rows.view(rows.top, rows.bottom))  # pyright: ignore
            while left:
                left = left[self._file.write(left) :]


def strips(height: int) -> list[Strip]:
    """Some that are spread evenly over a photo; all of a small one."""
    strip = STRIP_PX + 2 * MARGIN_PX
    every = max(strip, min(EVERY_PX, height // 24))  # two dozen at least, of a large photo
    if height < 4 * strip:
        return [Strip(0, height)]
    number = height // every
    tops = (int((i + 0.5) * height / number - strip / 2) // 4 * 4 for i in range(number))
    return [Strip(top, top + strip, MARGIN_PX) for top in tops]
