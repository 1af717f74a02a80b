import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from allaprima import native, painter
from allaprima.errors import InputError
from allaprima.generators import johnson
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.painter import Painter

LEVEL = 1 / 255
NETWORKS = [
    {"filters": (16, 32, 64)},
    {"filters": (32, 64, 128), "num_residual_blocks": 2},
    {"filters": (16, 16, 32), "norm": "batch"},
    {"filters": (8, 20, 24), "num_residual_blocks": 1, "output": "linear"},
    {"filters": (16, 32, 80), "num_residual_blocks": 0},
    {"filters": (16, 32, 64), "upsampling": "nearest", "margin_px": 4},
    {"filters": (16, 16, 32), "num_residual_blocks": 1, "margin_px": 24},
    {"filters": (16, 32, 64), "dilations": (1, 2, 4, 2, 1), "margin_px": 4},
    {"filters": (16, 16, 48), "num_residual_blocks": 2, "dilations": (15, 1), "margin_px": 24},
]
SIZES = [(16, 16), (61, 43), (17, 300), (132, 200)]

needs_compiler = pytest.mark.skipif(not Painter.available(), reason="no C compiler here")
needs_bfloat16 = pytest.mark.skipif(
    not Painter.available("bf16"), reason="no CPU with bfloat16 products, or no compiler"
)


def network(**arguments) -> JohnsonGenerator:
    torch.manual_seed(0)
    generator = JohnsonGenerator(**arguments).eval()
    for name, tensor in generator.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.normal_(float(name.endswith("weight")), 0.3)
    return generator


def state(generator: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in generator.state_dict().items()}


