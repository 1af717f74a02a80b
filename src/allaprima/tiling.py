"""Photos of any size in bounded memory: bands of rows, with the same statistics for all."""

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from allaprima.bands import Chain
from allaprima.engines import TILINGS, Progress
from allaprima.errors import InputError
from allaprima.images import to_float, to_uint8
from allaprima.layers import Norm, new_moments
from allaprima.painter import Painter, check_size, is_flat, photo_norm, working_bytes

BUDGET_BYTES = 1 << 30
BAND_PX = 64
SAMPLED, LEAST_STRIP_PX = 0.2, 96  # of the rows, and at least so many together, for ``fast``


class TiledPainter:
    """A Painter that takes photos in bands of rows, where they are too large to be held at once.

    A band's rows are computed once, from all the rows that the network sees, so that no borders
    can appear; all that bands could disagree in is the statistics of instance norms. *exact*
    gathers those of the whole photo, layer by layer: the layers at either end are computed anew
    for each of their norms, and what is between them, a sixteenth of the pixels, is kept in memory
    or, where that is too little, in a temporary file. The picture is that of the whole photo up to
    rounding. *fast* gathers them from strips that are spread over a fifth of the photo, and paints
    it in one pass after that. Batch norms have fixed statistics: one pass, and exact.

    Memory grows with the photo's width alone, beside the photo and the picture.

    Args:
        painter: paints what is small enough.
        tiling: "auto", at once up to ``budget_bytes``, else exact; "off"; "fast"; or "exact".
        budget_bytes: of working memory.
        progress: told of the share that is done, in bands, from 0 to 1.
    """

    takes_bytes = True

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

    def paint(self) -> np.ndarray:
        exact = self.tiled.tiling != "fast"
        picture = np.empty_like(self.photo)
        whole = _Piece(self, self.photo)
        if not self.painter.engine.instance:
            self.norms += [Norm(layer.gain, layer.offset) for layer in self.painter.layers]
            self.work = self._cost(0, self.num_layers)
            whole.run(0, self.num_layers, picture=picture)
            return picture
        pieces = [whole] if exact else [_Piece(self, each) for each in sample(self.photo)]
        last = self.up if exact else 0
        self.work = self._cost(last, self.num_layers)
        self.work += len(pieces[0].photo) * len(pieces) / len(self.photo) * self._gathering()
        self._gather(pieces)
        whole.run(last, self.num_layers, picture=picture)
        return picture

    def _gather(self, pieces: "Sequence[_Piece]") -> None:
        """The norms of all pieces together, layer by layer."""
        for piece in pieces:
            piece.make_stores(self.tiled.budget_bytes // len(pieces))
        for index in range(self.num_layers - 1):
            moments = new_moments(self.painter.layers[index])
            norm = None
            for piece in pieces:
                norm = piece.run(self._start(index), index + 1, moments=moments)
            assert norm is not None
            self.norms.append(norm)

    def _start(self, index: int) -> int:
        """Where to begin, to gather a layer's statistics: the last layer whose input is kept."""
        return 0 if index < 3 else min(index, self.up)

    def _gathering(self) -> float:
        return sum(self._cost(self._start(i), i + 1) for i in range(self.num_layers - 1))

    def _cost(self, first: int, stop: int) -> float:
        """Of these layers over the whole photo, relative: multiplications, roughly."""
        return sum(
            layer.taps.size * _KERNELS[layer.function] for layer in self.painter.layers[first:stop]
        )

    def advance(self, first: int, stop: int, share: float) -> None:
        self.done += share * self._cost(first, stop)
        self.tiled.progress(min(1.0, self.done / self.work))


_KERNELS = {
    "paint_first": 40.0,
    "paint_strided": 3.0,
    "paint_residual": 0.25,
    "paint_upsampled": 1.5,
    "paint_last": 40.0,
}


class _Piece:
    """A photo or a strip of it, and what is kept of it between passes."""

    def __init__(self, banded: _Banded, photo: np.ndarray):
        self.banded, self.photo = banded, photo
        self.convolution = self.sums = _Store(0, True)

    def make_stores(self, budget_bytes: int) -> None:
        layer, item = self.banded.painter.layers[2], self.banded.painter.engine.item
        height, width = (-(-side // 4) for side in self.photo.shape[:2])
        size = height * width * layer.cout * item
        in_memory = 2 * size <= budget_bytes
        self.convolution, self.sums = _Store(size, in_memory), _Store(size, in_memory)

    def run(
        self,
        first: int,
        stop: int,
        moments: np.ndarray | None = None,
        picture: np.ndarray | None = None,
    ) -> Norm | None:
        """One pass of some layers; into the picture, or into the stores where they begin."""
        banded = self.banded
        chain = Chain(
            banded.painter,
            first,
            stop,
            banded.norms,
            self.photo.shape[:2],
            moments,  # pyright: ignore
        )
        kept = 3 <= stop <= banded.up
        share = len(self.photo) / len(banded.photo)

        def feed(bottom: int) -> None:
            banded.advance(first, stop, share * (bottom - chain.x.bottom) / chain.x.height)
            if first == 0:
                self._feed_photo(chain, bottom)
                return
            for rows, store in ((chain.x, self.convolution), (chain.shortcut, self.sums)):
                if rows is not None:
                    rows.make_room(bottom)
                    begin, rows_begin = rows.bottom * rows.row_bytes, rows.bottom
                    store.read(begin, rows.view(rows_begin, bottom))
                    rows.bottom = bottom

        def drain() -> None:
            y = chain.y
            if picture is not None:
                painted = y.view(y.top, y.bottom).view(np.float32)
                part = picture[y.top : y.bottom]
                painted = painted.reshape(part.shape)
                part[...] = to_uint8(painted) if part.dtype == np.uint8 else painted
            elif kept:
                for rows, store in ((y, self.convolution), (chain.sums, self.sums)):
                    if rows is not None:
                        store.write(rows.top * rows.row_bytes, rows.view(rows.top, rows.bottom))

        chain.run(feed, drain, BAND_PX if first == 0 else BAND_PX // 4)
        return chain.norm

    def _feed_photo(self, chain: Chain, bottom: int) -> None:
        rows = chain.x
        rows.make_room(bottom)
        part = self.photo[rows.bottom : bottom]
        to = rows.view(rows.bottom, bottom).view(np.float32).reshape(part.shape)
        to[...] = to_float(part)
        rows.bottom = bottom


class _Store:
    """Bytes in memory, or in a temporary file."""

    def __init__(self, size: int, in_memory: bool):
        self._memory = np.empty(size, np.uint8) if in_memory else None
        self._file: Any = None if in_memory else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115

    def read(self, begin: int, into: np.ndarray) -> None:
        if self._memory is not None:
            into[...] = self._memory[begin : begin + into.size]
            return
        self._file.seek(begin)
        left: Any = memoryview(into)  # pyright: ignore
        while left:
            left = left[self._file.readinto(left) :]

    def write(self, begin: int, values: np.ndarray) -> None:
        if self._memory is not None:
            self._memory[begin : begin + values.size] = values
            return
        self._file.seek(begin)
        left: Any = memoryview(values)  # pyright: ignore
        while left:
            left = left[self._file.write(left) :]


def sample(photo: np.ndarray) -> list[np.ndarray]:
    """Strips of full width that are spread evenly over a photo; or all of a small one."""
    height = len(photo)
    number = round(SAMPLED * height / LEAST_STRIP_PX)
    if number < 2:
        return [photo]
    strip = int(SAMPLED * height / number) // 4 * 4
    tops = [round((i + 0.5) * height / number - strip / 2) // 4 * 4 for i in range(number)]
    return [photo[top : top + strip] for top in tops]
