import ctypes
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from allaprima import native, winograd
from allaprima.winograd import FrozenConv3x3, fast_conv_available

CHANNELS_LAST = torch.channels_last
SHAPES = [  # batch, channels in and out, height, width
    (1, 16, 16, 1, 1),
    (1, 16, 32, 4, 4),
    (2, 32, 16, 5, 3),
    (3, 48, 64, 7, 18),
    (1, 272, 16, 13, 4),
    (2, 64, 128, 33, 30),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def compiled_in(cache, monkeypatch):
    """Every test compiles into (and finds) a cache of its own, and asks afresh."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("ALLAPRIMA_NATIVE", raising=False)
    native.load_library.cache_clear()
    yield
    native.load_library.cache_clear()


@pytest.fixture
def compiled():
    if not fast_conv_available():
        pytest.skip("no compiler here, or a CPU the compiled code is not written for")


def example(batch, cin, cout, height, width):
    """A layer as VGG has them: non-negative input, weights that keep the variance."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, cin, height, width, generator=generator).relu()
    weight = torch.randn(cout, cin, 3, 3, generator=generator) * (2 / (9 * cin)) ** 0.5
    return x, weight, torch.randn(cout, generator=generator) / 10


def relative_error(found, exact):
    assert found.shape == exact.shape
    return ((found - exact).abs().max() / exact.abs().max()).item()


@pytest.fixture
def used(monkeypatch):
    """Counts the calls of the compiled code."""
    calls, convolve = [], winograd._convolve
    monkeypatch.setattr(
        winograd,
        "_convolve",
        lambda x, *args, **kw: calls.append(x.shape) or convolve(x, *args, **kw),
    )
    return calls


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_agrees_with_float64(shape, relu, threads, padding, used):
    batch, cin, cout, *sides = shape
    x, weight, bias = example(batch, cin, cout, *(side + 2 - 2 * padding for side in sides))
    exact_x = x.double().requires_grad_()
    exact = F.conv2d(exact_x, weight.double(), bias.double(), padding=padding)
    x.requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = FrozenConv3x3(weight, bias)(x, relu, padding)
        gradient = torch.linspace(-1, 1, y.numel()).view_as(y)
        y.backward(gradient)
    finally:
        torch.set_num_threads(before)
    # Where rounding may decide whether a ReLU lets through, take its decision.
    exact.backward(gradient.double() * (y > 0 if relu else 1))
    assert relative_error(y, exact.relu() if relu else exact) < 1e-5
    assert relative_error(x.grad, exact_x.grad) < 1e-5
    assert len(used) == 2


@pytest.mark.usefixtures("compiled")
def test_precision_is_within_forty_roundings_of_float32():
    """Not compared with torch's own convolution, whose error differs threefold between CPUs."""
    x, weight, bias = example(1, 256, 64, 32, 32)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    error = relative_error(FrozenConv3x3(weight, bias)(x, relu=False), exact)
    assert error < 40 * torch.finfo(torch.float32).eps


@pytest.fixture
def bfloat16(compiled):
    if not fast_conv_available(torch.bfloat16):
        pytest.skip("this CPU has no products of bfloat16")


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", ["autocast", "activations"])
def test_bfloat16_agrees_with_float64_within_three_percent(shape, way, used):
    """A transformed value is rounded to 8 bits, then enlarged by up to 4 on its way back."""
    x, weight, bias = example(*shape)
    exact_x = x.double().requires_grad_()
    exact = F.conv2d(exact_x, weight.double(), bias.double(), padding=1)
    x = (x if way == "autocast" else x.bfloat16()).requires_grad_()
    with torch.autocast("cpu", enabled=way == "autocast"):
        y = FrozenConv3x3(weight, bias)(x, relu=True)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=CHANNELS_LAST)
    gradient = torch.linspace(-1, 1, y.numel()).view_as(y)
    y.backward(gradient.bfloat16())
    exact.backward(gradient.double() * (y > 0))
    for found, expected in ((y, exact.relu()), (x.grad, exact_x.grad)):
        distance = (found.double() - expected).norm() / expected.norm()
        assert distance < 0.03
    assert len(used) == 2


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "offset"])
def test_input_layouts(layout):
    x, weight, bias = example(2, 32, 32, 9, 10)
    layouts = {
        "contiguous": x,
        "channels_last": x.contiguous(memory_format=CHANNELS_LAST),
        "strided": x.repeat_interleave(2, -1)[..., ::2],
        "offset": torch.cat([x, x])[2:],
    }
    y = FrozenConv3x3(weight, bias)(layouts[layout], relu=True)
    assert y.is_contiguous(memory_format=CHANNELS_LAST)
    torch.testing.assert_close(y, F.conv2d(x, weight, bias, padding=1).relu())


