import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from allaprima import fused
from allaprima.fused import InstanceNorm, convolve, enlarge_and_pad, normalize

BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
SHAPES = [(2, 16, 17, 33), (1, 48, 40, 40), (3, 64, 5, 7)]


@pytest.fixture(params=[*BOUNDS], ids=["float32", "bfloat16"])
def dtype(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["compiled", "plain"])
def compiled(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(fused, "load_library", lambda name: None)
    elif not fused._is_fast_for(torch.zeros(1, 16, 2, 2)):
        pytest.skip("no compiler here")
    return request.param


def images(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(shape, generator=generator) + 5).to(dtype)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def written_out(norm, x, relu, shortcut):
    """Ulyanov 2016, equation 2."""
    mean = x.mean((2, 3), keepdim=True)
    deviation = (x.var((2, 3), correction=0, keepdim=True) + norm.eps).sqrt()
    y = (x - mean) / deviation * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    y = y.relu() if relu else y
    return y if shortcut is None else y + shortcut


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("adds", [True, False])
def test_instance_norm_and_its_gradient_are_the_papers(shape, relu, adds, dtype, compiled):
    """Of one image too, where torch's own gradient is wrong."""
    norm = InstanceNorm(shape[1])
    nn.init.uniform_(norm.weight, -1, 2)
    nn.init.normal_(norm.bias)
    x = images(shape, dtype)
    shortcut = images(shape, dtype) if adds else None
    y = norm(x, relu, shortcut)
    slope = torch.randn_like(y)
    exact_norm, exact_x = copy.deepcopy(norm).double(), x.detach().double().requires_grad_()
    exact = written_out(exact_norm, exact_x, relu, exact_x if adds else None)
    gradients = torch.autograd.grad(y, [x, norm.weight, norm.bias], slope)
    if adds:  # the shortcut's own
        gradients = (gradients[0].double() + slope.double(), *gradients[1:])
    of = [exact_x, exact_norm.weight, exact_norm.bias]
    exact_gradients = torch.autograd.grad(exact, of, slope.double())
    for found, expected in zip((y, *gradients), (exact, *exact_gradients), strict=True):
        assert (found.double() - expected).norm() < 3 * BOUNDS[dtype] * expected.norm()


def test_flat_images_have_no_variance(dtype, compiled):
    norm = InstanceNorm(16)
    x = torch.full((2, 16, 40, 40), 1000.0, dtype=dtype)
    y = norm(x.contiguous(memory_format=torch.channels_last))
    compiled_here = compiled and fused._is_fast_for(x)  # bfloat16 is not on every CPU
    assert y.abs().max() <= (0 if compiled_here else 0.05)


@pytest.mark.parametrize("norm", [InstanceNorm, nn.BatchNorm2d])
def test_normalize_is_norm_relu_and_sum(norm, compiled):
    norm, x = norm(16).eval(), images((2, 16, 9, 9), torch.float32)
    torch.testing.assert_close(normalize(norm, x, relu=True), F.relu(norm(x)))
    torch.testing.assert_close(normalize(norm, x, shortcut=x), norm(x) + x)


def enlarged(x, enlarge, margin=0):
    """Written out, without bounds: bilinear is to the nearest, smoothed by ¼, ½, ¼."""
    if not enlarge:
        return F.pad(x, (margin,) * 4, mode="reflect") if margin else x
    if enlarge == "nearest":
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return F.pad(x, (margin,) * 4, mode="reflect") if margin else x

    def smoothed(x):
        x = (x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 4
        return (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4

    height, width = x.shape[-2:]
    x = smoothed(F.pad(x, (10,) * 4, mode="replicate"))  # 9 pixels are left
    x = smoothed(x.repeat_interleave(2, 2).repeat_interleave(2, 3))  # 17 are left
    begin = 17 - margin
    return x[..., begin : 17 + 2 * height + margin, begin : 17 + 2 * width + margin]


SMALL = [(1, 16, 1, 1), (2, 16, 1, 6), (1, 16, 2, 1)]
ENLARGINGS = [
    (shape, enlarge, margin)
    for shape in [*SHAPES, *SMALL]
    for enlarge, margins in ((None, (0, 1, 4)), ("nearest", (0, 1, 4)), ("smooth", (0, 1, 2)))
    for margin in margins
    if enlarge == "smooth" or margin < min(shape[2:]) * (2 if enlarge else 1)  # to be reflected
]


@pytest.mark.parametrize(("shape", "enlarge", "margin"), ENLARGINGS)
def test_enlarging_and_padding(shape, enlarge, margin, dtype, compiled):
    x = images(shape, dtype)
    y = enlarge_and_pad(x, margin, enlarge)
    exact_x = x.detach().double().requires_grad_()
    exact = enlarged(exact_x, enlarge, margin)
    bound = BOUNDS[dtype] * exact.norm() if enlarge == "smooth" else 0
    assert (y.double() - exact).norm() <= bound
    slope = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, slope)
    (exact_gradient,) = torch.autograd.grad(exact, exact_x, slope.double())
    assert (gradient.double() - exact_gradient).norm() < BOUNDS[dtype] * exact_gradient.norm()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 32, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 32, 3, padding=0, padding_mode="reflect"),
        nn.Conv2d(16, 32, 3, padding=3, padding_mode="reflect", dilation=3),
        nn.Conv2d(16, 32, 3, padding=0, padding_mode="reflect", dilation=4),
        nn.Conv2d(8, 4, 3, padding=2, padding_mode="reflect", dilation=2),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 3, 9, padding=4, padding_mode="reflect"),
        nn.Conv2d(16, 32, 3, padding=1),
    ],
    ids=[
        "reflects",
        "unpadded",
        "dilated",
        "dilated, unpadded",
        "dilated, few",
        "stride",
        "to_rgb",
        "zeros",
    ],
)
@pytest.mark.parametrize("low", [True, False], ids=["autocast", "float32"])
def test_convolution_and_its_gradients(conv, low, compiled):
    x = images((2, conv.in_channels, 12, 19), torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        y = convolve(conv, x)
    exact_conv, exact_x = copy.deepcopy(conv).double(), x.detach().double().requires_grad_()
    exact = exact_conv(exact_x)
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    of, exact_of = [x, *conv.parameters()], [exact_x, *exact_conv.parameters()]
    gradients = torch.autograd.grad(y, of, slope.to(y.dtype))
    exact_gradients = torch.autograd.grad(exact, exact_of, slope.double())
    for found, expected in zip((y, *gradients), (exact, *exact_gradients), strict=True):
        assert (found.double() - expected).norm() < (0.03 if low else 1e-5) * expected.norm()
