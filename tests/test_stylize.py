"""Painting photos: pixels, plans of files, and the command itself."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from allaprima import weights
from allaprima.entrypoints.stylize import app
from allaprima.errors import InputError
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.images import Picture, read_picture
from allaprima.stylize import Stylizer, choose_device, plan_outputs, stylize
from allaprima.weights import load_generator, save_generator

SCRIPT = Path(__file__).parents[1] / "scripts/stylize.py"
METADATA = {"style": {"name": "wave", "title": "The Great Wave", "artist": "Hokusai"}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def wave(tmp_path_factory):
    """A generator file of its own folder."""
    file = tmp_path_factory.mktemp("generators") / "wave.safetensors"
    save_generator(file, JohnsonGenerator((4, 4, 4), num_residual_blocks=1), METADATA)
    return file


def save_photo(file, width=33, height=21, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), np.uint8)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(file)
    return Path(file)


def touch(*files):
    for file in map(Path, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def command(*arguments):
    """Exit status and all that was printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def files_in(folder="."):
    return sorted(str(f.relative_to(folder)) for f in Path(folder).rglob("*") if f.is_file())


def paths(*pairs):
    return [(Path(a), Path(b)) for a, b in pairs]


# Pixels


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (34, 19)])
def test_one_pass_is_the_generators_forward(size):
    generator = JohnsonGenerator((4, 4, 4), num_residual_blocks=1).eval()
    rgb = np.random.rand(*size, 3).astype(np.float32)
    photo = rgb.copy()
    photo.flags.writeable = False
    painted = stylize(generator, photo)
    expected = generator(torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None])[0].detach()
    assert painted.dtype == np.float32
    np.testing.assert_allclose(painted, expected.permute(1, 2, 0).numpy(), atol=1e-5)


def test_a_mirrored_view_is_painted_like_its_copy():
    generator = JohnsonGenerator((4, 4, 4), num_residual_blocks=1).eval()
    mirrored = np.random.rand(20, 24, 3).astype(np.float32)[:, ::-1]
    assert np.array_equal(stylize(generator, mirrored), stylize(generator, mirrored.copy()))


def test_a_photo_under_16_px_is_refused():
    generator = JohnsonGenerator((4, 4, 4), num_residual_blocks=1).eval()
    with pytest.raises(InputError, match="40×15 px; each side must be ≥ 16"):
        stylize(generator, np.zeros((15, 40, 3), np.float32))


class Hungry(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, photo):
        return photo.new_empty(1 << 58)


def test_a_photo_too_large_for_the_memory_is_refused():
    with pytest.raises(InputError, match="30 × 20 px need more memory than cpu has"):
        stylize(Hungry(), np.zeros((20, 30, 3), np.float32))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "LA", "PA"])
def test_a_stylizer_keeps_size_and_alpha(wave, mode):
    colour = Image.open(save_photo("colour.png", 35, 18))
    alpha = Image.open(save_photo("alpha.png", 35, 18, "L"))
    image = colour.convert(mode.removesuffix("A"))
    if mode.endswith("A"):
        image.putalpha(alpha)
        assert image.mode == mode
    stylizer = Stylizer(wave, device="cpu")
    painted = stylizer(image)
    assert painted.size == (35, 18)
    if mode.endswith("A"):
        assert painted.mode == "RGBA"
        assert painted.getchannel("A").tobytes() == alpha.tobytes()
    else:
        assert painted.mode == "RGB"
    rgb = np.asarray(image.convert("RGBA").convert("RGB"), np.float32) / 255
    expected = stylize(load_generator(wave)[0], rgb) * 255
    assert np.abs(np.asarray(painted)[..., :3] - expected).max() <= 0.51
    assert stylizer.metadata["style"] == METADATA["style"]


def test_a_stylizer_refuses_deep_images(wave):
    with pytest.raises(InputError, match="mode I;16; 8 bits"):
        Stylizer(wave, device="cpu")(Image.new("I;16", (20, 20)))


