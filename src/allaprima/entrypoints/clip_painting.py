"""stylize.py at work on videos and animations: frames counted, speed and time left told."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from allaprima.clips import ANIMATION_SUFFIXES, by_frames, check_target
from allaprima.controls import Controls, Paint
from allaprima.errors import InputError
from allaprima.images import Picture
from allaprima.outputs import Plan

if TYPE_CHECKING:
    from allaprima.video import Progress

Show = Callable[["Progress"], None]
TELL_EVERY_S = 30.0  # where there is no terminal to draw on


class ClipOptions(NamedTuple):
    """As :func:`allaprima.video.paint_video` has them.

    Args:
        for_videos: GIFs and WebPs among the clips are written without this codec and quality.
    """

    codec: str = "auto"
    quality: int | None = None
    steady: bool = False
    for_videos: bool = False

    def of(self, target: Path) -> tuple[str, int | None]:
        """Codec and quality to write a file with."""
        left_out = self.for_videos and target.suffix.lower() in ANIMATION_SUFFIXES
        return ("auto", None) if left_out else (self.codec, self.quality)


def check_clips(plan: Plan, options: ClipOptions) -> ClipOptions:
    """The options with which to paint a plan's clips; mistakes are told before the work.

    Raises:
        InputError: they do not go with a file of the plan, or there is no clip at all.
    """
    clips = [pair for pair in plan if by_frames(*pair)]
    if not clips and options != ClipOptions():
        raise InputError("--codec, --quality and --steady are for clips, and there is none here")
    options = options._replace(for_videos=len(clips) > 1)
    for source, target in clips:
        check_target(source, target, *options.of(target), overwrite=True)
    return options


def paint_clip(
    one_pass: Paint,
    controls: Controls,
    options: ClipOptions,
    source: Path,
    target: Path,
    made_by: str,
    tell: Callable[[str], None],
) -> None:
    """Paint one clip, and tell what a viewer of it should know.

    Raises:
        InputError: as :func:`allaprima.video.paint_video`, or as the controls.
        PaintingInterrupted: as :func:`allaprima.video.paint_video`.
    """
    from allaprima.steady import Steadied
    from allaprima.video import paint_video

    painter = Steadied(one_pass) if options.steady else one_pass
    codec, quality = options.of(target)
    with progress_of(source, tell) as show:
        report = paint_video(
            lambda rgb: controls.paint(Picture(rgb, None), painter).rgb,
            source,
            target,
            codec=codec,
            quality=quality,
            overwrite=True,
            made_by=made_by,
            on_progress=show,
        )
    for warning in report.warnings:
        tell(f"note: {target}: {warning}")
    rate = f"{report.frames_per_s:.1f} frames/s"
    tell(f"{target}: {report.frames} frames in {report.seconds:.0f} s, {rate}")


@contextmanager
def progress_of(source: Path, tell: Callable[[str], None]) -> Iterator[Show]:
    """What to call after each frame: a bar on a terminal, elsewhere a line every half minute."""
    if os.isatty(2):
        with _bar() as bar:
            task = bar.add_task(source.name, total=None, text="")

            def draw(progress: "Progress") -> None:
                bar.update(
                    task,
                    total=progress.num_frames,
                    completed=progress.frames,
                    text=describe(progress),
                )

            yield draw
        return
    told = time.monotonic()

    def say(progress: "Progress") -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            tell(f"{source}: {describe(progress)}")

    yield say


def describe(progress: "Progress") -> str:
    """As "120 of 250 frames, 15.3 frames/s, 0:08 left"; what the file does not tell is left out."""
    of_all = f" of {progress.num_frames}" if progress.num_frames else ""
    words = f"{progress.frames}{of_all} frames, {progress.frames_per_s:.1f} frames/s"
    if progress.left_s is None:
        return words
    minutes, seconds = divmod(round(progress.left_s), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{words}, {clock} left"


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(16), TextColumn("{task.fields[text]}")
    return Progress(*columns, console=Console(stderr=True), transient=True)
