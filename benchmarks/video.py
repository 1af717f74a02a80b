"""Frames a second of video, from file to file, and the share of decoding, painting, encoding."""

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from allaprima.images import to_uint8
from allaprima.resources import resource_dir
from allaprima.stylize import Stylizer
from allaprima.video import VideoReport, paint_video
from benchmarks.figures import Row, Section
from benchmarks.steadiness import Camera, Painter, film

SIZES = ((640, 360), (1280, 720))
RATE = 25


def video_figures(quick: bool = False, painter: Painter | None = None) -> dict[str, Any]:
    """Clips of a panned photo with sound, H.264 and AAC, painted at both sizes, steady or not.

    Args:
        quick: a few frames, the smaller size alone.
        painter: what paints; without one, The Starry Night.
    """
    painter = painter or Stylizer("starry_night").one_pass
    section = Section("video", "Video, from file to file (H.264, sound copied)", baseline="")
    shares: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES[:1] if quick else SIZES:
            num_frames = 10 if quick else 40
            clip = make_clip(Path(folder, f"{size[0]}.mp4"), size, num_frames)
            for steady in (False, True):
                report = paint_video(
                    painter, clip, Path(folder, "painted.mp4"), steady=steady, overwrite=True
                )
                name = f"{size[0]} × {size[1]}" + (", steady" if steady else "")
                section.rows.append(
                    Row(name, [report.seconds], report.frames, "frames", note=told(report))
                )
                shares[name] = {
                    "decoding": report.decoding,
                    "painting": report.painting,
                    "encoding": report.encoding,
                }
    section.notes.append(
        f"Clips of {num_frames} frames. Shares of the time in which each was at work: they overlap."
    )
    section.extra["shares"] = shares
    return section.as_dict()


def told(report: VideoReport) -> str:
    """The shares in words."""
    return (
        f"decoding {report.decoding:.0%}, painting {report.painting:.0%}, "
        f"encoding {report.encoding:.0%}"
    )


def make_clip(path: Path, size: tuple[int, int], num_frames: int) -> Path:
    """A pan over a photo with the noise of a camera and a tone of 440 Hz."""
    photo = sorted((resource_dir("assets") / "photos" / "val").glob("*.jpg"))[0]
    with av.open(str(path), "w") as target:
        video = target.add_stream("libx264", RATE, options={"crf": "20"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        sound = target.add_stream("aac", 44100, layout="mono")
        samples = np.sin(np.arange(num_frames * 44100 // RATE) * 440 * 2 * np.pi / 44100) / 4
        tone = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
        tone.sample_rate = 44100
        resampler = av.AudioResampler("fltp", "mono", 44100, frame_size=1024)
        for part in [*resampler.resample(tone), *resampler.resample(None)]:
            target.mux(sound.encode(part))
        target.mux(sound.encode())
        for number, rgb in enumerate(film(photo, Camera(1.37, -0.61), size, num_frames)):
            frame = av.VideoFrame.from_ndarray(to_uint8(rgb), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            target.mux(video.encode(frame))
        target.mux(video.encode())
    return path
