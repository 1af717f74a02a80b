import copy

import pytest
import torch
from torch import nn

from allaprima.muon import Muon, orthogonalize


def matrix(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 243), (64, 576), (64, 200), (96, 20)])
def test_orthogonalizing_keeps_directions_and_evens_their_size(shape):
    """Of U S Vᵀ it leaves U T Vᵀ, all of T near 1."""
    given = matrix(*shape)
    u, _, vh = torch.linalg.svd(given, full_matrices=False)
    found = u.T @ orthogonalize(given) @ vh.T
    assert 0.6 < found.diagonal().min() < found.diagonal().max() < 1.25
    assert (found - torch.diag(found.diagonal())).abs().max() < 0.01


def test_a_gradient_of_zero_moves_nothing():
    weight = nn.Parameter(matrix(8, 4, 3, 3))
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=0.1).step()
    assert torch.equal(weight, before)


def test_a_kernels_first_step_is_its_gradient_orthogonalized_in_the_size_of_adams():
    weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
    weight.grad = matrix(8, 4, 3, 3)
    Muon([weight], lr=0.1).step()
    expected = -0.1 * 0.2 * 36**0.5 * orthogonalize(weight.grad.flatten(1))
    torch.testing.assert_close(weight.detach().flatten(1), expected)
    assert 0.1 < weight.square().mean().sqrt() / (0.1 * 0.2**0.5) < 1  # Adam's: 0.2 to 0.4 lr


def test_the_size_of_gradients_does_not_matter():
    small, large = (nn.Parameter(torch.zeros(8, 4, 3, 3)) for _ in range(2))
    optimizers = Muon([small], lr=0.1), Muon([large], lr=0.1)
    for step in range(5):
        small.grad = matrix(8, 4, 3, 3, seed=step)
        large.grad = 1e4 * small.grad
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(small, large)


@pytest.mark.parametrize("shape", [(16,), (3, 16, 9, 9)])
def test_norms_biases_and_the_layer_to_colours_get_adam(shape):
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    optimizers = Muon([ours], lr=0.01), torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99))
    for step in range(5):
        ours.grad = theirs.grad = matrix(*shape, seed=step)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_going_on_from_a_saved_state_is_going_on():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True))
    photo = matrix(1, 3, 9, 9)
    optimizer = Muon(model.parameters(), lr=0.01)

    def steps(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(photo).square().mul(torch.arange(8.0).view(8, 1, 1)).sum().backward()
            optimizer.step()

    steps(model, optimizer)
    other = copy.deepcopy(model)
    resumed = Muon(other.parameters(), lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(model, optimizer)
    steps(other, resumed)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
