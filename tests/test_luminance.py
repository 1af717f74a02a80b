"""Luminance by hand, and that recolouring keeps it."""

import pytest
import torch

from allaprima.luminance import luminance, with_luminance


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [((1, 0, 0), 0.299), ((0, 1, 0), 0.587), ((0, 0, 1), 0.114), ((0.2, 0.4, 0.6), 0.363)],
)
def test_luminance_by_hand(rgb, expected):
    image = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1)
    assert luminance(image).item() == pytest.approx(expected)


def test_grey_is_left_as_it_is():
    grey = torch.rand(2, 1, 8, 9).expand(-1, 3, -1, -1)
    assert torch.equal(luminance(grey).expand_as(grey), grey)


def test_recolouring_keeps_luminance_in_gamut_and_hue():
    colours, target = torch.rand(4, 3, 32, 32), torch.rand(4, 1, 32, 32)
    painted = with_luminance(colours, target)
    assert painted.min() >= 0
    assert painted.max() <= 1
    torch.testing.assert_close(luminance(painted), target, rtol=0, atol=1e-6)
    before, after = colours - luminance(colours), painted - luminance(painted)
    ratio = (before * after).sum(1) / before.square().sum(1)  # the chroma is scaled, not turned
    assert (ratio <= 1 + 1e-4).all()
    torch.testing.assert_close(after, ratio[:, None] * before, rtol=0, atol=1e-5)


def test_a_colour_that_fits_is_only_shifted():
    colour = torch.tensor([0.3, 0.5, 0.4]).view(1, 3, 1, 1)
    target = luminance(colour) + 0.1
    torch.testing.assert_close(with_luminance(colour, target), colour + 0.1)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_gradients_are_finite_at_grey_black_and_white(value):
    colours = torch.cat([torch.full((1, 3, 4, 4), 0.5), torch.rand(1, 3, 4, 4)]).requires_grad_()
    with_luminance(colours, torch.full((2, 1, 4, 4), value)).square().sum().backward()
    assert colours.grad.isfinite().all()