def test_threads_may_share_a_stylizer(wave):
    stylizer = Stylizer(wave, device="cpu")
    pictures = [Picture(np.random.rand(20, w, 3).astype(np.float32), None) for w in range(16, 40)]
    one_by_one = [stylizer.paint(picture).rgb for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda picture: stylizer.paint(picture).rgb, pictures))
    assert all(np.array_equal(a, b) for a, b in zip(one_by_one, at_once, strict=True))


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    present = choose_device("auto").type
    assert present == choose_device(present).type
    for name in {"cuda", "mps", "tpu"} - {present}:
        with pytest.raises(InputError, match=f"device {name} is not on this machine; take auto or"):
            choose_device(name)


# Plans


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
    plan = plan_outputs([Path("in")], Path("in/out"), "wave", overwrite=True)
    assert plan == paths(("in/a.jpg", "in/out/a.jpg"))


def test_a_photo_given_twice_is_painted_once():
    touch("a.jpg")
    assert plan_outputs([Path("a.jpg"), Path("./a.jpg")], None, "wave") == paths(
        ("a.jpg", "a_wave.jpg")
    )


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
    "existing": (["many"], "done", r"kept unless .*--overwrite: done.0\.png.* and 6 more$"),
    "under a file": (["a.jpg"], "b.jpg/out", r"b\.jpg is not a folder"),
}