def paint_plainly(generator: nn.Module, rgb: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        painted = generator(torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous())
    return painted[0].permute(1, 2, 0).numpy()


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


def paints_without_variance(generator: nn.Module, rgb: np.ndarray) -> np.ndarray:
    """Instance norms of flat images are their biases exactly, whatever rounding may say."""

    def normalize(norm, x, relu=False, shortcut=None):
        if isinstance(norm, nn.InstanceNorm2d):
            x = norm.bias[:, None, None].expand_as(x)
        else:
            x = norm(x)
        x = x.relu() if relu else x
        return x if shortcut is None else x + shortcut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(johnson, "normalize", normalize)
        return paint_plainly(generator, rgb)


@needs_compiler
@pytest.mark.parametrize("arguments", NETWORKS, ids=str)
def test_float32_paints_what_the_network_does(arguments):
    generator = network(**arguments)
    paint = Painter(generator.arguments, state(generator), threads=2)
    for size in SIZES:
        rgb = photo(*size)
        np.testing.assert_allclose(paint(rgb), paint_plainly(generator, rgb), atol=1e-4)


@needs_bfloat16
@pytest.mark.parametrize("arguments", NETWORKS, ids=str)
def test_bfloat16_paints_about_the_same(arguments):
    generator = network(**arguments)
    paint = Painter(generator.arguments, state(generator), "bf16", threads=2)
    for size in SIZES:
        rgb = photo(*size)
        difference = paint(rgb) - paint_plainly(generator, rgb)
        assert np.abs(difference).max() < 20 * LEVEL
        assert 0 < np.sqrt(np.square(difference).mean()) < 4 * LEVEL


@needs_compiler
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("precision", ["32", pytest.param("bf16", marks=needs_bfloat16)])
def test_a_photo_of_one_colour_becomes_one_colour(norm, precision):
    generator = network(filters=(16, 32, 64), norm=norm)
    paint = Painter(generator.arguments, state(generator), precision)
    for colour in ((0, 0, 0), (1, 1, 1), (0.2, 0.7, 0.4)):
        rgb = np.full((20, 33, 3), colour, np.float32)
        painted = paint(rgb)
        assert (painted == painted[0, 0]).all()
        np.testing.assert_allclose(painted, paints_without_variance(generator, rgb), atol=1e-5)


@needs_compiler
def test_hardly_any_contrast_is_no_trouble():
    generator = network(filters=(16, 32, 64))
    paint = Painter(generator.arguments, state(generator))
    rgb = np.full((40, 40, 3), 0.9, np.float32)
    rgb[20, 20] -= LEVEL
    exact = paint_plainly(generator.double(), rgb.astype(np.float64))
    np.testing.assert_allclose(paint(rgb), exact, atol=LEVEL)


@needs_compiler
@pytest.mark.parametrize("precision", ["32", pytest.param("bf16", marks=needs_bfloat16)])
def test_threads_change_nothing(precision):
    generator = network(filters=(16, 32, 64), num_residual_blocks=1)
    one, three = (
        Painter(generator.arguments, state(generator), precision, threads) for threads in (1, 3)
    )
    photos = [photo(40 + 8 * i, 150 - 8 * i, seed=i) for i in range(8)]
    expected = [one(rgb) for rgb in photos]
    with ThreadPoolExecutor(4) as pool:
        for painted, wanted in zip(pool.map(three, photos), expected, strict=True):
            np.testing.assert_array_equal(painted, wanted)


@needs_compiler
def test_photos_of_other_layouts_and_types_are_taken():
    generator = network(filters=(16, 16, 16), num_residual_blocks=0)
    paint = Painter(generator.arguments, state(generator))
    rgb = photo(24, 36)
    expected = paint(rgb)
    np.testing.assert_array_equal(paint(np.asfortranarray(rgb)), expected)
    np.testing.assert_array_equal(paint(np.repeat(rgb, 2, 0)[::2].astype(np.float64)), expected)
    assert expected.dtype == np.float32


@needs_compiler
def test_half_precision_weights_are_taken():
    generator = network(filters=(16, 32, 64), num_residual_blocks=1).half().float()
    rgb = photo(32, 32)
    half = {name: array.astype(np.float16) for name, array in state(generator).items()}
    painted = Painter(generator.arguments, half)(rgb)
    np.testing.assert_allclose(painted, paint_plainly(generator, rgb), atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("target", ["x86-64", "x86-64-v3"])
def test_cpus_with_narrower_vectors_paint_the_same(target, tmp_path, monkeypatch):
    if native.platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("no x86-64 CPU")
    if target == "x86-64-v3" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("no CPU with AVX2")
    monkeypatch.setitem(native.MACHINE_FLAGS, native.platform.machine(), f"-march={target}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = ctypes.CDLL(str(native.compile_library("painter")))
    monkeypatch.setattr(painter, "load_library", lambda name: library)
    assert not Painter.available("bf16")
    generator = network(filters=(16, 32, 80))
    rgb = photo(61, 147)
    painted = Painter(generator.arguments, state(generator))(rgb)
    np.testing.assert_allclose(painted, paint_plainly(generator, rgb), atol=1e-4)
    with pytest.raises(InputError, match="AVX512_BF16"):
        Painter(generator.arguments, state(generator), "bf16")


@needs_compiler
def test_wrong_input_is_told():
    generator = network(filters=(16, 16, 16), num_residual_blocks=1)
    weights = state(generator)
    paint = Painter(generator.arguments, weights)
    with pytest.raises(InputError, match="15×40"):
        paint(photo(40, 15))
    with pytest.raises(InputError, match="precision 16"):
        Painter(generator.arguments, weights, "16")
    with pytest.raises(InputError, match=r"down\.0\.0\.weight .*\(32, 3, 9, 9\)"):
        Painter({**generator.arguments, "filters": [32, 16, 16]}, weights)
    for dilations in ([10**9], [0], [1, 1], [2.0], "1"):
        with pytest.raises(InputError, match=r"generator\.dilations="):
            Painter({**generator.arguments, "dilations": dilations}, weights)
    del weights["to_rgb.bias"]
    with pytest.raises(InputError, match=r"to_rgb\.bias is missing"):
        Painter(generator.arguments, weights)


@needs_compiler
def test_more_pixels_than_memory_is_told(monkeypatch):
    generator = network(filters=(16, 16, 16), num_residual_blocks=0)
    paint = Painter(generator.arguments, state(generator))

    def no_memory(size):
        raise MemoryError

    monkeypatch.setattr(painter, "aligned_bytes", no_memory)
    with pytest.raises(InputError, match="48 × 32 px need more memory"):
        paint(photo(32, 48))


@needs_compiler
@pytest.mark.parametrize(
    "arguments",
    [
        {"upsampling": "transposed"},
        {"padding": "start"},
        {"input": "luminance"},
        {"margin_px": 22},
        {"num_noise_channels": 3},
    ],
)
def test_other_networks_are_not_supported(arguments):
    assert Painter.supports({})
    assert not Painter.supports(arguments)
    with pytest.raises(InputError, match="paint with torch"):
        Painter(arguments, {})


def test_without_compiled_code_there_is_no_painter(monkeypatch):
    monkeypatch.setenv("ALLAPRIMA_NATIVE", "0")
    native.load_library.cache_clear()
    try:
        assert not Painter.available()
        assert not Painter.supports({})
        with pytest.raises(InputError, match="not available here"):
            Painter({}, {})
    finally:
        native.load_library.cache_clear()


def test_torch_is_not_imported():
    code = "import sys, allaprima.painter; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
