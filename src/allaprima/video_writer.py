"""Painted frames to a video file, by PyAV, beside the untouched sound of the clip."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av

from allaprima.errors import InputError
from allaprima.frames import Frame
from allaprima.sound import Sound, language_of
from allaprima.video_pictures import LIMITED, UNSPECIFIED, Colours, usual_colours
from allaprima.video_reader import VideoReader


class Codec(NamedTuple):
    """An encoder with its default of constant quality, and where its streams may live."""

    encoder: str
    quality: int
    max_quality: int
    suffixes: tuple[str, ...]
    options: dict[str, str]
    odd_sizes: bool  # in 4:2:0, which halves the sides of the colour planes


CODECS = {
    "h264": Codec("libx264", 18, 51, (".mp4", ".mov", ".mkv"), {"preset": "medium"}, False),
    "h265": Codec(
        "libx265",
        20,
        51,
        (".mp4", ".mov", ".mkv"),
        {"preset": "medium", "x265-params": "log-level=none"},
        False,
    ),
    "vp9": Codec(
        "libvpx-vp9",
        28,
        63,
        (".webm", ".mkv", ".mp4"),
        {"deadline": "good", "cpu-used": "4", "row-mt": "1"},
        True,
    ),
    "av1": Codec("libsvtav1", 28, 63, (".webm", ".mkv", ".mp4"), {"preset": "8"}, True),
}


def choose_codec(target: Path, name: str = "auto", quality: int | None = None) -> tuple[Codec, int]:
    """The codec and its quality; "auto" is H.264, or VP9 in .webm.

    Raises:
        InputError: no such codec, one that the container cannot hold or PyAV was built without,
            or a quality out of range.
    """
    suffix = target.suffix.lower()
    if name == "auto":
        name = "vp9" if suffix == ".webm" else "h264"
    if name not in CODECS:
        raise InputError(f"codec {name} is not known; take auto or {', '.join(CODECS)}")
    codec = CODECS[name]
    if suffix not in codec.suffixes:
        raise InputError(f"{target}: {suffix} cannot hold {name}; {', '.join(codec.suffixes)} can")
    if codec.encoder not in av.codecs_available:
        built = [other for other in CODECS if CODECS[other].encoder in av.codecs_available]
        raise InputError(
            f"codec {name} needs {codec.encoder}, which this build of PyAV lacks; it has "
            f"{', '.join(built) or 'none of ours'}; the wheels on PyPI have them all"
        )
    quality = codec.quality if quality is None else quality
    if not 0 <= quality <= codec.max_quality:
        raise InputError(
            f"quality {quality} must be from 0 (best) to {codec.max_quality} for {name}; "
            f"{codec.quality} is the default"
        )
    return codec, quality


class VideoWriter:
    """A video file in the making.

    Times are kept exactly where the container can (Matroska and WebM count milliseconds). H.264
    and H.265 halve the colour planes only of even sizes: odd ones are written in 4:4:4, so that
    every decoder shows the exact size.

    Args:
        path: what to write; the suffix decides the container.
        codec, quality: as :func:`choose_codec` gives them.
        clip: what is painted; its sound and tags come along where it is a video.

    Raises:
        InputError: the container cannot hold the clip's sound.
    """

    def __init__(self, path: Path, codec: Codec, quality: int, clip: Any):
        self.path, self.codec, self.quality = path, codec, quality
        self.video = clip if isinstance(clip, VideoReader) else None
        self.warnings: list[str] = []
        options = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}
        self.container: Any = av.open(str(path), "w", options=options)
        self.stream: Any = None
        self.colours = usual_colours(0, 0)
        self.sound: Sound | None = None
        try:
            if self.video is not None:
                self.container.metadata.update(self.video.container.metadata)
                self.sound = Sound(self.video.source, self.container)
                self._note_left_out(self.video.container)
        except BaseException:
            self.close()
            raise
        self.time_base = self.video.time_base if self.video else Fraction(1, 1000)
        self.end = Fraction(0)
        self._durations: dict[int, int] = {}

    def write(self, frame: Frame) -> None:
        """Encode one frame; the first one decides the size."""
        if self.stream is None:
            self.stream = self._open(frame)
        picture = av.VideoFrame.from_ndarray(frame.rgb, "rgb24").reformat(
            format=self.stream.pix_fmt,
            dst_colorspace=self.colours.matrix,
            dst_color_range=LIMITED,
        )
        picture.pts = round(frame.start / self.time_base)
        picture.time_base = self.time_base
        self._durations[picture.pts] = round(frame.duration / self.time_base)
        self._mux(self.stream.encode(picture))
        self.end = frame.start + frame.duration
        self._copy_sound(self.end)

    def finish(self, interrupted: bool) -> None:
        """Write what the encoder holds back, the rest of the sound, and the index.

        Args:
            interrupted: the clip went on after the last frame; the sound ends with the picture.
        """
        self._mux(self.stream.encode())
        self._copy_sound(self.end if interrupted else None)
        self.container.close()

    def close(self) -> None:
        if self.sound is not None:
            self.sound.close()
        self.container.close()

    def _open(self, frame: Frame) -> Any:
        height, width = frame.rgb.shape[:2]
        even = height % 2 == 0 and width % 2 == 0
        options = {**self.codec.options, "crf": str(self.quality)}
        if self.codec.encoder == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # else it prints its settings
        rate = self.video.rate if self.video else Fraction(25)
        stream: Any = self.container.add_stream(self.codec.encoder, rate, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if even or self.codec.odd_sizes else "yuv444p"
        stream.bit_rate = 0  # the quality decides
        stream.time_base = stream.codec_context.time_base = self.time_base
        if self.video is not None:
            stream.codec_context.sample_aspect_ratio = self.video.pixel_aspect
            stream.metadata.update(language_of(self.video.stream))
        self._tag(stream.codec_context, usual_colours(width, height))
        if self.codec.encoder == "libx265" and self.path.suffix.lower() != ".mkv":
            stream.codec_context.codec_tag = "hvc1"  # the one that Apple's players know
        if stream.pix_fmt == "yuv444p":
            self.warnings.append(
                f"{width} × {height} is odd, so that the colours are written in full resolution "
                "(4:4:4): every player on a computer shows it, some phones do not; .webm has no "
                "such limit"
            )
        return stream

    def _tag(self, context: Any, usual: Colours) -> None:
        self.colours = self.video.colours if self.video is not None else usual
        context.colorspace, context.color_range = self.colours.matrix, LIMITED
        if self.colours.primaries != UNSPECIFIED:
            context.color_primaries = self.colours.primaries
        if self.colours.transfer != UNSPECIFIED:
            context.color_trc = self.colours.transfer

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, None) or packet.duration
            self.container.mux_one(packet)

    def _copy_sound(self, until: Fraction | None) -> None:
        if self.sound is not None:
            for packet in self.sound.packets(until):
                self.container.mux_one(packet)

    def _note_left_out(self, container: Any) -> None:
        if container.streams.subtitles:
            self.warnings.append("the clip's subtitles are left out")
