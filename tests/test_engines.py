"""Which engine paints, and several generators averaged into one."""

import sys

import numpy as np
import pytest
import torch

from allaprima import Controls, InputError, Stylizer, engines
from allaprima.engines import average_weights
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.images import Picture
from allaprima.painter import Painter
from allaprima.torch_painter import OutOfMemory
from allaprima.weights import load_generator, read_weights, save_generator

PHOTO = np.random.default_rng(0).random((24, 36, 3), np.float32)


@pytest.fixture
def files(tmp_path):
    """Three generators of one architecture, from starts of their own."""
    made = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for file in made:
        save_generator(file, JohnsonGenerator((4, 4, 4), 1, norm="batch"), {"style": file.stem})
    return made


def paint(*arguments, **options):
    return Stylizer(*arguments, **options).one_pass(PHOTO)


def test_c_and_torch_paint_the_same(files, monkeypatch):
    if not Painter.available():
        pytest.skip("no C compiler here")
    by_c = paint(files[0], device="cpu")
    monkeypatch.setattr(Painter, "supports", lambda *_: False)
    by_torch = paint(files[0], device="cpu")
    np.testing.assert_allclose(by_c, by_torch, atol=1e-3)
    assert not np.array_equal(by_c, by_torch)


def test_painters_for_several_threads_are_as_many_as_asked(files):
    stylizer = Stylizer(files[0], "cpu", num_parallel=3)
    assert stylizer.num_parallel == (3 if Painter.available() else 1)


def test_torch_paints_in_tiles_what_is_too_large(files, monkeypatch):
    monkeypatch.setattr(Painter, "supports", lambda *_: False)
    whole = paint(files[0], device="cpu", tile="off")
    told = []

    def no_memory(*_):
        raise OutOfMemory("too large")

    monkeypatch.setattr(engines, "stylize", no_memory)  # as a GPU says
    np.testing.assert_allclose(paint(files[0], progress=told.append), whole, atol=1e-5)
    assert told[-1] == 1
    with pytest.raises(OutOfMemory):
        paint(files[0], tile="off")
    monkeypatch.setattr(engines, "CPU_BYTES", 0)
    monkeypatch.setattr(engines, "stylize", None)  # not even tried
    for tile in ("auto", "exact", "fast"):
        np.testing.assert_allclose(paint(files[0], tile=tile), whole, atol=1e-5)


def test_tiles_are_refused_where_there_can_be_none(tmp_path):
    save_generator(tmp_path / "a.safetensors", JohnsonGenerator((4, 4, 4), 1, padding="start"), {})
    with pytest.raises(InputError, match=r"a\.safetensors: --tile exact: .*pads at the start"):
        Stylizer(tmp_path / "a.safetensors", "cpu", tile="exact")


def test_auto_is_the_cpu_where_no_gpu_can_be(files, monkeypatch):
    monkeypatch.setattr(engines, "may_have_gpu", lambda: False)
    monkeypatch.setattr(engines, "choose_device", None)  # would need torch
    assert np.array_equal(paint(files[0]), paint(files[0], device="cpu"))


def test_lists_of_images_give_lists_and_controls_hold_for_them(files):
    pictures = Stylizer(files[0], "cpu")
    picture = Picture(PHOTO, None)
    assert np.array_equal(pictures.paint(picture, Controls(strength=0.0)).rgb, PHOTO)
    from PIL import Image

    images = [Image.new("RGB", (20, 16), colour) for colour in ("red", "navy")]
    painted = pictures(images)
    assert [image.tobytes() for image in painted] == [pictures(i).tobytes() for i in images]
    assert pictures([]) == []


def test_the_average_is_that_of_the_weights(files):
    metadata, weights = average_weights(files, [2, 1, 1])
    states = [load_generator(file)[0].state_dict() for file in files]
    assert metadata["style"] == "a"
    for name, array in weights.items():
        a, b, c = (state[name].double() for state in states)
        expected = (2 * a + b + c) / 4
        assert array.dtype == (np.int64 if name.endswith("tracked") else np.float32)
        np.testing.assert_allclose(array, expected.numpy(), atol=1e-6)
    assert np.array_equal(
        paint(files, shares=[0, 1, 0], device="cpu"), paint(files[1], device="cpu")
    )


def test_what_cannot_be_averaged_is_told(files, tmp_path):
    other = tmp_path / "other.safetensors"
    save_generator(other, JohnsonGenerator((4, 4, 4), 2, norm="batch"), {})
    with pytest.raises(InputError, match=r"other\.safetensors and .*a\.safetensors are different"):
        Stylizer([files[0], other], "cpu")
    for shares in ([1, 1], [1, -1, 1], [0, 0, 0], [1, float("nan"), 1], [1, float("inf"), 1]):
        with pytest.raises(InputError, match="for 3 checkpoints; name a share"):
            Stylizer(files, "cpu", shares=shares)


def test_options_out_of_range_are_named(files, tmp_path):
    with pytest.raises(InputError, match="precision 16; choose one of 32, bf16"):
        Stylizer(files[0], "cpu", precision="16")
    onnx = tmp_path / "a.onnx"
    onnx.write_bytes(b"no network")
    with pytest.raises(InputError, match=r"a\.onnx is painted by ONNX Runtime, on the CPU, alone"):
        Stylizer(onnx, "cuda")


def test_tensors_that_do_not_fit_are_refused_by_either_engine(files, monkeypatch):
    from safetensors.torch import load_file, save_file

    header, _ = read_weights(files[0])
    tensors = load_file(files[0])
    tensors["residual.0.body.0.weight"] = torch.ones(4, 4, 3, 2)
    header = {"format_version": "1", "generator": "johnson"} | {
        "arguments": str(header["arguments"]).replace("'", '"')
    }
    save_file(tensors, files[0], header)
    for _ in range(2):
        with pytest.raises(InputError, match=r"a\.safetensors: .*residual\.0\.body\.0\.weight"):
            Stylizer(files[0], "cpu")
        monkeypatch.setattr(Painter, "supports", lambda *_: False)


def test_importing_the_package_loads_nothing():
    import subprocess

    code = "import allaprima, sys; sys.exit(any(m in sys.modules for m in ('numpy', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'Monet'"):
        __import__("allaprima").Monet  # noqa: B018
