"""Palettes, against answers known by hand and one-dimensional optimal transport."""

import numpy as np
import pytest
import torch

from allaprima.palette import NUM_QUANTILES, _directions, palette, palette_error, palette_power


def flat(*rgb: float, size: int = 32) -> torch.Tensor:
    return torch.tensor(rgb).view(1, 3, 1, 1).expand(1, 3, size, size)


def random_cells(seed: int, height: int = 32, width: int = 32) -> torch.Tensor:
    """Cells of 4 px, each of one colour; (1, 3, 4·height, 4·width)."""
    cells = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return cells.repeat_interleave(4, 2).repeat_interleave(4, 3)


def test_flat_pictures_are_about_as_far_apart_as_their_colours():
    for one, other in (
        ((1, 0, 0), (0, 0, 1)),
        ((0.2, 0.5, 0.9), (0.4, 0.4, 0.1)),
        ((0, 0, 0), (1, 1, 1)),
    ):
        distance = sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
        error = palette_error(palette(flat(*one)), palette(flat(*other)))
        torch.testing.assert_close(error, torch.tensor([float(distance)]), rtol=0.05, atol=0)


def test_directions_are_unit_vectors_and_favour_no_channel():
    directions = _directions()
    torch.testing.assert_close(directions.square().sum(0), torch.ones(32))
    second = directions @ directions.T / 32
    torch.testing.assert_close(second, torch.eye(3) / 3, atol=0.01, rtol=0)


def test_where_the_colours_are_does_not_matter():
    images = random_cells(0)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    moved = images.unflatten(2, (32, 4))[:, :, order].flatten(2, 3).mT.contiguous()
    torch.testing.assert_close(palette(moved), palette(images))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (30, 35)])
def test_the_error_is_that_of_the_best_transport_along_each_direction(height, width):
    """Of equally many colours, the cheapest transport takes them in order."""
    one, other = random_cells(2, height, width), random_cells(3, height, width).square()
    costs = []
    for direction in _directions().T.double().numpy():
        along = [
            np.sort(np.tensordot(direction, image[0, :, ::4, ::4].double().numpy(), 1).ravel())
            for image in (one, other)
        ]
        costs.append(np.mean((along[0] - along[1]) ** 2))
    error = palette_error(palette(one), palette(other))
    assert error.item() == pytest.approx(3 * np.mean(costs), rel=1e-5 if height == 32 else 0.01)


def test_pictures_of_any_sizes_share_a_palette():
    small = random_cells(4)
    tiled = small.tile(1, 1, 2, 3)
    torch.testing.assert_close(palette(tiled), palette(small))
    assert palette(small[..., :4, :4]).shape == (1, NUM_QUANTILES, 32)


def test_the_power_is_the_variance_of_the_colours():
    images = torch.cat([random_cells(5), flat(0.2, 0.4, 0.6, size=128)])
    cells = images[..., ::4, ::4].flatten(2)
    expected = cells.var(2, correction=0).sum(1)
    torch.testing.assert_close(palette_power(palette(images)), expected, rtol=0.05, atol=1e-9)


def test_the_palette_between_two_flat_paintings_is_the_colour_between():
    between = 0.25 * palette(flat(1, 0, 0)) + 0.75 * palette(flat(0, 0, 1))
    torch.testing.assert_close(between, palette(flat(0.25, 0, 0.75)))


def test_autocast_does_not_round_it():
    images = random_cells(6)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = palette(images)
    assert torch.equal(under_autocast, palette(images))


def test_descending_it_gives_a_picture_the_colours_of_another():
    images = random_cells(7).requires_grad_()
    target = palette(random_cells(8).square())
    optimizer = torch.optim.Adam([images], lr=0.02)
    errors = []
    for _ in range(60):
        optimizer.zero_grad()
        error = palette_error(palette(images), target).sum()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 100
