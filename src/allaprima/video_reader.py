"""Video files to upright RGB frames, by PyAV; damaged ones as far as they go."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import BlockingIOError as NothingYet
from av.error import FFmpegError
from av.filter import Graph
from av.stream import Disposition

from allaprima.errors import InputError, reason
from allaprima.frames import Frame
from allaprima.video_pictures import Colours, ToRGB

ANY_START = ("mpegts", "mpeg")  # broadcast formats, whose clocks do not begin at 0


class VideoReader:
    """A video file's first picture stream.

    Colours are converted by the stream's own matrix and range. Rotation and mirroring that the
    file asks of players are done. Interlaced video is deinterlaced. Packets that cannot be
    decoded are left out; ``warnings`` says afterwards what was missing.

    Raises:
        InputError: no such file, no video, or no frame of it can be decoded.
    """

    def __init__(self, source: Path):
        self.source = source
        self.warnings: list[str] = []
        self.container = open_video(source)
        pictures = [s for s in self.container.streams.video if not _is_cover(s)]
        if not pictures:
            self.close()
            raise InputError(f"{source} has no video in it, so that there is nothing to paint")
        self.stream = pictures[0]
        if self.stream.codec_context is None:
            self.close()
            raise InputError(f"{source} is in a codec that PyAV cannot decode, or is damaged")
        self.stream.thread_type = "AUTO"
        self.offset = start_of_clock(self.container)
        self._to_rgb = ToRGB(source, self.stream.codec_context, self.warnings)
        self.time_base = self.stream.time_base or Fraction(1, 90000)
        self.rate = self.stream.average_rate or Fraction(25)
        self._aspect = self.stream.sample_aspect_ratio or Fraction(1)
        self._num_damaged = 0
        self._end_of_file = Fraction(0)  # the last time that any stream reached

    @property
    def num_frames(self) -> int | None:
        if self.stream.frames:
            return self.stream.frames
        duration = self.container.duration
        return round(duration * self.rate / 1_000_000) if duration else None

    @property
    def colours(self) -> Colours:
        """To write in; known from the first frame on."""
        return self._to_rgb.colours

    @property
    def pixel_aspect(self) -> Fraction:
        """Width by height of a pixel of an upright frame; known from the first frame on."""
        return 1 / self._aspect if self._to_rgb.is_transposed else self._aspect

    def frames(self) -> Iterator[Frame]:
        """Every frame, in the order of time, each lasting until the next."""
        previous: Frame | None = None
        for frame in self._undated_frames():
            if previous is not None:
                if frame.start <= previous.start:
                    self._num_damaged += 1
                    continue
                yield previous._replace(duration=frame.start - previous.start)
            previous = frame
        if previous is None:
            raise InputError(f"{self.source} has no frame that can be decoded")
        yield previous
        self._tell_what_is_missing(previous.start + previous.duration)

    def close(self) -> None:
        self.container.close()

    def _undated_frames(self) -> Iterator[Frame]:
        """As the decoder gives them; the duration is a guess."""
        start = Fraction(0)
        for decoded in _deinterlaced(self._decoded()):
            duration = Fraction(1) / self.rate
            if decoded.pts is not None and decoded.time_base is not None:
                start = decoded.pts * decoded.time_base - self.offset
                duration = (decoded.duration or 0) * decoded.time_base or duration
            yield Frame(self._to_rgb(decoded), None, start, duration)
            start += duration

    def _decoded(self) -> Iterator[Any]:
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets, None)
            except (FFmpegError, EOFError) as error:
                self.warnings.append(f"reading ended early: {getattr(error, 'strerror', error)}")
                packet = None
            if packet is None:
                return
            if packet.pts is not None and packet.time_base:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                self._end_of_file = max(self._end_of_file, end)
            if packet.stream is not self.stream:
                continue
            try:
                yield from packet.decode()
            except FFmpegError:
                self._num_damaged += 1

    def _tell_what_is_missing(self, end: Fraction) -> None:
        if self._num_damaged:
            self.warnings.append(f"{self._num_damaged} damaged frames were left out")
        if not self.container.duration:
            return
        start = max(self.container.start_time or 0, 0)
        claimed = Fraction(self.container.duration + start, 1_000_000)
        # Sound may well outlast the picture: the file is cut off where all streams end early.
        if claimed - self._end_of_file > max(Fraction(1, 10), 2 / self.rate):
            whole, missing = float(claimed - self.offset), float(claimed - self.offset - end)
            self.warnings.append(
                f"the last {missing:.2f} of {whole:.2f} s are missing: the file is cut off, or "
                "damaged"
            )


def open_video(source: Path) -> Any:
    """A container to read from.

    Raises:
        InputError: missing, empty, no video file or damaged beyond opening.
    """
    try:
        if source.is_file() and source.stat().st_size == 0:
            raise InputError(f"{source} is empty (0 bytes)")
        return av.open(str(source), metadata_errors="replace")
    except (FFmpegError, OSError, EOFError) as error:
        raise InputError(f"{source} cannot be read as a video: {reason(error)}") from error


def start_of_clock(container: Any) -> Fraction:
    """Seconds that are subtracted from every time in it."""
    if container.format.name not in ANY_START or not container.start_time:
        return Fraction(0)
    return Fraction(container.start_time, 1_000_000)


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _deinterlaced(decoded: Iterator[Any]) -> Iterator[Any]:
    """Interlaced frames made whole, from the first one on; others untouched."""
    graph = None
    for frame in decoded:
        if graph is None and frame.interlaced_frame:
            graph = _deinterlacer(frame)
        if graph is None:
            yield frame
        else:
            graph.push(frame)
            yield from _pulled(graph)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph)


def _deinterlacer(frame: Any) -> Any:
    graph = Graph()
    buffer = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    filters = graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    graph.link_nodes(buffer, *filters).configure()
    return graph


def _pulled(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (NothingYet, EOFError):
            return
