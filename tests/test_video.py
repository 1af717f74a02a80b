"""Clips are made here frame by frame, painted, and read back by a decoder."""

import resource
import struct
from concurrent.futures import Future
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from allaprima import video
from allaprima.clips import check_target, is_clip
from allaprima.errors import InputError
from allaprima.frames import partial_file
from allaprima.video import PaintingInterrupted, paint_video
from allaprima.video_pictures import turn
from allaprima.video_reader import VideoReader

BLUE, RED = (20, 60, 200), (210, 40, 30)
QUARTERS = {  # the matrices of ISO/IEC 14496-12, in 16.16, and what they do to a picture
    "upright": ((1, 0, 0, 1), lambda rgb: rgb),
    "clockwise": ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),
    "half": ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
    "anticlockwise": ((0, -1, 1, 0), lambda rgb: np.rot90(rgb)),
    "mirrored": ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]),
    "mirrored and clockwise": ((0, 1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)),
}


def picture(number: int, width: int, height: int) -> np.ndarray:
    """Blue, its left upper quarter red, with a grey bar that moves."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[:] = BLUE
    rgb[: height // 2, : width // 2] = RED
    rgb[-4:, (4 * number) % width :][:, :4] = 128
    return rgb


def make_clip(
    path: Path,
    *,
    num_frames: int = 10,
    size: tuple[int, int] = (64, 48),
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    sound: str | None = "aac",
    codec: str = "libx264",
    pix_fmt: str = "yuv444p",
    colours: tuple[int, int] = (6, 1),
    options: dict[str, str] | None = None,
    aspect: Fraction = Fraction(1),
) -> Path:
    """A clip of a sine and of :func:`picture`; colours are its matrix and range."""
    width, height = size
    format_options = {".mp4": {"movflags": "+faststart"}, ".ts": {"output_ts_offset": "10"}}
    with av.open(str(path), "w", options=format_options.get(path.suffix, {})) as target:
        stream = target.add_stream(
            codec, Fraction(25), options=options or ({"crf": "1"} if codec == "libx264" else {})
        )
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.sample_aspect_ratio = aspect
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.colorspace, stream.codec_context.color_range = colours
        if sound:
            add_sine(target, sound, num_frames / 25)
        for i, stamp in enumerate(pts or range(num_frames)):
            frame = av.VideoFrame.from_ndarray(picture(i, width, height), "rgb24").reformat(
                format=pix_fmt, dst_colorspace=colours[0], dst_color_range=colours[1]
            )
            frame.pts, frame.time_base = stamp, time_base
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path


def add_sine(target, codec: str, seconds: float) -> None:
    rate = 48000 if "opus" in codec else 44100
    stream = target.add_stream(codec, rate, layout="mono")
    samples = np.sin(np.arange(int(seconds * rate)) * 440 * 2 * np.pi / rate)
    packed = (samples[None] * 12000).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(packed, "s16", "mono")
    frame.sample_rate = rate
    packets = []
    for part in av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 960).resample(
        frame
    ):
        packets += stream.encode(part)
    target.mux(packets + stream.encode())


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as clip:
        return [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as clip:
        return [frame.pts * frame.time_base for frame in clip.decode(video=0)]


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as clip:
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in clip.demux(audio=0)
            if packet.dts is not None
        ]


def same(rgb: np.ndarray) -> np.ndarray:
    return rgb


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Ask players of an MP4 to turn its picture."""
    a, b, c, d = (value * 65536 for value in matrix)
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd")
    data[header + 44 : header + 80] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_frames_are_painted_and_sound_and_times_kept(tmp_path, suffix):
    source = make_clip(tmp_path / f"clip{suffix}")

    report = paint_video(lambda rgb: 1 - rgb, source, tmp_path / f"painted{suffix}")

    painted = decode(tmp_path / f"painted{suffix}")
    assert report.frames == len(painted) == 10
    assert report.warnings == []
    for before, after in zip(decode(source), painted, strict=True):
        assert np.abs((255 - before.astype(int)) - after)[:40, :30].mean() < 6
    assert times(tmp_path / f"painted{suffix}") == times(source)
    assert sound_packets(tmp_path / f"painted{suffix}") == sound_packets(source)
    assert 0 < report.painting < 1
    assert report.seconds > 0


