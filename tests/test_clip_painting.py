"""Videos and animations through the command stylize.py."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_animation import make_animation, read
from test_stylize import SCRIPT, command, files_in, run, save_photo
from test_video import decode, make_clip, sound_packets, times

from allaprima.clip_notes import read_note
from allaprima.entrypoints.clip_painting import describe
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.images import read_picture
from allaprima.stylize import Stylizer
from allaprima.video import Progress
from allaprima.weights import save_generator


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def wave(tmp_path_factory):
    """A generator file of its own folder."""
    file = tmp_path_factory.mktemp("generators") / "wave.safetensors"
    save_generator(file, JohnsonGenerator((4, 4, 4), num_residual_blocks=1), {})
    return file


def test_a_clip_is_painted_frame_by_frame_with_its_times_and_sound(wave):
    clip = make_clip(Path("clip.mp4"), num_frames=6, size=(63, 47))
    status, output = command(clip, "-c", wave, "-o", "out.mp4", "--device", "cpu", "--quality", "1")
    assert status == 0
    assert "out.mp4: 6 frames in 0 s, " in output
    assert "note: out.mp4: 63 × 47 is odd, so that the colours are written in full" in output
    assert output.endswith("Wrote out.mp4\n")
    one_pass = Stylizer(wave, "cpu").one_pass
    for source, painted in zip(decode(clip), decode(Path("out.mp4")), strict=True):
        expected = 255 * one_pass(source.astype(np.float32) / 255)
        assert np.abs(painted - expected).mean() < 2
    assert times(Path("out.mp4")) == times(clip)
    assert sound_packets(Path("out.mp4")) == sound_packets(clip)


def test_a_folder_of_photos_and_clips_is_painted_once_and_the_broken_are_told(wave):
    save_photo("in/a.png")
    save_photo("in/still.gif", mode="L")
    make_clip(Path("in/b.mkv"), num_frames=3, sound=None)
    make_clip(Path("in/deep.mp4"), num_frames=3).rename("in/c.avi")  # told by its content
    make_animation(Path("in/d.gif"))
    make_animation(Path("in/e.webp"))
    Path("in/broken.mov").write_bytes(b"no clip" * 100)
    Path("in/program.ts").write_text("const notAClip = 1;")
    status, output = command("in", "-c", wave, "--codec", "h265", "--steady")
    assert status == 1
    assert f"failed: {Path('in/broken.mov')} cannot be read as a video" in output
    assert "1 of 7 files could not be painted." in output
    names = ["a.png", "b.mkv", "c.mp4", "d.gif", "e.webp", "still.png"]
    assert files_in("in_wave") == names
    assert len(decode(Path("in_wave/b.mkv"))) == len(decode(Path("in_wave/c.mp4"))) == 3
    for name in ("d.gif", "e.webp"):
        assert read(Path("in_wave", name))[1] == read(Path("in", name))[1]

    Path("in/broken.mov").unlink()
    shutil.copy("in/b.mkv", "in/new.mkv")
    output = command("in", "-c", wave, "--codec", "h265", "--steady")[1]
    assert "6 of 7 files are painted already." in output
    assert output.endswith(f"Wrote {Path('in_wave/new.mkv')}\n")
    status, output = command("in", "-c", wave)  # clips by other options, photos by the same
    assert (status, "existing files, not of this generator and these options" in output) == (
        1,
        True,
    )
    assert "b.mkv" in output
    assert "a.png" not in output


def test_an_existing_file_is_kept_unless_told(wave):
    clip = make_clip(Path("clip.mp4"), num_frames=2, sound=None)
    Path("out.mp4").write_bytes(b"mine")
    status, output = command(clip, "-c", wave, "-o", "out.mp4")
    assert (status, output.endswith("unless you say --overwrite: out.mp4\n")) == (1, True)
    assert Path("out.mp4").read_bytes() == b"mine"
    assert command(clip, "-c", wave, "-o", "out.mp4", "--overwrite")[0] == 0
    assert len(decode(Path("out.mp4"))) == 2
    before = Path("out.mp4").read_bytes()
    status, output = command(clip, "-c", wave, "-o", "out.mp4")
    assert (status, output) == (0, "1 of 1 clips are painted already.\n")
    assert Path("out.mp4").read_bytes() == before


def test_the_output_decides_if_an_animation_goes_on_moving(wave):
    make_animation(Path("a.gif"))
    make_animation(Path("a.webp"))
    make_animation(Path("a.png"))
    save_photo("still.gif", mode="L")
    for source, target, num_frames in (
        ("a.gif", "1.webp", 3),
        ("a.webp", "2.gif", 3),
        ("a.png", "3.gif", 3),
        ("a.gif", "4.png", 1),
        ("a.webp", "5.jpg", 1),
        ("a.png", "6.png", 1),
        ("still.gif", "7.gif", 1),
        ("still.gif", "8.webp", 1),
    ):
        status, output = command(source, "-c", wave, "-o", target)
        assert status == 0, output
        with Image.open(target) as image:
            assert getattr(image, "n_frames", 1) == num_frames, target
    assert command("a.gif", "-c", wave, "-o", "9.mp4")[0] == 0
    assert len(decode(Path("9.mp4"))) == 3


def test_controls_and_their_mistakes_reach_the_frames(wave):
    clip = make_clip(Path("clip.mp4"), num_frames=2, sound=None)
    assert command(clip, "-c", wave, "-o", "0.mkv", "--strength", "0", "--quality", "0")[0] == 0
    for source, painted in zip(decode(clip), decode(Path("0.mkv")), strict=True):
        assert np.abs(source.astype(int) - painted).mean() < 4
    assert command(clip, "-c", wave, "-o", "1.mkv", "--output-size", "33")[0] == 0
    assert decode(Path("1.mkv"))[0].shape == (25, 33, 3)
    save_photo("mask.png", 20, 60)
    status, output = command(clip, "-c", wave, "-o", "2.mkv", "--mask", "mask.png")
    assert (status, "failed: clip.mp4: the mask's 20 × 60 px are not of" in output) == (1, True)
    assert not Path("2.mkv").exists()


def test_mistakes_are_told_before_the_work(wave):
    save_photo("a.png")
    clip = make_clip(Path("clip.mp4"), num_frames=1, sound=None)
    animation = make_animation(Path("a.gif"))
    before = files_in()
    for arguments, problem in (
        ([clip, "-o", "x.png"], "x.png: clips are written as .mp4, .mkv, .webm, .mov, .gif, .webp"),
        ([clip, "-o", "x.avi"], "x.avi: clips are written as"),
        (["a.png", "-o", "x.mp4"], "x.mp4: pictures are written as"),
        (["a.png", "--steady"], "--codec, --quality and --steady are for clips"),
        ([clip, "-o", "x.webm", "--codec", "h264"], "x.webm: .webm cannot hold h264"),
        ([clip, "--quality", "52"], "quality 52 must be from 0 (best) to 51 for h264"),
        ([animation, "--codec", "vp9"], "a_wave.gif: .gif has no codec to choose"),
        ([clip, "-o", clip], "clip.mp4 is itself a photo to paint"),
    ):
        status, output = command(*arguments, "-c", wave)
        assert (status, output.startswith(f"error: {problem}")) == (1, True), output
        assert output.count("\n") == 1
    assert files_in() == before


def test_ctrl_c_leaves_a_clip_that_plays_and_is_painted_anew(wave):
    clip = make_clip(Path("clip.mp4"), num_frames=1500, size=(320, 240))
    arguments = [sys.executable, SCRIPT, clip, "-c", wave, "-o", "out.mp4", "--device", "cpu"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not any(part.stat().st_size for part in Path().glob(".*.part.mp4")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    num_frames = len(decode(Path("out.mp4")))
    assert process.returncode == 130
    assert f"Stopped: out.mp4 holds the first {num_frames} frames." in errors
    assert 0 < num_frames < 1500
    assert "Traceback" not in errors
    assert files_in() == ["clip.mp4", "out.mp4"]
    assert read_note(Path("out.mp4")).endswith(" stopped")
    shutil.copyfile(make_clip(Path("short.mp4"), num_frames=2), clip)
    assert command(clip, "-c", wave, "-o", "out.mp4", "--device", "cpu")[0] == 0
    assert len(decode(Path("out.mp4"))) == 2


def test_progress_in_words():
    assert describe(Progress(120, 250, 15.34, 8.4)) == "120 of 250 frames, 15.3 frames/s, 0:08 left"
    assert describe(Progress(9, 99999, 1, 3723)) == "9 of 99999 frames, 1.0 frames/s, 1:02:03 left"
    assert describe(Progress(3, None, 2, None)) == "3 frames, 2.0 frames/s"


QUIET = """
import sys
from allaprima.entrypoints.stylize import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print(end.code, "av" in sys.modules)
"""


def test_photos_do_not_wait_for_pyav(wave):
    save_photo("in/a.jpg")
    save_photo("in/b.webp")
    save_photo("in/c.gif", mode="L")
    lines = run("-c", QUIET, "in", "-c", wave, "--device", "cpu").stdout.splitlines()
    assert lines[-1] == "0 False"
    assert read_picture("in_wave/c.png").rgb.shape == (21, 33, 3)
