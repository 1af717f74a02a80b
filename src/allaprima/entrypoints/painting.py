"""stylize.py at work: photos and clips painted, told of and counted; folders watched."""

import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allaprima.clips import by_frames
from allaprima.controls import Controls
from allaprima.entrypoints.clip_painting import ClipOptions, paint_clip
from allaprima.entrypoints.printing import say, tell
from allaprima.errors import InputError
from allaprima.images import check_long_side, count_pixels, read_picture, write_picture
from allaprima.many_photos import NO_MEMORY, PixelBudget, paint_many
from allaprima.outputs import Plan
from allaprima.records import Recipes, left_to_paint, made_by
from allaprima.stylize import Stylizer

NUM_READERS = 3  # threads around one painter: one reads, one paints, one writes
LOOK_EVERY_S = 1.0


@dataclass
class Painting:
    """One run of the command: what paints, how, and what came of it.

    Args:
        recipes: one of them is noted in every painting.
        overwrite: while watching, whatever is found in a painting's place.
        max_pixels: photos with more are refused.
        clip_options: how clips are painted and written.
    """

    stylizer: Stylizer
    controls: Controls
    recipes: Recipes
    overwrite: bool
    max_pixels: int
    clip_options: ClipOptions
    written: list[Path] = field(default_factory=list)
    num_failed: int = 0
    budget: PixelBudget = field(default_factory=PixelBudget)

    def paint_one(self, photo: Path, painted: Path) -> None:
        """Read, paint, write.

        Raises:
            InputError: what is wrong with the photo, or with the place for the painting.
        """
        made = made_by(self.recipes.photos, photo)
        size_px, output_size_px = self.controls.size_px, self.controls.output_size_px
        with self.budget.hold(count_pixels(photo, size_px, output_size_px)):
            picture = read_picture(photo, max_pixels=self.max_pixels, as_stored=True)
            check_long_side(painted, output_size_px or max(picture.rgb.shape[:2]))
            picture = self.stylizer.paint(picture, self.controls)
            write_picture(painted, picture, overwrite=True, made_by=made)

    def paint_all(self, plan: Plan) -> bool:
        """Paint a plan, photos first, and tell of failures as they come; False after Ctrl-C."""
        photos = [pair for pair in plan if not by_frames(*pair)]
        clips = [pair for pair in plan if pair not in photos]
        return self._paint_photos(photos) and self._paint_clips(clips)

    def _paint_photos(self, plan: Plan) -> bool:
        num_painters = self.stylizer.num_parallel
        num_threads = num_painters if num_painters > 1 else min(NUM_READERS, len(plan))
        shown = progress_bar(len(plan))

        def finished(photo: Path, painted: Path, error: InputError | None) -> None:
            advance()
            if error is None:
                self.written.append(painted)
            else:
                self.fail(photo, error)

        with shown as advance, warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: tell(f"note: {message}")
            return paint_many(plan, self.paint_one, max(1, num_threads), finished)

    def _paint_clips(self, plan: Plan) -> bool:
        """One after the other in this thread, which Ctrl-C comes to."""
        for clip, painted in plan:
            try:
                made = made_by(self.recipes.clips, clip)
                paint = self.stylizer.with_grain, self.controls, self.clip_options
                paint_clip(*paint, clip, painted, made, tell)
            except KeyboardInterrupt as stopped:
                if str(stopped):
                    tell(f"Stopped: {stopped}.")
                return False
            except MemoryError:
                self.fail(clip, InputError(NO_MEMORY))
            except InputError as error:
                self.fail(clip, error)
            else:
                self.written.append(painted)
        return True

    def fail(self, photo: Path, error: InputError) -> None:
        """Tell of a photo that cannot be painted, and count it."""
        self.num_failed += 1
        tell(f"failed: {error}" if str(photo) in str(error) else f"failed: {photo}: {error}")


def paint_plan(painting: Painting, plan: Plan) -> int:
    """Paint all the photos of a plan and say what was written.

    Returns:
        The exit status: 0, or 1 if a photo failed.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when those begun are done and told of.
    """
    finished, things = painting.paint_all(plan), name_of(plan)
    if not finished:
        tell(f"Stopped: {len(painting.written)} of {len(plan)} {things} are painted.")
    if painting.num_failed:
        tell(f"{painting.num_failed} of {len(plan)} {things} could not be painted.")
    written = set(painting.written)
    report([painted for _, painted in plan if painted in written])
    if not finished:
        raise KeyboardInterrupt
    return int(painting.num_failed > 0)


def watch(painting: Painting, plan_now: Callable[[], Plan]) -> int:
    """Paint what is there and what comes or changes, until Ctrl-C.

    A photo is painted when it has stayed the same from one look to the next, one second later:
    it may still be being copied.

    Args:
        plan_now: plans what there is; its InputError, as of an empty folder, is told and waited
            out.

    Returns:
        The exit status: 0, or 1 if a photo failed.
    """
    before: dict[Path, str] = {}
    tried: dict[Path, str] = {}
    problem = ""
    try:
        while True:
            try:
                plan, now = plan_now(), ""
            except InputError as error:
                plan, now = [], str(error)
            if now not in ("", problem):
                tell(f"waiting: {now}")
            problem = now
            states = {photo: _state(painting, photo) for photo, _ in plan}
            steady = [pair for pair in plan if before.get(pair[0]) == states[pair[0]]]
            new = [pair for pair in steady if tried.get(pair[0]) != states[pair[0]]]
            tried |= {photo: states[photo] for photo, _ in new}
            before = states
            if not _paint_new(painting, new):
                break
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        pass
    tell(f"Stopped: {len(painting.written)} painted, {painting.num_failed} failed.")
    return int(painting.num_failed > 0)


def _state(painting: Painting, photo: Path) -> str:
    try:
        return made_by(painting.recipes.photos, photo)
    except InputError:  # gone since it was listed
        return ""


def _paint_new(painting: Painting, new: Plan) -> bool:
    left: Plan = []
    for pair in new:
        try:
            left += [pair] if painting.overwrite else left_to_paint([pair], painting.recipes)
        except InputError as error:
            painting.fail(pair[0], error)
    num_before = len(painting.written)
    finished = painting.paint_all(left)
    report(painting.written[num_before:])
    return finished


def name_of(plan: Plan) -> str:
    """What a plan is of: photos, clips, or both, which are files."""
    moving = [by_frames(*pair) for pair in plan]
    return "clips" if all(moving) else "files" if any(moving) else "photos"


def report(written: Sequence[Path]) -> None:
    """Name the files that were written, or, if they are many, their number and folder."""
    if len(written) <= 5:
        for file in written:
            say(f"Wrote {file}")
    else:
        folder = os.path.commonpath([file.parent.absolute() for file in written])
        say(f"Wrote {len(written)} paintings in {folder}")


def progress_bar(total: int) -> Any:
    """A context that gives what to call after each photo; a bar on a terminal, for several."""
    if total < 2 or not os.isatty(2):
        return nullcontext(lambda: None)
    return _Bar(total)


class _Bar:
    def __init__(self, total: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeRemaining

        columns = BarColumn(), MofNCompleteColumn(), TimeRemaining(), TextColumn("left")
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.progress.add_task("", total=total)

    def __enter__(self) -> Callable[[], None]:
        self.progress.start()
        return lambda: self.progress.advance(self.task)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
