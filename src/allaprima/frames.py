"""What video and animation files have in common: frames with times, and where they go."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from allaprima.errors import InputError, reason
from allaprima.partial import partial_of

BROWSERS_DELAY = Fraction(1, 10)  # what browsers show a frame for whose duration is 0


class Frame(NamedTuple):
    """A picture of a clip, upright.

    Args:
        rgb: (H, W, 3) uint8.
        alpha: (H, W) uint8, or None where everything is opaque.
        start, duration: seconds, exactly.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    start: Fraction
    duration: Fraction


class Clip(Protocol):
    """An open video or animation: ``for frame in clip.frames()`` once, then ``warnings``."""

    warnings: list[str]

    @property
    def num_frames(self) -> int | None:
        """As the file says, roughly; None where it does not."""
        ...

    def frames(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class ClipWriter(Protocol):
    """Where painted frames go; the file is whole after ``finish``."""

    warnings: list[str]

    def write(self, frame: Frame) -> None: ...

    def finish(self, interrupted: bool) -> None: ...

    def close(self) -> None:
        """Give everything back, whether finished or not."""
        ...


@contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """A name to write to; the file moves to ``target`` at the end and is removed on any error.

    Raises:
        InputError: the file cannot be written, such as on a full disk.
    """
    partial = partial_of(target, target.suffix)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, target)
    except Exception as error:
        from av.error import FFmpegError  # here, for photos do without PyAV

        if not isinstance(error, OSError | FFmpegError):
            raise
        raise InputError(f"{target} cannot be written: {reason(error)}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
