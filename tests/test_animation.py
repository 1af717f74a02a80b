"""GIF and WebP made by Pillow, painted, and read back by Pillow."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from allaprima.animation import GifWriter
from allaprima.clips import is_clip
from allaprima.errors import InputError
from allaprima.frames import Frame
from allaprima.video import PaintingInterrupted, paint_video

COLOURS = ((220, 40, 30), (30, 160, 60), (20, 60, 200))
DURATIONS = (40, 250, 110)  # milliseconds


def make_animation(path: Path, *, loop: int | None = 0, transparent: bool = False) -> Path:
    """Three frames of one colour each, 37 × 25; a transparent square wanders through them."""
    frames = []
    for i, colour in enumerate(COLOURS):
        rgba = np.full((25, 37, 4), (*colour, 255), np.uint8)
        if transparent:
            rgba[4 * i : 4 * i + 8, 4 * i : 4 * i + 8, 3] = 0
        frames.append(Image.fromarray(rgba if transparent else rgba[..., :3].copy()))
    options = {} if loop is None else {"loop": loop}
    if path.suffix == ".webp":
        options["lossless"] = True
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=list(DURATIONS),
        disposal=2,
        **options,
    )
    return path


def read(path: Path) -> tuple[list[np.ndarray], list[int], int | None]:
    """Frames (RGBA), durations, and the loop count as Pillow tells it."""
    frames, durations = [], []
    with Image.open(path) as image:
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.array(image.convert("RGBA")))
            durations.append(image.info["duration"])
        return frames, durations, image.info.get("loop")


def invert(rgb: np.ndarray) -> np.ndarray:
    return 1 - rgb


@pytest.mark.parametrize("to", [".gif", ".webp"])
@pytest.mark.parametrize("from_", [".gif", ".webp"])
def test_durations_colours_and_size_are_kept(tmp_path, from_, to):
    source = make_animation(tmp_path / f"a{from_}")

    report = paint_video(invert, source, tmp_path / f"painted{to}")

    frames, durations, loop = read(tmp_path / f"painted{to}")
    assert report.frames == 3
    assert report.warnings == []
    assert tuple(durations) == DURATIONS
    assert loop == 0
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert frame.shape == (25, 37, 4)
        assert np.abs(frame[..., :3].astype(int) - (255 - np.array(colour))).max() < 6
        assert frame[..., 3].min() == 255


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_holes_stay_where_they_were(tmp_path, suffix):
    source = make_animation(tmp_path / f"a{suffix}", transparent=True)

    paint_video(lambda rgb: rgb, source, tmp_path / f"painted{suffix}")

    before, after = read(source)[0], read(tmp_path / f"painted{suffix}")[0]
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        assert np.array_equal(old[..., 3], new[..., 3])
        assert old[4 * i, 4 * i, 3] == 0
        seen = new[..., 3] == 255
        assert np.abs(new[seen][:, :3].astype(int) - COLOURS[i]).mean() < 4


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("loop", [None, 0, 1, 3])
def test_loops_are_kept(tmp_path, suffix, loop):
    source = make_animation(tmp_path / f"a{suffix}", loop=loop)

    paint_video(invert, source, tmp_path / f"painted{suffix}")

    assert read(tmp_path / f"painted{suffix}")[2] == read(source)[2]


def test_an_animation_becomes_a_video_with_its_times_and_holes_on_white(tmp_path):
    source = make_animation(tmp_path / "a.gif", transparent=True)

    paint_video(lambda rgb: rgb, source, tmp_path / "painted.mp4")

    with av.open(str(tmp_path / "painted.mp4")) as clip:
        frames = list(clip.decode(video=0))
        assert clip.duration == pytest.approx(sum(DURATIONS) * 1000, abs=1000)
    assert [frame.pts * frame.time_base * 1000 for frame in frames] == [0, 40, 290]
    first = frames[0].to_ndarray(format="rgb24").astype(int)
    assert first.shape == (25, 37, 3)
    assert first[2:6, 2:6].min() > 235
    assert np.abs(first[15:, 20:] - COLOURS[0]).max() < 12


def test_a_video_becomes_an_animation_and_says_that_sound_is_lost(tmp_path):
    from test_video import make_clip

    source = make_clip(tmp_path / "clip.mp4", num_frames=9)

    for name in ("painted.gif", "painted.webp"):
        report = paint_video(lambda rgb: rgb, source, tmp_path / name)
        frames, durations, loop = read(tmp_path / name)
        assert len(frames) == 9
        assert sum(durations) == 360
        assert loop == 0
        assert "no sound" in report.warnings[0]


def test_hundredths_of_a_second_add_up(tmp_path):
    writer = GifWriter(tmp_path / "a.gif")
    rng = np.random.default_rng(0)
    for i in range(30):  # at 30 frames a second none lasts a whole number of hundredths
        rgb = rng.integers(0, 256, (8, 8, 3), np.uint8)
        writer.write(Frame(rgb, None, Fraction(i, 30), Fraction(1, 30)))
    writer.finish(False)

    durations = read(tmp_path / "a.gif")[1]
    assert set(durations) == {30, 40}
    assert sum(durations) == 1000


def test_colours_of_a_gif_are_near_the_painting(tmp_path):
    y, x = np.mgrid[:64, :64] / 63
    rgb = np.uint8(255 * np.dstack([x, y, 1 - x]))
    writer = GifWriter(tmp_path / "a.gif")
    writer.write(Frame(rgb, None, Fraction(0), Fraction(1)))
    writer.finish(False)

    with Image.open(tmp_path / "a.gif") as image:
        near = np.abs(np.array(image.convert("RGB")).astype(int) - rgb)
    assert near.mean() < 8


def test_ctrl_c_leaves_a_whole_animation(tmp_path):
    for suffix in (".gif", ".webp"):
        source = make_animation(tmp_path / f"a{suffix}")
        calls = iter(range(3))

        def painter(rgb, calls=calls):
            if next(calls) == 2:
                raise KeyboardInterrupt
            return rgb

        with pytest.raises(PaintingInterrupted):
            paint_video(painter, source, tmp_path / f"painted{suffix}")
        assert len(read(tmp_path / f"painted{suffix}")[0]) == 2


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_broken_animation_is_told(tmp_path, suffix):
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)) for _ in range(6)]
    source = tmp_path / f"a{suffix}"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=50)
    whole = source.read_bytes()
    told = []
    for share in (0.01, 0.3, 0.7, 0.99):
        source.write_bytes(whole[: int(share * len(whole))])
        try:
            report = paint_video(invert, source, tmp_path / f"b{suffix}", overwrite=True)
            told.append(report.frames)
            assert report.frames == 6 or "missing" in report.warnings[0]
        except InputError as error:
            assert source.name in str(error)  # noqa: PT017
            told.append(0)
    assert told[0] == 0
    assert told == sorted(told)
    (tmp_path / f"empty{suffix}").write_bytes(b"")
    with pytest.raises(InputError, match="0 bytes"):
        paint_video(invert, tmp_path / f"empty{suffix}", tmp_path / "c.gif")


def test_only_a_webp_that_moves_is_a_clip(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "still.webp")

    assert not is_clip(tmp_path / "still.webp")
    assert is_clip(make_animation(tmp_path / "a.webp"))
