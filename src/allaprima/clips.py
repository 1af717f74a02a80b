"""Which files are videos and animations, and what reads and writes each.

PyAV is imported by the functions that need it: who paints photos does not wait for it.
"""

from contextlib import suppress
from pathlib import Path

from allaprima.decoding import check_regular, open_image
from allaprima.errors import InputError
from allaprima.frames import Clip, ClipWriter

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov")  # that are written
ANIMATION_SUFFIXES = (".gif", ".webp")
TARGET_SUFFIXES = VIDEO_SUFFIXES + ANIMATION_SUFFIXES
READ_ONLY_SUFFIXES = (".avi", ".m4v", ".mpg", ".mpeg", ".mts", ".wmv", ".flv", ".3gp", ".ogv")
NAMED_ONLY_SUFFIXES = (".ts",)  # in a folder, it is as likely a program
CLIP_SUFFIXES = (*VIDEO_SUFFIXES, *READ_ONLY_SUFFIXES, *NAMED_ONLY_SUFFIXES, ".gif")
MAY_MOVE = (".gif", ".webp", ".png", ".apng")


def is_clip(path: str | Path) -> bool:
    """If it is painted frame by frame: a video by its suffix, or a GIF or WebP that moves."""
    path = Path(path)
    suffix = path.suffix.lower()
    return _moves(path) if suffix in ANIMATION_SUFFIXES else suffix in CLIP_SUFFIXES


def by_frames(source: Path, target: Path) -> bool:
    """If painting the one into the other is work for :func:`allaprima.video.paint_video`.

    An animation that is to become a JPEG or PNG is not: its first frame is painted. A GIF is
    written frame by frame, be it a single one.
    """
    suffix, to = source.suffix.lower(), target.suffix.lower()
    if suffix not in MAY_MOVE:
        return is_clip(source)
    return to in TARGET_SUFFIXES and (suffix == to == ".gif" or _moves(source))


def target_suffix(source: Path) -> str:
    """What a clip is written as: its own format where that is written, else MP4."""
    return source.suffix if source.suffix.lower() in TARGET_SUFFIXES else ".mp4"


def _moves(path: Path) -> bool:
    with suppress(Exception):  # what is damaged is told when it is painted
        check_regular(path)
        if path.suffix.lower() == ".webp" and not _may_move(path):
            return False
        with open_image(path, 1 << 62) as image:
            return bool(getattr(image, "is_animated", False))
    return False


def _may_move(webp: Path) -> bool:
    """By the header's flag: Pillow reads the whole file to say so."""
    with webp.open("rb") as file:
        head = file.read(21)
    return head[12:16] == b"VP8X" and bool(head[20] & 0x02)


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
        from allaprima.video_writer import choose_codec

        choose_codec(target, codec, quality)
    elif suffix not in ANIMATION_SUFFIXES:
        raise InputError(f"{target}: clips are written as {', '.join(TARGET_SUFFIXES)}")
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
    check_regular(source)
    if source.suffix.lower() in MAY_MOVE:
        from allaprima.animation import AnimationReader

        return AnimationReader(source)
    from allaprima.video_reader import VideoReader

    return VideoReader(source)


def make_writer(path: Path, clip: Clip, codec: str, quality: int | None) -> ClipWriter:
    """A file to write frames to, by its suffix.

    Raises:
        InputError: as :func:`check_target`, or it cannot hold the clip's sound.
    """
    from allaprima.animation import AnimationReader, GifWriter, WebPWriter
    from allaprima.video_reader import VideoReader
    from allaprima.video_writer import VideoWriter, choose_codec

    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return VideoWriter(path, *choose_codec(path, codec, quality), clip)
    if isinstance(clip, VideoReader) and clip.container.streams.audio:
        clip.warnings.append(f"{suffix} holds no sound; it is left out")
    loop = clip.loop if isinstance(clip, AnimationReader) else 0
    if suffix == ".gif":
        return GifWriter(path, loop)
    return WebPWriter(path, loop, 80 if quality is None else quality)
