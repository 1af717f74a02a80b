"""Which files are videos and animations, and what reads and writes each."""

from contextlib import closing, suppress
from pathlib import Path

from allaprima.animation import ANIMATION_SUFFIXES, AnimationReader, GifWriter, WebPWriter
from allaprima.errors import InputError
from allaprima.frames import Clip, ClipWriter
from allaprima.video_reader import VideoReader
from allaprima.video_writer import VIDEO_SUFFIXES, VideoWriter, choose_codec

CLIP_SUFFIXES = (*VIDEO_SUFFIXES, ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv")
CLIP_SUFFIXES += (".3gp", ".ogv", ".gif")


def is_clip(path: str | Path) -> bool:
    """If it is painted frame by frame: a video by its suffix, or a WebP that moves."""
    path = Path(path)
    if path.suffix.lower() == ".webp":
        with suppress(InputError), closing(AnimationReader(path)) as clip:
            return clip.num_frames > 1
        return False
    return path.suffix.lower() in CLIP_SUFFIXES


def check_target(
    source: Path,
    target: Path,
    codec: str = "auto",
    quality: int | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Raise what :func:`paint_video` would at the target, before the work."""
    suffix = target.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        choose_codec(target, codec, quality)
    elif suffix not in ANIMATION_SUFFIXES:
        known = ", ".join(VIDEO_SUFFIXES + ANIMATION_SUFFIXES)
        raise InputError(f"{target}: clips are written as {known}")
    elif codec != "auto" or (quality is not None and not (suffix == ".webp" and quality <= 100)):
        raise InputError(f"{target}: {suffix} has no codec to choose, and GIF no quality")
    if not source.exists():
        raise InputError(f"{source}: there is no such file")
    if source.is_dir():
        raise InputError(f"{source} is a folder; name a video in it")
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file in it")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target} is the clip itself; write to another file")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already and is kept: name another, or say --overwrite")


def open_clip(source: Path) -> Clip:
    """A file to read frames from.

    Raises:
        InputError: it cannot be read, or holds none.
    """
    animated = source.suffix.lower() in (*ANIMATION_SUFFIXES, ".png", ".apng")
    return AnimationReader(source) if animated else VideoReader(source)


def make_writer(path: Path, clip: Clip, codec: str, quality: int | None) -> ClipWriter:
    """A file to write frames to, by its suffix.

    Raises:
        InputError: as :func:`check_target`, or it cannot hold the clip's sound.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return VideoWriter(path, *choose_codec(path, codec, quality), clip)
    if isinstance(clip, VideoReader) and clip.container.streams.audio:
        clip.warnings.append(f"{suffix} holds no sound; it is left out")
    loop = clip.loop if isinstance(clip, AnimationReader) else 0
    if suffix == ".gif":
        return GifWriter(path, loop)
    return WebPWriter(path, loop, 80 if quality is None else quality)