@pytest.mark.parametrize("name", ["painted.mp4", "painted.webm", "painted.mkv"])
@pytest.mark.parametrize("size", [(64, 48), (67, 45), (66, 45), (67, 46)])
def test_the_size_is_exact_even_if_odd(tmp_path, size, name):
    source = make_clip(tmp_path / "clip.mkv", num_frames=2, size=size, sound=None)

    paint_video(same, source, tmp_path / name)

    painted = decode(tmp_path / name)
    assert painted[0].shape == (size[1], size[0], 3)
    assert np.abs(painted[0][5:10, 5:10].astype(int) - RED).max() < 12
    edge = painted[0][:-6, -2:].astype(int)  # no padding has been let in
    assert np.abs(edge - BLUE).max() < 30


def test_variable_frame_rates_are_kept(tmp_path):
    pts = [0, 3003, 4000, 9009, 9010, 20000]
    source = make_clip(
        tmp_path / "clip.mp4", pts=pts, num_frames=6, time_base=Fraction(1, 90000), sound=None
    )

    paint_video(same, source, tmp_path / "painted.mp4")
    paint_video(same, source, tmp_path / "painted.mkv")

    assert times(tmp_path / "painted.mp4") == [Fraction(stamp, 90000) for stamp in pts]
    for kept, stamp in zip(times(tmp_path / "painted.mkv"), pts, strict=True):
        assert abs(kept - Fraction(stamp, 90000)) <= Fraction(1, 1000)  # Matroska's unit


@pytest.mark.parametrize(("matrix", "turned"), QUARTERS.values(), ids=QUARTERS)
def test_rotation_and_mirroring_are_done(tmp_path, matrix, turned):
    source = make_clip(tmp_path / "clip.mp4", num_frames=2, sound=None)
    set_matrix(source, matrix)
    seen = []

    def painter(rgb):
        seen.append(rgb)
        return rgb

    paint_video(painter, source, tmp_path / "painted.mp4")

    expected = turned(picture(0, 64, 48))
    assert np.abs(seen[0] * 255 - expected)[8:-8, 8:-8].mean() < 6
    painted = decode(tmp_path / "painted.mp4")[0]
    assert painted.shape == expected.shape
    with av.open(str(tmp_path / "painted.mp4")) as clip:
        assert next(clip.decode(video=0)).rotation == 0  # or players would turn it again
    assert np.array_equal(turn(picture(0, 64, 48), matrix), expected)


@pytest.mark.parametrize("matrix", [1, 6, 9], ids=["BT.709", "BT.601", "BT.2020"])
@pytest.mark.parametrize("range_", [1, 2], ids=["limited", "full"])
def test_colours_go_through_the_matrix_and_range_of_the_stream(tmp_path, matrix, range_):
    source = make_clip(tmp_path / "clip.mp4", num_frames=1, sound=None, colours=(matrix, range_))
    seen = []

    def painter(rgb):
        seen.append(rgb)
        return rgb

    paint_video(painter, source, tmp_path / "painted.mp4")

    assert np.abs(seen[0][5, 5] * 255 - RED).max() < 5
    assert np.abs(seen[0][5, -5] * 255 - BLUE).max() < 5
    with av.open(str(tmp_path / "painted.mp4")) as clip:
        frame = next(clip.decode(video=0))
    assert frame.colorspace == (1 if matrix == 9 else matrix)  # 2020's wide colours are narrowed
    assert frame.color_range == 1
    painted = decode(tmp_path / "painted.mp4")[0].astype(int)
    assert np.abs(painted[5, 5] - RED).max() < 12


def test_video_of_rgb_keeps_its_colours(tmp_path):
    source = make_clip(
        tmp_path / "clip.mov",
        num_frames=1,
        sound=None,
        codec="png",
        pix_fmt="rgb24",
        colours=(2, 2),
    )
    seen = []

    def painter(rgb):
        seen.append(rgb)
        return rgb

    paint_video(painter, source, tmp_path / "painted.mp4")

    assert np.array_equal(np.rint(seen[0] * 255), picture(0, 64, 48))