@pytest.mark.parametrize(("inputs", "output", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_before_any_work(inputs, output, problem):
    touch("a.jpg", "a_wave.jpg", "b.jpg", "in/a.jpg", "texts/a.txt", "c.bmp", "c.gif")
    touch(*(f"{folder}/{i}.png" for folder in ("many", "done") for i in range(9)))
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


# The command


def test_files_and_folders_are_painted_and_the_bad_are_told(wave):
    save_photo("in/a.png", 33, 21)
    save_photo("in/b.jpg", 50, 17)
    save_photo("in/deep/c.png", 16, 35, "RGBA")
    save_photo("in/deep/small.png", 40, 15)
    Path("in/broken.png").write_bytes(b"no picture")
    status, output = command("in", "-c", wave)
    assert status == 1
    assert files_in("in_wave") == ["a.png", "b.jpg", "deep/c.png"]
    assert f"failed: {Path('in/broken.png')} is no image" in output
    assert f"failed: {Path('in/deep/small.png')}: photo of 40×15 px; each side" in output
    assert "2 of 5 photos could not be painted." in output
    assert output.splitlines()[-3:] == [f"Wrote {Path('in_wave', f)}" for f in files_in("in_wave")]

    generator, _ = load_generator(wave)
    for name in ("a.png", "deep/c.png"):
        photo, painted = read_picture(f"in/{name}"), read_picture(f"in_wave/{name}")
        np.testing.assert_allclose(painted.rgb, stylize(generator, photo.rgb), atol=0.5001 / 255)
        assert (photo.alpha is None) == (painted.alpha is None)
        assert photo.alpha is None or np.array_equal(photo.alpha, painted.alpha)
    with Image.open("in_wave/b.jpg") as painted:
        assert (painted.format, painted.size) == ("JPEG", (50, 17))


def test_many_paintings_are_named_by_their_folder(wave, folder):
    for i in range(6):
        save_photo(f"in/{i}/a.png", 16, 16)
    status, output = command("in", "-c", wave, "-o", "out")
    assert (status, output) == (0, f"Wrote 6 paintings in {folder / 'out'}\n")


def test_existing_paintings_are_kept_unless_told(wave):
    save_photo("a.png")
    Path("a_wave.png").write_bytes(b"mine")
    status, output = command("a.png", "-c", wave)
    assert status == 1
    assert "error: existing files are kept unless you say --overwrite: a_wave.png" in output
    assert Path("a_wave.png").read_bytes() == b"mine"
    assert command("a.png", "-c", wave, "--overwrite") == (0, "Wrote a_wave.png\n")
    assert read_picture("a_wave.png").rgb.shape == (21, 33, 3)


def test_a_shipped_style_is_found_by_name_and_listed(wave, folder, monkeypatch):
    monkeypatch.setattr(weights, "resource_dir", lambda name: wave.parent)
    assert command("--list") == (0, f"{'wave':20} The Great Wave, Hokusai\n")
    save_photo("a.png")
    assert command("a.png", "-c", "wave") == (0, "Wrote a_wave.png\n")
    status, output = command("a.png", "-c", "scream")
    assert status == 1
    assert "error: scream is neither a file nor a shipped generator (shipped are wave)" in output


def test_a_checkpoint_of_training_paints(wave):
    generator, metadata = load_generator(wave)
    entry = {**metadata, "weights": generator.state_dict(), "metadata": {}}
    torch.save({"allaprima": entry}, "last.ckpt")
    save_photo("a.png")
    assert command("a.png", "-c", wave)[0] == 0
    assert command("a.png", "-c", "last.ckpt") == (0, "Wrote a_last.png\n")
    assert Path("a_wave.png").read_bytes() == Path("a_last.png").read_bytes()


def test_mistakes_in_the_command_end_it_with_a_sentence(wave):
    save_photo("a.png")
    Path("false.safetensors").write_bytes(b"no weights")
    for arguments, problem in (
        (["nix.png", "-c", wave], "error: nix.png: no such photo or folder"),
        (["a.png", "-c", "false.safetensors"], "error: false.safetensors: damaged, incomplete"),
    ):
        status, output = command(*arguments)
        assert (status, output.startswith(problem), output.count("\n")) == (1, True, 1)
    for arguments in (["a.png"], ["-c", wave], ["a.png", "-c", wave, "--device", "tpu"]):
        assert command(*arguments)[0] == 2
    assert files_in() == ["a.png", "false.safetensors"]


# The script, as a process


def run(*arguments):
    arguments = [sys.executable, *map(str, arguments)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


def test_the_script_paints_and_its_status_tells_of_a_broken_photo(wave):
    save_photo("a.jpg", 37, 23)
    save_photo("b.webp", 16, 16, "RGBA")
    Path("broken.jpg").write_bytes(Path("a.jpg").read_bytes()[:200])
    process = run(SCRIPT, "a.jpg", "broken.jpg", "b.webp", "-c", wave, "--device", "cpu")
    assert process.returncode == 1
    assert process.stdout.splitlines() == ["Wrote a_wave.jpg", "Wrote b_wave.webp"]
    assert process.stderr.startswith("failed: broken.jpg is damaged or incomplete")
    assert process.stderr.endswith("1 of 3 photos could not be painted.\n")
    assert files_in() == ["a.jpg", "a_wave.jpg", "b.webp", "b_wave.webp", "broken.jpg"]
    assert read_picture("a_wave.jpg").rgb.shape == (23, 37, 3)
    assert np.array_equal(read_picture("b_wave.webp").alpha, read_picture("b.webp").alpha)


def test_ctrl_c_says_how_many_are_done_and_leaves_no_partial_file(wave, folder):
    save_photo("in/000.png", 200, 200)
    for i in range(1, 400):
        shutil.copy("in/000.png", f"in/{i:03}.png")
    arguments = [sys.executable, SCRIPT, "in", "-c", wave, "--device", "cpu"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not Path("in_wave/002.png").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    painted = files_in("in_wave")
    assert process.returncode == 130
    assert f"Stopped: {len(painted)} of 400 photos are painted." in errors
    assert "Traceback" not in errors
    assert output.startswith("Wrote ")
    assert painted == [f"{i:03}.png" for i in range(len(painted))]
    assert read_picture(f"in_wave/{painted[-1]}").rgb.shape == (200, 200, 3)


QUIET = """
import sys
from allaprima.entrypoints.stylize import app
for arguments in {calls}:
    sys.argv[1:] = arguments
    try:
        app()
    except SystemExit as end:
        print(end.code)
print(*{{"torch", "hydra", "pytorch_lightning", "torchvision"}} & {{*sys.modules}})
"""


def test_help_and_mistakes_wait_for_nothing_heavy_and_painting_not_for_training(wave):
    save_photo("a.png")
    mistakes = [["--help"], ["nix.png", "-c", str(wave)], ["a.png", "-c", "nix"], ["a.png"]]
    lines = run("-c", QUIET.format(calls=mistakes)).stdout.splitlines()
    assert lines[-5:] == ["0", "1", "1", "2", ""]
    lines = run("-c", QUIET.format(calls=[["a.png", "-c", str(wave)]])).stdout.splitlines()
    assert lines == ["Wrote a_wave.png", "0", "torch"]
