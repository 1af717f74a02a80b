"""Decoded video frames to upright RGB: by their matrix and range, turned as players turn them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from allaprima.errors import InputError
from allaprima.images import MAX_PIXELS

# Numbers of ISO/IEC 23091-2, which every codec uses for matrix, primaries and transfer.
BT709, UNSPECIFIED, BT601, BT2020 = 1, 2, 6, 9
LIMITED, FULL = 1, 2  # ranges: 16…235, or 0…255
MATRICES = (BT709, 4, 5, BT601, 7)  # that 8-bit video of ordinary range is in
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


class Colours(NamedTuple):
    """How RGB is coded: matrix, primaries and transfer by number."""

    matrix: int
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED


def usual_colours(width: int, height: int) -> Colours:
    """What players assume of untagged video: BT.709 in high definition, else BT.601."""
    return Colours(BT709 if width >= 1280 or height > 576 else BT601)


class ToRGB:
    """Decoded frames to upright RGB, all at the first one's size.

    After the first frame, ``colours`` are those to write in: the clip's, or BT.709 where that is
    wider than ordinary video.

    Args:
        source: named in errors.
        context: of the decoder.
        warnings: where to append what a viewer should know.
    """

    def __init__(self, source: Path, context: Any, warnings: list[str]):
        self.source, self.context, self.warnings = source, context, warnings
        self.colours = Colours(BT709, BT709, BT709)
        self.is_transposed = False
        self.size: tuple[int, int] | None = None
        self.matrix = self.range = UNSPECIFIED

    def __call__(self, decoded: Any) -> np.ndarray:
        if self.size is None:
            self._learn(decoded)
        elif (decoded.width, decoded.height) != self.size:
            note = "the frame size changes in the clip; all are painted at the first one's"
            if note not in self.warnings:
                self.warnings.append(note)
        assert self.size is not None
        coding = {}
        if not decoded.format.is_rgb:
            range_ = decoded.color_range or self.range
            coding = {"src_colorspace": self.matrix, "src_color_range": range_}
        rgb = decoded.reformat(*self.size, "rgb24", **coding).to_ndarray()
        return turn(rgb, display_matrix(decoded))

    def _learn(self, decoded: Any) -> None:
        """From the first frame, which knows more than the header does."""
        width, height = self.size = decoded.width, decoded.height
        if width * height > MAX_PIXELS:
            raise InputError(
                f"{self.source} has frames of {width} × {height} pixels; at most {MAX_PIXELS:,} "
                "are read: scale it down"
            )
        self.matrix = decoded.colorspace
        if self.matrix in (0, UNSPECIFIED):  # RGB, or none given
            self.matrix = usual_colours(width, height).matrix
        self.is_transposed = is_transposed(display_matrix(decoded))
        context = self.context
        self.range = FULL if context.color_range == FULL else LIMITED
        primaries, transfer = int(context.color_primaries), int(context.color_trc)
        if self.matrix in MATRICES and primaries != BT2020 and transfer not in HDR_TRANSFERS:
            self.colours = Colours(self.matrix, primaries, transfer)
        elif transfer in HDR_TRANSFERS:
            self.warnings.append(
                f"this is HDR video ({HDR_TRANSFERS[transfer]}): it is painted and written as "
                "ordinary video, which makes its colours paler"
            )


def display_matrix(decoded: Any) -> tuple[int, int, int, int]:
    """a, b, c, d of the matrix by which a player shows the frame: x' = ax + cy, y' = bx + dy."""
    data = decoded.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5]
    return int(a), int(b), int(c), int(d)


def is_transposed(matrix: tuple[int, int, int, int]) -> bool:
    """If rows are shown as columns."""
    a, b, _, _ = matrix
    return abs(b) > abs(a)


def turn(rgb: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """The picture as shown; turns by other than quarters are rounded to them."""
    a, b, c, d = matrix
    if is_transposed(matrix):
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    rgb = rgb[:, ::-1] if a < 0 else rgb
    return np.ascontiguousarray(rgb[::-1] if d < 0 else rgb)