def test_untagged_video_is_taken_as_players_take_it(tmp_path):
    for height, matrix in ((480, 6), (720, 1)):
        source = make_clip(
            tmp_path / f"{height}.mp4", num_frames=1, sound=None, size=(16, height), colours=(2, 1)
        )
        paint_video(same, source, tmp_path / f"painted{height}.mp4")
        with av.open(str(tmp_path / f"painted{height}.mp4")) as clip:
            assert next(clip.decode(video=0)).colorspace == matrix


@pytest.mark.parametrize(
    ("matrix", "aspect"), [((1, 0, 0, 1), Fraction(4, 3)), ((0, 1, -1, 0), Fraction(3, 4))]
)
def test_anamorphic_pixels_stay_so(tmp_path, matrix, aspect):
    source = make_clip(tmp_path / "clip.mp4", num_frames=2, sound=None, aspect=Fraction(4, 3))
    set_matrix(source, matrix)

    paint_video(same, source, tmp_path / "painted.mp4")

    with av.open(str(tmp_path / "painted.mp4")) as clip:
        assert clip.streams.video[0].sample_aspect_ratio == aspect


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
def test_codecs_and_quality(tmp_path, codec):
    rng = np.random.default_rng(0)
    source = make_clip(tmp_path / "clip.mp4", num_frames=3, size=(96, 80))

    def painter(rgb):
        return np.clip(rgb + rng.normal(0, 0.2, rgb.shape), 0, 1).astype(np.float32)

    for quality in (10, 45):
        paint_video(painter, source, tmp_path / f"{quality}.mkv", codec=codec, quality=quality)
    with av.open(str(tmp_path / "10.mkv")) as clip:
        name = clip.streams.video[0].codec_context.codec.canonical_name
    assert name == {"h265": "hevc"}.get(codec, codec)
    assert len(decode(tmp_path / "45.mkv")) == 3
    assert (tmp_path / "10.mkv").stat().st_size > 1.5 * (tmp_path / "45.mkv").stat().st_size


def test_progress_tells_rate_and_time_left(tmp_path):
    source = make_clip(tmp_path / "clip.mp4")
    told = []

    paint_video(same, source, tmp_path / "painted.mp4", on_progress=told.append)

    assert [progress.frames for progress in told] == list(range(1, 11))
    assert all(progress.num_frames == 10 and progress.frames_per_s > 0 for progress in told)
    assert told[-1].left_s == 0
    assert told[0].left_s == pytest.approx(9 / told[0].frames_per_s)


def test_ctrl_c_leaves_a_whole_file_with_what_was_painted(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", num_frames=50)
    calls = iter(range(50))

    def painter(rgb):
        if next(calls) == 20:
            raise KeyboardInterrupt
        return rgb

    with pytest.raises(PaintingInterrupted, match="first 20 frames") as error:
        paint_video(painter, source, tmp_path / "painted.mp4")

    assert error.value.report.frames == 20
    assert times(tmp_path / "painted.mp4") == times(source)[:20]
    sound = sound_packets(tmp_path / "painted.mp4")
    assert sound == sound_packets(source)[: len(sound)]
    assert float(sound[-1][0]) == pytest.approx(20 / 25, abs=0.03)  # ends with the picture
    assert sorted(tmp_path.iterdir()) == [source, tmp_path / "painted.mp4"]


@pytest.mark.parametrize("num_waits", [12, 13, 14, 15])
def test_ctrl_c_while_waiting_for_a_frame_counts_what_is_written(tmp_path, monkeypatch, num_waits):
    source = make_clip(tmp_path / "clip.mp4", num_frames=50)
    waits, result = iter(range(10_000)), Future.result

    def wait(future, timeout=None):
        if next(waits) == num_waits:
            raise KeyboardInterrupt
        return result(future, timeout)

    monkeypatch.setattr(Future, "result", wait)
    with pytest.raises(PaintingInterrupted) as error:
        paint_video(same, source, tmp_path / "painted.mp4")
    frames = error.value.report.frames
    assert 0 < frames < 50
    assert len(decode(tmp_path / "painted.mp4")) == frames
    assert f"first {frames} frames" in str(error.value)


def test_ctrl_c_before_the_first_frame_leaves_nothing(tmp_path):
    source = make_clip(tmp_path / "clip.mp4")

    def painter(rgb):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint_video(painter, source, tmp_path / "painted.mp4")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_broken_tail_is_told_and_the_rest_painted(tmp_path, suffix, share):
    source = make_clip(tmp_path / f"clip{suffix}", num_frames=100, options={"crf": "1", "g": "10"})
    whole = source.read_bytes()
    source.write_bytes(whole[: int(share * len(whole))])

    report = paint_video(same, source, tmp_path / "painted.mp4")

    assert 10 <= report.frames < 95
    assert len(decode(tmp_path / "painted.mp4")) == report.frames
    missing = next(warning for warning in report.warnings if "are missing" in warning)
    seconds = float(missing.split("the last ")[1].split(" of ")[0])
    assert seconds == pytest.approx(4 - report.frames / 25, abs=0.1)


def test_damage_in_the_middle_costs_few_frames(tmp_path):
    source = make_clip(
        tmp_path / "clip.mp4", num_frames=60, sound=None, options={"crf": "1", "g": "10"}
    )
    data = bytearray(source.read_bytes())
    rng = np.random.default_rng(0)
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 60] = rng.bytes(60)
    source.write_bytes(data)

    report = paint_video(same, source, tmp_path / "painted.mp4")

    assert 30 <= report.frames < 60
    assert "damaged frames" in report.warnings[0]
    stamps = times(tmp_path / "painted.mp4")
    assert all(a < b for a, b in pairwise(stamps))
    assert stamps[-1] > 2  # what follows the damage is there


