"""The compiled Gram matrix; what it is in general is tested with the losses."""

import pytest
import torch

from allaprima import gram
from allaprima.gram import gram_matrix

SHAPES = [(4, 64, 20, 30), (1, 48, 33, 31), (3, 16, 1, 7), (2, 272, 9, 5), (1, 32, 40, 25)]


@pytest.fixture(params=SHAPES)
def features(request):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(request.param, generator=generator).relu().bfloat16()
    features = features.contiguous(memory_format=torch.channels_last).requires_grad_()
    if not gram._is_native(features):
        pytest.skip("no compiler here, or a CPU without products of bfloat16")
    return features


@pytest.mark.parametrize("threads", [1, 2])
def test_bfloat16_products_have_float32_sums(features, threads):
    exact_features = features.detach().double().requires_grad_()
    exact = gram_matrix(exact_features)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = gram_matrix(features)
        slope = torch.linspace(-1, 1, found.numel()).view_as(found)
        (gradient,) = torch.autograd.grad(found, features, slope)
    finally:
        torch.set_num_threads(before)
    (exact_gradient,) = torch.autograd.grad(exact, exact_features, slope.double())
    assert found.dtype == torch.float32
    assert torch.equal(found, found.mT)
    assert (found.double() - exact).norm() < 1e-6 * exact.norm()
    assert (gradient.double() - exact_gradient).norm() < 5e-3 * exact_gradient.norm()


def test_without_compiled_code(features, monkeypatch):
    compiled = gram_matrix(features.detach())
    monkeypatch.setattr(gram, "load_library", lambda name: None)
    torch.testing.assert_close(gram_matrix(features.detach()), compiled)
