"""Plans of files: where a painting goes, and what is told before any work."""

import os
from pathlib import Path

import pytest

from allaprima.errors import InputError
from allaprima.outputs import output_path, plan_outputs, plan_texture


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*files):
    for file in map(Path, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def files_in(folder="."):
    return sorted(str(f.relative_to(folder)) for f in Path(folder).rglob("*") if f.is_file())


def paths(*pairs):
    return [(Path(a), Path(b)) for a, b in pairs]


def test_a_painting_lies_beside_its_photo():
    touch("a.jpg", "in/b.PNG", "c.webp", "d.jpeg", "e.gif", "f.tar.tiff", "g")
    photos = [Path(f) for f in files_in()]
    assert plan_outputs(photos, None, "wave") == paths(
        ("a.jpg", "a_wave.jpg"),
        ("c.webp", "c_wave.webp"),
        ("d.jpeg", "d_wave.jpeg"),
        ("e.gif", "e_wave.png"),
        ("f.tar.tiff", "f.tar_wave.png"),
        ("g", "g_wave.png"),
        ("in/b.PNG", "in/b_wave.PNG"),
    )


def test_a_folder_is_mirrored_beside_itself_or_in_the_output():
    touch("in/a.jpg", "in/deep/er/b.bmp", "in/notes.txt", "c.png")
    beside = paths(("in/a.jpg", "in_wave/a.jpg"), ("in/deep/er/b.bmp", "in_wave/deep/er/b.png"))
    assert plan_outputs([Path("in")], None, "wave") == beside
    out = paths(("in/a.jpg", "out/a.jpg"), ("in/deep/er/b.bmp", "out/deep/er/b.png"))
    assert plan_outputs([Path("in")], Path("out"), "wave") == out
    both = [Path("in"), Path("c.png")]
    assert plan_outputs(both, Path("out"), "wave") == paths(
        ("in/a.jpg", "out/in/a.jpg"),
        ("in/deep/er/b.bmp", "out/in/deep/er/b.png"),
        ("c.png", "out/c.png"),
    )


def test_clips_keep_a_format_that_is_written_and_programs_are_no_clips():
    touch("in/a.mp4", "in/b.AVI", "in/c.MOV", "in/d.ts", "in/e.gif")
    names = {"a.mp4": "a.mp4", "b.AVI": "b.mp4", "c.MOV": "c.MOV", "e.gif": "e.png"}
    found = paths(*((f"in/{a}", f"in_wave/{b}") for a, b in names.items()))
    assert plan_outputs([Path("in")], None, "wave") == found
    named = plan_outputs([Path("in/d.ts")], Path("out.webm"), "wave")
    assert named == paths(("in/d.ts", "out.webm"))
    with pytest.raises(InputError, match=r"c\.png: clips are written as \.mp4"):
        plan_outputs([Path("in/a.mp4")], Path("c.png"), "wave")


def test_the_current_folder_has_a_name(folder, monkeypatch):
    touch("in/a.jpg")
    monkeypatch.chdir("in")
    assert plan_outputs([Path()], None, "wave") == [(Path("a.jpg"), folder / "in_wave/a.jpg")]


def test_an_output_named_like_a_picture_is_a_file():
    touch("a.jpg", "b.jpg")
    a, b = Path("a.jpg"), Path("b.jpg")
    assert plan_outputs([a], Path("new/x.png"), "wave") == [(a, Path("new/x.png"))]
    assert plan_outputs([a], Path("new"), "wave") == [(a, Path("new/a.jpg"))]
    Path("folder.png").mkdir()
    assert plan_outputs([a, b], Path("folder.png"), "wave")[1] == (b, Path("folder.png/b.jpg"))


def test_what_lies_in_the_output_is_not_painted_again():
    touch("in/a.jpg", "in/out/a.jpg")
    plan = plan_outputs([Path("in")], Path("in/out"), "wave")
    assert plan == paths(("in/a.jpg", "in/out/a.jpg"))


def test_patterns_are_expanded():
    touch("in/a.jpg", "in/b.png", "in/deep/c.jpg", "in/notes.txt", "[odd].jpg")
    plan = plan_outputs([Path("in/*"), Path("in/**/*.jpg")], Path("out"), "wave")
    names = ("a.jpg", "b.png")
    assert plan[:2] == [(Path("in", n), Path("out", n)) for n in names]
    assert plan[2:] == paths(("in/deep/c.jpg", "out/c.jpg"))
    assert plan_outputs([Path("[odd].jpg")], None, "wave") == paths(("[odd].jpg", "[odd]_wave.jpg"))
    for nothing in ("in/*.gif", "in/*.txt", "nix/*"):
        with pytest.raises(InputError, match="no such photo or folder"):
            plan_outputs([Path(nothing)], None, "wave")


def test_a_photo_given_twice_is_painted_once():
    touch("a.jpg")
    assert plan_outputs([Path("a.jpg"), Path("./a.jpg")], None, "wave") == paths(
        ("a.jpg", "a_wave.jpg")
    )


def test_a_mask_is_not_painted_over():
    touch("a.jpg", "out/m.png", "m.png")
    Path("link.png").symlink_to("m.png")
    for mask, output in (("m.png", "m.png"), ("link.png", "m.png"), ("m.png", "out/../m.png")):
        with pytest.raises(InputError, match=r"m\.png is the --mask; choose another --output"):
            plan_outputs([Path("a.jpg")], Path(output), "wave", Path(mask))
    assert plan_outputs([Path("a.jpg")], Path("x.png"), "wave", Path("m.png"))


def test_links_in_a_circle_are_for_the_reader_to_tell():
    touch("in/a.jpg")
    Path("in/b.jpg").symlink_to("b.jpg")
    plan = plan_outputs([Path("in")], None, "wave")
    assert plan == paths(("in/a.jpg", "in_wave/a.jpg"), ("in/b.jpg", "in_wave/b.jpg"))


def test_an_output_of_an_unknown_format_is_no_folder_unless_it_is_said_to_be():
    touch("notes.txt")
    Path("pictures.old").mkdir()
    for text in ("x.tga", "X.TXT", "new/x.apng", "notes.txt"):
        with pytest.raises(InputError, match=f"{text}: .* a folder of that name is {text}/$"):
            output_path(text, of_one=True)
        assert output_path(text, of_one=False) == Path(text)
    for text in ("x.tga/", "pictures.old", "new", "x.png", "x.TIFF", "x.mp4", "..", ".hidden"):
        assert output_path(text, of_one=True) == Path(text)
    with pytest.raises(InputError, match="--output -: name a file"):
        output_path("-", of_one=False)


MISTAKES = {
    "missing": (["nix.jpg", "a.jpg"], None, r"nix\.jpg: no such photo or folder"),
    "empty folder": (["texts"], None, "no picture in texts; pictures end in .jpg"),
    "many to a file": (["a.jpg", "b.jpg"], "x.png", r"x\.png is one file"),
    "folder to a file": (["in"], "x.png", r"x\.png is one file"),
    "unknown format": (["a.jpg"], "x.tiff", r"x\.tiff: pictures are written as"),
    "itself": (["a.jpg"], "a.jpg", r"a\.jpg is itself a photo to paint"),
    "itself by another way": (["a.jpg"], "in/../a.jpg", "is itself a photo"),
    "folder to itself": (["in"], "in", r"in.a\.jpg is itself a photo"),
    "another photo": (["a.jpg", "a_wave.jpg"], None, r"a_wave\.jpg is itself a photo"),
    "two to one": (["a.jpg", "in/a.jpg"], "out", r"a\.jpg and in.a\.jpg would both .* out.a\.jpg"),
    "two formats to one": (
        ["c.bmp", "c.gif"],
        None,
        r"c\.bmp and c\.gif would both .* c_wave\.png",
    ),
    "under a file": (["a.jpg"], "b.jpg/out", r"b\.jpg is not a folder"),
    "long photo": (["x" * 300], None, "xxx cannot be reached: File name too long"),
    "long output": (["a.jpg"], "x" * 300, "a.jpg cannot be reached: File name too long"),
}


@pytest.mark.parametrize(("inputs", "output", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_before_any_work(inputs, output, problem):
    touch("a.jpg", "a_wave.jpg", "b.jpg", "in/a.jpg", "texts/a.txt", "c.bmp", "c.gif")
    before = files_in()
    with pytest.raises(InputError, match=problem):
        plan_outputs([Path(i) for i in inputs], output and Path(output), "wave")
    assert files_in() == before


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told_before_any_work():
    touch("in/a.jpg")
    Path("in").chmod(0o555)
    try:
        with pytest.raises(InputError, match="not a folder that you may change"):
            plan_outputs([Path("in/a.jpg")], None, "wave")
    finally:
        Path("in").chmod(0o755)


def test_a_texture_is_named_after_its_style():
    Path("out").mkdir()
    assert plan_texture(None, "wave") == Path("wave_texture.png")
    assert plan_texture(Path("a/b.webp"), "wave") == Path("a/b.webp")
    assert plan_texture(Path("out"), "wave") == Path("out/wave_texture.png")
    assert plan_texture(Path("new"), "wave") == Path("new/wave_texture.png")


def test_a_texture_that_cannot_be_written_is_told_before_any_work():
    touch("wave_texture.png", "b")
    with pytest.raises(InputError, match=r"wave_texture\.png exists already"):
        plan_texture(None, "wave")
    assert plan_texture(None, "wave", overwrite=True) == Path("wave_texture.png")
    with pytest.raises(InputError, match="not a folder"):
        plan_texture(Path("b/c.png"), "wave")
    with pytest.raises(InputError, match="pictures are written as"):
        plan_texture(Path("c.tiff"), "wave")
    with pytest.raises(InputError, match="cannot be reached: File name too long"):
        plan_texture(Path("x" * 300), "wave")