@pytest.mark.parametrize("kind", ["empty", "text", "no index", "sound alone", "folder", "none"])
def test_what_is_no_video_is_refused_by_name(tmp_path, kind):
    source = tmp_path / "clip.mp4"
    if kind == "folder":
        source.mkdir()
    elif kind == "sound alone":
        with av.open(str(source), "w") as target:
            add_sine(target, "aac", 0.2)
    elif kind == "no index":  # a recording that was never finished
        data = make_clip(source).read_bytes()
        source.write_bytes(data[: data.index(b"moov")])
    elif kind != "none":
        source.write_bytes(b"" if kind == "empty" else b"no video at all" * 100)

    with pytest.raises(InputError, match=r"clip\.mp4"):
        paint_video(same, source, tmp_path / "painted.mp4")
    assert not (tmp_path / "painted.mp4").exists()


def test_a_stream_without_frames_is_refused(tmp_path):
    source = tmp_path / "clip.mkv"
    with av.open(str(source), "w") as target:
        stream = target.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        add_sine(target, "aac", 0.2)

    with pytest.raises(InputError, match="no frame"):
        paint_video(same, source, tmp_path / "painted.mp4")
    assert list(tmp_path.iterdir()) == [source]


def test_cut_and_garbled_files_never_hang_or_crash(tmp_path):
    whole = make_clip(tmp_path / "whole.mp4", num_frames=12).read_bytes()
    rng = np.random.default_rng(0)
    painted = 0
    for number in range(40):
        data = bytearray(whole[: rng.integers(1, len(whole))] if number % 2 else whole)
        for position in rng.integers(0, len(data), 10):
            data[position] = rng.integers(256)
        source = tmp_path / "clip.mp4"
        source.write_bytes(data)
        try:
            painted += paint_video(same, source, tmp_path / "out.mp4", overwrite=True).frames > 0
        except InputError as error:
            assert "clip" in str(error) or "out" in str(error)  # noqa: PT017
    assert painted >= 5