@pytest.mark.usefixtures("compiled")
def test_stacked_with_pooling_and_a_gradient_of_any_layout():
    x, weight, bias = example(1, 16, 16, 22, 19)
    conv, gradients = FrozenConv3x3(weight, bias), []
    for layer in (conv, lambda x, relu: F.conv2d(x, weight, bias, padding=1).relu()):
        pixels = x.clone().requires_grad_()
        y = layer(F.max_pool2d(layer(pixels, True), 2), True)
        gradients += torch.autograd.grad(y.flatten(2).transpose(1, 2).square().sum(), pixels)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("compiled")
def test_not_a_number_is_not_hidden():
    x, weight, bias = example(1, 16, 16, 8, 8)
    x[0, 3, 2, 2] = torch.nan
    assert FrozenConv3x3(weight, bias)(x, relu=True)[0, :, 2, 2].isnan().all()


@pytest.mark.usefixtures("compiled")
def test_used_first_without_a_gradient_then_with():
    x, weight, bias = example(1, 16, 16, 8, 8)
    conv = FrozenConv3x3(weight, bias)
    with torch.inference_mode():
        first = conv(x, True).clone()
    x.requires_grad_()
    second = conv(x, True)
    assert torch.equal(first, second)
    second.sum().backward()
    assert x.grad is not None


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("case", ["three_channels", "float64", "float16", "empty_batch"])
def test_other_inputs_take_the_usual_way(case, used):
    x, weight, bias = example(1, 3 if case == "three_channels" else 16, 16, 8, 8)
    if case == "float64":
        x, weight, bias = x.double(), weight.double(), bias.double()
    if case == "empty_batch":
        x = x[:0]
    with torch.autocast("cpu", torch.float16, enabled=case == "float16"):
        y = FrozenConv3x3(weight, bias)(x, relu=True)
        expected = F.conv2d(x, weight, bias, padding=1).relu()
    torch.testing.assert_close(y, expected)
    assert not used


def test_wrong_number_of_channels_is_refused():
    _, weight, bias = example(1, 16, 16, 8, 8)
    with pytest.raises(RuntimeError, match="channels"):
        FrozenConv3x3(weight, bias)(torch.rand(1, 32, 8, 8), relu=True)


def test_weights_stay_out_of_state_dict_and_training():
    _, weight, bias = example(1, 16, 16, 1, 1)
    conv = FrozenConv3x3(weight.requires_grad_(), bias)
    assert not conv.state_dict()
    assert not list(conv.parameters())
    assert not conv.weight.requires_grad


# Compiling


@pytest.mark.parametrize("reason", ["switched_off", "no_compiler", "bad_compiler", "no_cache"])
def test_without_compiled_code_nothing_else_changes(reason, monkeypatch, tmp_path, caplog):
    if reason == "switched_off":
        monkeypatch.setenv("ALLAPRIMA_NATIVE", "0")
    elif reason == "no_cache":
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if reason == "bad_compiler":
        (tmp_path / "gcc").write_text("#!/bin/sh\necho 'internal error' >&2\nexit 1\n")
        (tmp_path / "gcc").chmod(0o700)
    with caplog.at_level(logging.INFO, logger="allaprima"):
        assert not fast_conv_available()
        assert not fast_conv_available()
    assert len(caplog.records) == (reason != "switched_off")
    assert reason != "bad_compiler" or "internal error" in caplog.text
    x, weight, bias = example(1, 16, 16, 5, 5)
    x.requires_grad_()
    y = FrozenConv3x3(weight, bias)(x, relu=True)
    torch.testing.assert_close(y, F.conv2d(x, weight, bias, padding=1).relu())
    y.sum().backward()


@pytest.mark.usefixtures("compiled")
def test_compiled_once_and_only_into_the_cache(cache):
    package = native.SOURCES
    (library,) = (cache / "allaprima").iterdir()
    made = library.stat().st_mtime_ns
    native.load_library.cache_clear()
    assert fast_conv_available()
    assert [file.stat().st_mtime_ns for file in (cache / "allaprima").iterdir()] == [made]
    assert not list(package.rglob("*.so"))


@pytest.mark.usefixtures("compiled")
def test_compiling_several_times_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(native.compile_library, "winograd") for _ in range(3)]
    (library,) = {future.result() for future in futures}
    assert list((tmp_path / "allaprima").iterdir()) == [library]
    ctypes.CDLL(str(library))
