"""Painting photos and textures: pixels, and the command itself."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from allaprima import weights
from allaprima.controls import Controls
from allaprima.entrypoints import painting
from allaprima.entrypoints.stylize import main
from allaprima.errors import InputError
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.generators.ulyanov import UlyanovGenerator
from allaprima.images import Picture, read_picture
from allaprima.many_photos import PixelBudget
from allaprima.painter import Painter
from allaprima.stylize import Stylizer, choose_device, paint_texture, stylize
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


@pytest.fixture
def pebbles(tmp_path_factory):
    """A file of a generator of textures, of at least 5 px."""
    file = tmp_path_factory.mktemp("generators") / "pebbles.safetensors"
    save_generator(file, UlyanovGenerator(False, 3, 4, padding="circular"), METADATA)
    return file


@pytest.fixture
def noisy(tmp_path_factory):
    """A file of a generator that paints photos with noise."""
    file = tmp_path_factory.mktemp("generators") / "noisy.safetensors"
    save_generator(file, UlyanovGenerator(True, 3, 4), METADATA)
    return file


def save_photo(file, width=33, height=21, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), np.uint8)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(file)
    return Path(file)


def command(*arguments):
    """Exit status and all that was printed."""
    printed = io.StringIO()
    with (
        redirect_stdout(printed),
        redirect_stderr(printed),
        pytest.raises(SystemExit) as end,
    ):
        main([str(argument) for argument in arguments])
    return end.value.code, printed.getvalue()


def files_in(folder="."):
    return sorted(str(f.relative_to(folder)) for f in Path(folder).rglob("*") if f.is_file())


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


@pytest.mark.parametrize("name", ["wave", "noisy"])
@pytest.mark.parametrize(("width", "height"), [(400, 1), (7, 5), (1, 1), (3, 40)])
def test_a_stylizer_paints_what_is_smaller_than_its_network_takes(name, width, height, request):
    stylizer = Stylizer(request.getfixturevalue(name), "cpu")
    rgb = np.random.default_rng(0).random((height, width, 3), np.float32)
    painted = stylizer.one_pass(rgb)
    assert painted.shape == rgb.shape
    if name == "wave":
        more = [(0, max(0, 16 - side)) for side in rgb.shape[:2]]
        reflected = np.pad(rgb, [*more, (0, 0)], "reflect")
        np.testing.assert_array_equal(painted, stylizer.one_pass(reflected)[:height, :width])


def test_a_panorama_keeps_its_size_at_a_small_working_size(folder, wave):
    save_photo("wide.png", 400, 9)
    assert command("wide.png", "-c", wave, "-o", "out.png", "--size", "100")[0] == 0
    assert read_picture("out.png").rgb.shape == (9, 400, 3)


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


def test_flat_parts_are_painted_with_grain_if_the_file_or_the_caller_says_so(tmp_path):
    plain, grained = tmp_path / "plain.safetensors", tmp_path / "grained.safetensors"
    generator = JohnsonGenerator((4, 4, 4), num_residual_blocks=1)
    save_generator(plain, generator, METADATA)
    save_generator(grained, generator, {**METADATA, "grain": 4.0})
    white = Picture(np.full((32, 48, 3), 255, np.uint8), None)

    def painted(file, **options):
        return Stylizer(file, "cpu", **options).paint(white).rgb

    assert len(np.unique(painted(plain)[..., 0])) == 1
    assert len(np.unique(painted(grained)[..., 0])) > 100
    assert np.array_equal(painted(grained), painted(plain, grain=4))
    assert np.array_equal(painted(grained, grain=0), painted(plain))
    assert np.array_equal(Stylizer(grained, "cpu").one_pass(white.rgb), painted(plain))


@pytest.mark.parametrize("grain", [-1, 33, float("nan"), "much", [4]])
def test_grain_out_of_its_range_is_told(wave, tmp_path, grain):
    if isinstance(grain, int | float):
        with pytest.raises(InputError, match=r"--grain .* from 0 to 32 .* --grain 0"):
            Stylizer(wave, "cpu", grain=grain)
    save_generator(
        file := tmp_path / "a.safetensors", load_generator(wave)[0], {**METADATA, "grain": grain}
    )
    with pytest.raises(InputError, match=r"a.safetensors says: grain .* from 0 to 32"):
        Stylizer(file, "cpu")
    assert Stylizer(file, "cpu", grain=1).grain == 1


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


def test_alpha_grows_with_a_larger_painting():
    """Super-resolution, here by repeating pixels."""
    rgb, alpha = np.random.rand(20, 24, 3).astype(np.float32), np.zeros((20, 24), np.float32)
    alpha[:, 12:] = 1

    def double(photo):
        return photo.repeat(2, 0).repeat(2, 1)

    painted = Controls().paint(Picture(rgb, alpha), double)
    assert np.array_equal(painted.rgb, double(rgb))
    assert painted.alpha.shape == (40, 48)
    assert np.array_equal(painted.alpha.round(), alpha.repeat(2, 0).repeat(2, 1))
    assert Controls().paint(Picture(rgb, None), double).alpha is None


# Textures and noise


def test_a_texture_is_what_the_generator_makes_of_noise(pebbles):
    generator, _ = load_generator(pebbles)
    generator.noise_seed = 7
    expected = generator(torch.ones(1, 3, 21, 33))[0].permute(1, 2, 0).numpy()
    painted = Stylizer(pebbles, "cpu", seed=7).texture(33, 21)
    assert painted.alpha is None
    np.testing.assert_allclose(painted.rgb, expected, atol=1e-5)
    assert np.array_equal(Stylizer(pebbles, "cpu", seed=7).texture(33, 21).rgb, painted.rgb)
    assert np.abs(Stylizer(pebbles, "cpu").texture(33, 21).rgb - painted.rgb).max() > 0.01


def test_without_noise_the_seed_is_nothing(noisy):
    picture = Picture(np.random.rand(20, 24, 3).astype(np.float32), None)

    def painted(seed=None, noise=None):
        return Stylizer(noisy, "cpu", seed, noise).paint(picture).rgb

    assert np.array_equal(painted(), painted(0, 1.0))
    assert np.abs(painted() - painted(1)).max() > 0.01
    assert np.array_equal(painted(0, 0.0), painted(1, 0.0))


def test_noise_out_of_its_range_is_told(wave, noisy):
    for options in ({"seed": 1}, {"noise": 0.0}):
        with pytest.raises(InputError, match=r"has no noise.*leave --seed and --noise out"):
            Stylizer(wave, "cpu", **options)
    for seed in (-1, 2**63):
        with pytest.raises(InputError, match=f"seed {seed} must be a whole number from 0"):
            Stylizer(noisy, "cpu", seed=seed)
    for noise in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"noise {noise} must be a number from 0"):
            Stylizer(noisy, "cpu", noise=noise)


class HungryForNoise(Hungry):
    photo = False


def test_a_texture_too_large_for_the_memory_is_refused():
    with pytest.raises(InputError, match=r"30 × 20 px need more memory .* smaller texture"):
        paint_texture(HungryForNoise(), 30, 20)


# The command


def test_files_and_folders_are_painted_and_the_bad_are_told(wave):
    save_photo("in/a.png", 33, 21)
    save_photo("in/b.jpg", 50, 17)
    save_photo("in/deep/c.png", 16, 35, "RGBA")
    Path("in/deep/empty.png").touch()
    Path("in/broken.png").write_bytes(b"no picture")
    status, output = command("in", "-c", wave)
    assert status == 1
    assert files_in("in_wave") == ["a.png", "b.jpg", "deep/c.png"]
    assert f"failed: {Path('in/broken.png')} is no image" in output
    assert f"failed: {Path('in/deep/empty.png')}" in output
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
    assert output.startswith("error: existing files, not of this generator and these options")
    assert output.endswith("unless you say --overwrite: a_wave.png\n")
    assert Path("a_wave.png").read_bytes() == b"mine"
    assert command("a.png", "-c", wave, "--overwrite") == (0, "Wrote a_wave.png\n")
    assert read_picture("a_wave.png").rgb.shape == (21, 33, 3)


def test_a_shipped_style_is_found_by_name_and_listed(wave, folder, monkeypatch):
    monkeypatch.setattr(weights, "resource_dir", lambda name: wave.parent)
    listed = f"{'wave':20} The Great Wave, Hokusai\n"
    assert command("--list") == (0, listed)
    thumbnail = wave.with_suffix(".jpg")
    thumbnail.touch()
    assert command("--list") == (0, f"{listed}{'':20} {thumbnail}\n")
    save_photo("a.png")
    assert command("a.png", "-c", "wave") == (0, "Wrote a_wave.png\n")
    status, output = command("a.png", "-c", "scream")
    assert status == 1
    assert "error: scream is neither a file nor a shipped generator (shipped are wave)" in output


@pytest.mark.skipif(os.name == "nt", reason="such a pipe breaks otherwise there")
def test_a_list_that_nobody_reads_to_its_end_is_no_error():
    program = "from allaprima.entrypoints.stylize import main; main(['--list'])"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        done = subprocess.run([sys.executable, "-c", program], stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_checkpoint_of_training_paints(wave):
    generator, metadata = load_generator(wave)
    entry = {**metadata, "weights": generator.state_dict(), "metadata": {}}
    torch.save({"allaprima": entry}, "last.ckpt")
    save_photo("a.png")
    assert command("a.png", "-c", wave)[0] == 0
    assert command("a.png", "-c", "last.ckpt") == (0, "Wrote a_last.png\n")
    a, b = (read_picture(file).rgb for file in ("a_wave.png", "a_last.png"))
    assert np.array_equal(a, b)


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


def test_what_can_be_no_name_and_no_limit_is_told(wave):
    save_photo("a.png")
    save_photo("m.png")
    painted = "a.png", "-c", wave
    unset = "a PHOTO, STYLE or PATH is empty"
    for arguments, problem in (
        (["", "-c", wave], unset),
        (["a.png", "-c", ""], unset),
        ([*painted, "-o", ""], unset),
        ([*painted, "--mask", ""], unset),
        ([*painted, "-o", "-"], "--output -: name a file"),
        ([*painted, "-o", "x.tga"], "--output x.tga: pictures are written as"),
        ([*painted, "--mask", "m.png", "-o", "m.png", "--overwrite"], "m.png is the --mask"),
        ([*painted, "--max-megapixels", "nan"], "--max-megapixels nan must be a number above 0"),
        ([*painted, "--max-megapixels", "inf"], "--max-megapixels inf must be"),
        ([*painted, "--max-megapixels", "0"], "--max-megapixels 0 must be"),
        ([*painted, "--max-megapixels=-1"], "--max-megapixels -1 must be"),
    ):
        status, output = command(*arguments)
        assert (status, output.startswith(f"error: {problem}")) == (1, True), output
        assert output.count("\n") == 1
    assert files_in() == ["a.png", "m.png"]
    assert command(*painted, "-o", "x.tga/") == (0, f"Wrote {Path('x.tga/a.png')}\n")


def test_a_format_that_cannot_have_the_size_is_told_before_the_painting(wave, pebbles, monkeypatch):
    save_photo("a.png")
    monkeypatch.setattr(Controls, "paint", lambda *_, **__: pytest.fail("painted"))
    status, output = command("a.png", "-c", wave, "-o", "a.webp", "--output-size", "17000")
    assert (status, "a.webp would have a side of 17000 px" in output) == (1, True)
    status, output = command("--texture", "40x65501", "-c", pebbles, "-o", "a.jpg")
    assert (status, "a.jpg would have a side of 65501 px" in output) == (1, True)


def test_the_largest_that_a_photo_becomes_counts_in_the_budget(wave, monkeypatch):
    held = []
    hold = PixelBudget.hold
    monkeypatch.setattr(PixelBudget, "hold", lambda *args: held.append(args[1]) or hold(*args))
    save_photo("a.png", 40, 20)
    for options in (["--size", "20"], ["--size", "80"], ["--size", "20", "--output-size", "120"]):
        assert command("a.png", "-c", wave, "--overwrite", *options)[0] == 0
    assert held == [800, 4 * 800, 9 * 800]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
@pytest.mark.parametrize("arguments", [["--list"], ["--help"], ["é.png", "-c", "wave"]])
def test_an_output_that_takes_nothing_is_no_fault_of_the_program(
    wave, arguments, monkeypatch, capsys
):
    monkeypatch.setattr(weights, "resource_dir", lambda name: wave.parent)
    save_photo("é.png")
    reader, writer = os.pipe()
    os.close(reader)
    full = "error: the standard output cannot be written: No space left on device\n"
    for file, status, errors in (("/dev/full", 1, full), (writer, 0, "")):
        with open(file, "w") as output:
            monkeypatch.setattr(sys, "stdout", output)
            with pytest.raises(SystemExit) as end:
                main([*arguments, "--overwrite"])
        assert (end.value.code, capsys.readouterr().err) == (status, errors)
    assert arguments[0][0] == "-" or Path("é_wave.png").exists()


def test_names_that_cannot_be_encoded_are_printed_all_the_same(wave, monkeypatch):
    names = "é", "bad\udcff"
    for name in names:
        save_photo("a.png").rename(f"{name}.png")
    for encoding, *printed in (("ascii", r"\xe9", r"bad\udcff"), ("utf-8", "é", r"bad\udcff")):
        for name, expected in zip(names, printed, strict=True):
            output = io.TextIOWrapper(io.BytesIO(), encoding)
            monkeypatch.setattr(sys, "stdout", output)
            with pytest.raises(SystemExit) as end:
                main([f"{name}.png", "-c", str(wave), "--overwrite"])
            assert end.value.code == 0
            assert output.buffer.getvalue().decode(encoding) == f"Wrote {expected}_wave.png\n"
        with pytest.raises(SystemExit):
            main(["--help"])


def test_a_texture_of_any_size_is_painted(pebbles):
    assert command("--texture", "33x21", "-c", pebbles) == (0, "Wrote pebbles_texture.png\n")
    first = read_picture("pebbles_texture.png")
    assert first.rgb.shape == (21, 33, 3)
    same = ["--texture", "33X21", "--seed", "0", "--noise", "1", "-c", pebbles, "-o", "same.webp"]
    assert command(*same) == (0, "Wrote same.webp\n")
    other = ["--texture", "33×21", "--seed", "7", "-c", pebbles, "-o", "out"]
    assert command(*other) == (0, f"Wrote {Path('out/pebbles_texture.png')}\n")
    assert not np.array_equal(read_picture("out/pebbles_texture.png").rgb, first.rgb)
    status, output = command("--texture", "33x21", "-c", pebbles)
    assert (status, "pebbles_texture.png exists already and is kept" in output) == (1, True)
    assert command("--texture", "40x21", "-c", pebbles, "--overwrite")[0] == 0
    assert read_picture("pebbles_texture.png").rgb.shape == (21, 40, 3)


def test_noise_is_chosen_in_the_command(noisy):
    save_photo("a.png")
    for i, options in enumerate((["--seed", "1"], [], ["--seed", "1", "--noise", "0"])):
        assert command("a.png", "-c", noisy, "-o", f"{i}.png", *options)[0] == 0
    a, b, c = (Path(f"{i}.png").read_bytes() for i in range(3))
    assert len({a, b, c}) == 3


def test_grain_is_chosen_in_the_command(wave):
    Image.new("RGB", (32, 20), "white").save("a.png")
    for i, options in enumerate((["--grain", "4"], [])):
        assert command("a.png", "-c", wave, "-o", f"{i}.png", *options)[0] == 0
    with_grain, without = (np.unique(read_picture(f"{i}.png").rgb) for i in range(2))
    assert len(with_grain) > 3 >= len(without)  # values, of three channels


def test_clips_have_grain_too(wave):
    white, grey = (Image.new("RGB", (32, 20), color) for color in ("white", "grey"))
    white.save("a.gif", save_all=True, append_images=[grey])
    for i, options in enumerate((["--grain", "4"], [])):
        assert command("a.gif", "-c", wave, "-o", f"{i}.gif", *options)[0] == 0
    with_grain, without = (np.unique(np.asarray(Image.open(f"{i}.gif"))) for i in range(2))
    assert len(with_grain) > 1 == len(without)


def test_what_does_not_go_with_a_texture_is_told(wave, pebbles):
    save_photo("a.png")
    for arguments, problem in (
        (["a.png", "--texture", "40x40", "-c", pebbles], "--texture 40x40 is painted without"),
        (["--texture", "40x40", "-c", wave], "this generator paints photos, no textures"),
        (["a.png", "-c", pebbles], "this generator paints textures from noise, no photos"),
        (["a.png", "-c", wave, "--seed", "7"], "this generator has no noise"),
        (["a.png", "-c", wave, "--noise", "0"], "this generator has no noise"),
        (["--texture", "40x4", "-c", pebbles], "texture of 40×4 px; each side must be ≥ 5 px"),
        (["--texture", "0x40", "-c", pebbles], "texture of 0×40 px"),
        (["--texture", "40", "-c", pebbles], "--texture 40 is no size; write WIDTHxHEIGHT"),
        (["--texture=-4x40", "-c", pebbles], "--texture -4x40 is no size"),
        (["--texture", "40x40x3", "-c", pebbles], "--texture 40x40x3 is no size"),
        (["--texture", "40x40", "-c", pebbles, "--seed", "-1"], "seed -1 must be"),
        (["--texture", "40x40", "-c", pebbles, "-o", "a.tiff"], "a.tiff: pictures are written as"),
    ):
        status, output = command(*arguments)
        assert (status, output.startswith(f"error: {problem}")) == (1, True), output
        assert output.count("\n") == 1
    assert files_in() == ["a.png"]


def test_help_tells_of_textures():
    status, output = command("--help")
    assert status == 0
    for word in ("--texture", "WIDTHxHEIGHT", "--seed", "--noise"):
        assert word in output


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


def test_pipes_among_photos_and_clips_are_told_and_not_waited_for(wave):
    save_photo("in/a.png")
    pipes = [Path("in", f"pipe{suffix}") for suffix in (".gif", ".jpg", ".mp4", ".webp")]
    for pipe in pipes:
        os.mkfifo(pipe)
    process = run(SCRIPT, "in", "-c", wave, "--device", "cpu")
    told = [f"failed: {pipe} is not a regular file; copy it to one" for pipe in pipes]
    assert sorted(process.stderr.splitlines()[:4]) == sorted(told)
    assert (process.returncode, process.stdout) == (1, f"Wrote {Path('in_wave/a.png')}\n")


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


def test_a_watched_folder_is_painted_as_files_come_whole(wave, monkeypatch):
    """What stands here for a second's sleep is what happens between two looks."""
    whole = save_photo("in/a.png").read_bytes()
    b, c = Path("in/b.png"), Path("in/c.png")
    seen = []

    def happens():
        yield  # a.png is there, but may still be growing
        seen.append(files_in("in_wave"))
        yield b.write_bytes(whole[:60])
        yield b.write_bytes(whole)
        seen.append(files_in("in_wave"))
        yield
        seen.append(files_in("in_wave"))
        yield c.write_bytes(b"no picture")
        yield
        yield c.write_bytes(whole)
        yield
        seen.append(files_in("in_wave"))
        yield save_photo("in/a.png", width=40)
        yield
        yield seen.append(read_picture("in_wave/a.png").rgb.shape)
        raise KeyboardInterrupt

    events = happens()
    monkeypatch.setattr(painting.time, "sleep", lambda seconds: next(events))
    status, output = command("in", "-c", wave, "--watch")
    assert seen == [
        ["a.png"],
        ["a.png"],
        ["a.png", "b.png"],
        ["a.png", "b.png", "c.png"],
        (21, 40, 3),
    ]
    assert status == 1
    assert output.count("failed: ") == 1
    assert "c.png" in output.split("failed: ")[1]
    assert output.endswith("Stopped: 4 painted, 1 failed.\n")


