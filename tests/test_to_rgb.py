import pytest
import torch
import torch.nn.functional as F

from allaprima.to_rgb import convolve_to_rgb, is_fast_for


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def dtype(request):
    return request.param


@pytest.fixture(params=[(2, 16, 25, 30), (1, 20, 17, 17), (1, 48, 40, 12), (1, 32, 9, 9)])
def layer(request, dtype):
    batch, channels, height, width = request.param
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, height, width, generator=generator).to(dtype)
    weight = torch.randn(3, channels, 9, 9, generator=generator) / (81 * channels) ** 0.5
    bias = torch.randn(3, generator=generator)
    if not is_fast_for(x, weight, dtype):
        pytest.skip("no compiler here, or a CPU without products of bfloat16")
    x = x.contiguous(memory_format=torch.channels_last)
    return tuple(tensor.requires_grad_() for tensor in (x, weight, bias))


def test_agrees_with_float64(layer, dtype):
    """Of bfloat16, weights and gradients are rounded to 8 bits; sums are float32."""
    bound = 5e-3 if dtype == torch.bfloat16 else 1e-5
    exact_layer = tuple(tensor.detach().double().requires_grad_() for tensor in layer)
    y, exact = convolve_to_rgb(*layer), F.conv2d(*exact_layer)
    assert y.dtype == torch.float32
    slope = torch.linspace(-1, 1, y.numel()).view_as(y)
    gradients = torch.autograd.grad(y, layer, slope)
    exact_gradients = torch.autograd.grad(exact, exact_layer, slope.double())
    for found, expected in zip((y, *gradients), (exact, *exact_gradients), strict=True):
        assert (found.double() - expected).norm() < bound * expected.norm()


def test_the_last_pixel_reads_nothing_beyond_the_image(layer):
    """Numbers behind the image must not matter: it is cut out of a larger one full of NaN."""
    x, weight, bias = (tensor.detach() for tensor in layer)
    storage = torch.full((x.numel() + 1000,), torch.nan, dtype=x.dtype)
    inside = storage[: x.numel()].view(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
    inside.copy_(x)
    assert torch.equal(convolve_to_rgb(inside, weight, bias), convolve_to_rgb(x, weight, bias))


@pytest.mark.parametrize("case", ["float64", "four_outputs", "another_kernel"])
def test_what_it_is_not_for(case):
    dtype = torch.float64 if case == "float64" else torch.float32
    size = {"four_outputs": (4, 16, 9, 9), "another_kernel": (3, 16, 7, 7)}.get(case, (3, 16, 9, 9))
    assert not is_fast_for(torch.zeros(1, 16, 20, 20, dtype=dtype), torch.zeros(size), dtype)
