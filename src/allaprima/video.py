"""A clip → painter → a clip of the same size, times and sound."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from allaprima.clip_notes import add_note
from allaprima.clips import check_target, make_writer, open_clip
from allaprima.frames import Clip, ClipWriter, Frame, partial_file
from allaprima.images import resize, to_uint8
from allaprima.steady import Steadied

Painter = Callable[[np.ndarray], np.ndarray]

AHEAD = 4  # frames decoded and waiting, and painted and waiting: each 6 MB at 1920 × 1080


class Progress(NamedTuple):
    """How far a clip is painted; unknown where the file does not tell its length."""

    frames: int
    num_frames: int | None
    frames_per_s: float
    left_s: float | None


@dataclass
class VideoReport:
    """What was painted, and what took the time.

    Args:
        frames: painted and written.
        seconds: from the first frame's decoding to the finished file.
        decoding, painting, encoding: the share of that time during which each was at work; they
            overlap, so that the sum may be above 1.
        warnings: what a viewer would otherwise miss: a tail that is not there, sound left out.
    """

    frames: int = 0
    seconds: float = 0.0
    decoding: float = 0.0
    painting: float = 0.0
    encoding: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def frames_per_s(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0


class PaintingInterrupted(KeyboardInterrupt):
    """Ctrl-C: the file is whole and holds what was painted until then."""

    def __init__(self, message: str, report: VideoReport):
        super().__init__(message)
        self.report = report


def paint_video(
    painter: Painter,
    source: str | Path,
    target: str | Path,
    *,
    codec: str = "auto",
    quality: int | None = None,
    steady: bool = False,
    overwrite: bool = False,
    made_by: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> VideoReport:
    """Paint a video, GIF or animated WebP frame by frame.

    Size, times of the frames and sound stay; rotation that the file asks for is done. Decoding,
    painting and encoding overlap. The file appears complete or not at all; after Ctrl-C it is
    complete with what was painted until then.

    Args:
        painter: (H, W, 3) float32 RGB in [0,1] to the same, or to another size that stays.
        target: .mp4, .mov, .mkv, .webm, .gif or .webp.
        codec: "h264", "h265", "vp9", "av1", or "auto": H.264, and VP9 in .webm.
        quality: constant quality (CRF) of the codec, 0 (best) to 51 or 63; None is a good one
            (H.264 18, H.265 20, VP9 and AV1 28). Of WebP 0 to 100 (best), None is 80.
        steady: strokes stay with what they paint, see :class:`allaprima.steady.Steadied`.
        made_by: noted in the file (:func:`allaprima.clip_notes.read_note`); after Ctrl-C,
            with " stopped" behind it.
        on_progress: called after every frame.

    Raises:
        InputError: a clip that cannot be read or has no frames, a target that cannot be written
            or cannot hold the codec or the sound, or as the painter.
        PaintingInterrupted: Ctrl-C after at least one frame; the target holds what was painted.
    """
    source, target = Path(source), Path(target)
    check_target(source, target, codec, quality, overwrite=overwrite)
    with (
        closing(open_clip(source)) as clip,
        partial_file(target) as partial,
        closing(make_writer(partial, clip, codec, quality)) as writer,
    ):
        job = _Job(Steadied(painter) if steady else painter, clip, writer, on_progress)
        report, interrupted = job.run()
        if made_by:
            add_note(partial, f"{made_by} stopped" if interrupted else made_by)
    if interrupted:
        raise PaintingInterrupted(f"{target} holds the first {report.frames} frames", report)
    return report


class _Job:
    """One clip on its way: a thread decodes ahead, a thread encodes behind."""

    def __init__(
        self,
        painter: Painter,
        clip: Clip,
        writer: ClipWriter,
        on_progress: Callable[[Progress], None] | None,
    ):
        self.painter, self.clip, self.writer = painter, clip, writer
        self.on_progress = on_progress
        self.busy_s = {"decoding": 0.0, "painting": 0.0, "encoding": 0.0}
        self.frames = 0  # written: counted where that is done, for Ctrl-C may come anywhere here
        self.told = 0
        self.start = time.perf_counter()

    def run(self) -> tuple[VideoReport, bool]:
        """The report, and if Ctrl-C ended it."""
        interrupted = False
        with ThreadPoolExecutor(1) as decoding, ThreadPoolExecutor(1) as encoding:
            frames = _ahead(decoding, self._timed("decoding", _nexter(self.clip.frames())))
            write = self._timed("encoding", self._write)
            behind: deque[Future[None]] = deque()
            try:
                for frame in frames:
                    behind.append(encoding.submit(write, self._paint(frame)))
                    if len(behind) > AHEAD:
                        behind.popleft().result()
                        self._progress()
            except KeyboardInterrupt:
                interrupted = True
            finally:
                frames.close()
            while behind:
                behind.popleft().result()
                self._progress()
            encoding.submit(int).result()  # all before it are done, those too that Ctrl-C lost
            if not self.frames:
                raise KeyboardInterrupt
            encoding.submit(self._timed("encoding", self.writer.finish), interrupted).result()
        return self._report(), interrupted

    def _write(self, frame: Frame) -> None:
        self.writer.write(frame)
        self.frames += 1

    def _paint(self, frame: Frame) -> Frame:
        start = time.perf_counter()
        painted = to_uint8(self.painter(np.divide(frame.rgb, 255, dtype=np.float32)))
        alpha, (height, width) = frame.alpha, painted.shape[:2]
        if alpha is not None and alpha.shape != (height, width):
            alpha = resize(alpha, height, width)
        self.busy_s["painting"] += time.perf_counter() - start
        return frame._replace(rgb=painted, alpha=alpha)

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.busy_s[stage] += time.perf_counter() - start

        return timed

    def _progress(self) -> None:
        self.told += 1
        if self.on_progress is None:
            return
        rate = self.told / (time.perf_counter() - self.start)
        total = self.clip.num_frames
        left_s = max(total - self.told, 0) / rate if total else None
        self.on_progress(Progress(self.told, total, rate, left_s))

    def _report(self) -> VideoReport:
        seconds = time.perf_counter() - self.start
        shares = {stage: busy / seconds for stage, busy in self.busy_s.items()}
        warnings = self.clip.warnings + self.writer.warnings
        return VideoReport(self.frames, seconds, **shares, warnings=warnings)


def _nexter(frames: Iterator[Frame]) -> Callable[[], Frame | None]:
    return lambda: next(frames, None)


def _ahead(thread: ThreadPoolExecutor, read: Callable[[], Frame | None]) -> Any:
    """Frames in order, some of them read before they are asked for."""
    waiting = deque(thread.submit(read) for _ in range(AHEAD))
    try:
        while (frame := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(read))
            yield frame
    finally:
        for future in waiting:
            future.cancel()