def test_watching_waits_for_a_first_photo(wave, monkeypatch):
    Path("in").mkdir()

    def happens():
        yield
        yield save_photo("in/a.png")
        yield
        raise KeyboardInterrupt

    events = happens()
    monkeypatch.setattr(painting.time, "sleep", lambda seconds: next(events))
    status, output = command("in", "-c", wave, "--watch")
    assert status == 0
    assert output.count("waiting: ") == 1
    assert output.endswith("Stopped: 1 painted, 0 failed.\n")


QUIET = """
import sys
from allaprima.entrypoints.stylize import main
for arguments in {calls}:
    try:
        main(arguments)
    except SystemExit as end:
        print(end.code)
heavy = "torch", "hydra", "pytorch_lightning", "torchvision", "onnxruntime", "matplotlib", "rich"
print(*[name for name in heavy if name in sys.modules])
"""


def test_help_mistakes_and_painting_by_c_wait_for_nothing_heavy(wave, noisy):
    save_photo("a.png")
    mistakes = [["--help"], ["nix.png", "-c", str(wave)], ["a.png", "-c", "nix"], ["a.png"]]
    lines = run("-c", QUIET.format(calls=mistakes)).stdout.splitlines()
    assert lines[-5:] == ["0", "1", "1", "2", ""]
    for file, heavy in ((wave, "" if Painter.available() else "torch"), (noisy, "torch")):
        calls = [["a.png", "-c", str(file), "--device", "cpu"]]
        lines = run("-c", QUIET.format(calls=calls)).stdout.splitlines()
        assert lines == [f"Wrote a_{file.stem}.png", "0", heavy]
