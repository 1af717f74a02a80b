"""The compiled Gram matrix; what it is in general is tested with the losses."""

import pytest
import torch

from allaprima import gram
from allaprima.errors import InputError
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_border_is_left_out_of_values_and_gradients(dtype):
    features = torch.rand(2, 32, 9, 12).to(dtype).requires_grad_()
    found = gram_matrix(features, "hw", border=2)
    inside = features[..., 2:-2, 2:-2]
    torch.testing.assert_close(found, gram_matrix(inside, "hw"))
    (gradient,) = torch.autograd.grad(found.square().sum(), features)
    (expected,) = torch.autograd.grad(gram_matrix(inside, "hw").square().sum(), features)
    torch.testing.assert_close(gradient, expected)
    assert gradient[..., 2:-2, 2:-2].count_nonzero() == gradient.count_nonzero() > 0


@pytest.mark.parametrize("size", [(6, 8), (7, 9)])  # of which pooling drops a row and a column
def test_the_border_of_a_pair_lies_under_that_of_its_deeper_layer(size):
    deep, shallow = torch.rand(1, 4, 3, 4), torch.rand(1, 5, *size)
    found = gram_matrix(deep, "hw", other=shallow, border=1)
    expected = gram_matrix(deep[..., 1:-1, 1:-1], "hw", other=shallow[..., 2:-2, 2:-2])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("side", "left"), [(1, 1), (2, 2), (4, 2), (5, 1), (6, 2)])
def test_a_border_leaves_the_middle(side, left):
    features = torch.ones(1, 2, side, 20)
    assert gram_matrix(features, "one", border=2)[0, 0, 0] == left * 16


@pytest.mark.parametrize("border", [-1, 0.5, True])
def test_a_border_that_is_no_number_of_rows(border):
    with pytest.raises(InputError, match="border"):
        gram_matrix(torch.ones(1, 2, 8, 8), border=border)
