"""Notes at the end of clips: found again, and no player sees them."""

from pathlib import Path

import pytest
from PIL import Image
from test_animation import make_animation, read
from test_video import decode, make_clip, sound_packets, times

from allaprima.clip_notes import add_note, read_note

NOTE = "allaprima recipe 0123456789abcdef photo 0123456789abcdef"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("note", [NOTE, NOTE + " stopped"])
def test_a_video_with_a_note_is_the_same_video(tmp_path, suffix, note):
    codecs = {"codec": "libvpx-vp9", "sound": "libopus"} if suffix == ".webm" else {}
    clip = make_clip(tmp_path / f"clip{suffix}", num_frames=3, **codecs)
    assert read_note(clip) == ""
    before = decode(clip), times(clip), sound_packets(clip)
    add_note(clip, note)
    assert read_note(clip) == note
    after = decode(clip), times(clip), sound_packets(clip)
    assert all((a == b).all() for a, b in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("note", [NOTE, NOTE + "!"])
def test_an_animation_with_a_note_is_the_same_animation(tmp_path, suffix, note):
    clip = make_animation(tmp_path / f"a{suffix}")
    before = read(clip)
    add_note(clip, note)
    assert read_note(clip) == note
    after = read(clip)
    assert all((a == b).all() for a, b in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]
    with Image.open(clip) as image:
        image.verify()
    if suffix == ".webp":
        data = clip.read_bytes()
        assert int.from_bytes(data[4:8], "little") == len(data) - 8
        assert len(data) % 2 == 0


def test_no_file_has_no_note(tmp_path):
    assert read_note(Path("missing.mp4")) == ""
    (tmp_path / "short.mp4").write_bytes(b"x")
    assert read_note(tmp_path / "short.mp4") == ""