def test_sound_that_the_container_cannot_hold_is_refused_before_the_work(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", num_frames=2)

    with pytest.raises(InputError, match=r"aac.*\.webm.*\.mkv can"):
        paint_video(pytest.fail, source, tmp_path / "painted.webm")


def test_opus_goes_into_webm_untouched(tmp_path):
    source = make_clip(tmp_path / "clip.mkv", sound="libopus")

    paint_video(same, source, tmp_path / "painted.webm")

    painted = sound_packets(tmp_path / "painted.webm")
    assert [data for _, data in painted] == [data for _, data in sound_packets(source)]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    rng = np.random.default_rng(0)
    source = make_clip(tmp_path / "clip.mp4", num_frames=12)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"painted\.mp4 cannot be written"):
            paint_video(
                lambda rgb: rng.random(rgb.shape, np.float32), source, tmp_path / "painted.mp4"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [source]


def test_a_painter_that_fails_leaves_nothing(tmp_path):
    source = make_clip(tmp_path / "clip.mp4")

    def painter(rgb):
        raise InputError("too small for this generator")

    with pytest.raises(InputError, match="too small"):
        paint_video(painter, source, tmp_path / "painted.mp4")
    assert list(tmp_path.iterdir()) == [source]


def test_a_painter_may_enlarge(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", num_frames=2)

    paint_video(lambda rgb: rgb.repeat(2, 0).repeat(2, 1), source, tmp_path / "painted.mp4")

    assert decode(tmp_path / "painted.mp4")[0].shape == (96, 128, 3)


def test_broadcast_clocks_begin_at_zero_with_the_sound_in_step(tmp_path):
    source = make_clip(tmp_path / "clip.ts", num_frames=10)
    before, sound_before = times(source), sound_packets(source)
    assert before[0] >= 10

    paint_video(same, source, tmp_path / "painted.mkv")

    after, sound_after = times(tmp_path / "painted.mkv"), sound_packets(tmp_path / "painted.mkv")
    assert after[0] < 0.1
    assert float(sound_after[0][0] - after[0]) == pytest.approx(
        float(sound_before[0][0] - before[0]), abs=0.002
    )


def test_interlaced_video_is_made_whole(tmp_path):
    source = make_clip(
        tmp_path / "clip.mkv",
        num_frames=8,
        pix_fmt="yuv420p",
        sound=None,
        options={"crf": "1", "flags": "+ildct+ilme", "x264-params": "tff=1"},
    )
    with av.open(str(source)) as clip:
        assert next(clip.decode(video=0)).interlaced_frame

    report = paint_video(same, source, tmp_path / "painted.mp4")

    assert report.frames == 8
    assert times(tmp_path / "painted.mp4") == times(source)


@pytest.mark.parametrize(
    ("target", "options", "match"),
    [
        ("painted.avi", {}, r"\.mp4, \.mkv"),
        ("clip.mp4", {"overwrite": True}, "itself"),
        ("there.mp4", {}, "--overwrite"),
        ("painted.mp4", {"codec": "theora"}, "h264, h265"),
        ("painted.webm", {"codec": "h264"}, r"\.mkv"),
        ("painted.mp4", {"quality": 52}, "from 0"),
        ("painted.gif", {"quality": 5}, "GIF no quality"),
        ("painted.webp", {"codec": "vp9"}, "no codec"),
        ("folder.mp4", {}, "folder"),
    ],
)
def test_a_target_is_checked_before_the_work(tmp_path, target, options, match):
    source = make_clip(tmp_path / "clip.mp4", num_frames=1, sound=None)
    (tmp_path / "there.mp4").write_bytes(b"mine")
    (tmp_path / "folder.mp4").mkdir()

    with pytest.raises(InputError, match=match):
        check_target(source, tmp_path / target, **options)
    with pytest.raises(InputError, match=match):
        paint_video(pytest.fail, source, tmp_path / target, **options)
    assert (tmp_path / "there.mp4").read_bytes() == b"mine"


def test_frames_wait_in_bounded_number(tmp_path, monkeypatch):
    source = make_clip(tmp_path / "clip.mkv", num_frames=60, sound=None)
    read, painted, most = 0, 0, 0
    frames = VideoReader.frames

    def counted(self):
        nonlocal read
        for frame in frames(self):
            read += 1
            yield frame

    def painter(rgb):
        nonlocal painted, most
        most = max(most, read - painted)
        painted += 1
        return rgb

    monkeypatch.setattr(VideoReader, "frames", counted)
    paint_video(painter, source, tmp_path / "painted.mkv")
    assert painted == 60
    assert most <= video.AHEAD + 2


def test_what_is_a_clip(tmp_path):
    assert is_clip("holiday.MP4")
    assert not is_clip("missing.gif")
    assert not is_clip("a.jpg")
    assert not is_clip(tmp_path / "missing.webp")


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    target = tmp_path / f"{'a' * 251}.mp4"
    with partial_file(target) as partial:
        partial.write_bytes(b"whole")
    assert [*tmp_path.iterdir()] == [target]
