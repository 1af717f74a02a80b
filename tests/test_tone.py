"""Tones, against answers known by hand, NumPy's correlation and every other order."""

from itertools import permutations

import numpy as np
import pytest
import torch

from allaprima.luminance import luminance
from allaprima.tone import tone_error, tones


def grey_cells(*greys: float, size: int = 16) -> torch.Tensor:
    """A row of square cells, each of one grey: (1, 3, size, n·size)."""
    row = torch.tensor(greys).repeat_interleave(size)
    return row.expand(1, 3, size, len(row))


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    return tone_error(tones(one), tones(other)).item()


def test_tones_are_deviations_from_the_mean_by_theirs():
    expected = torch.tensor([[-0.3, 0.3]]) / (0.3**2 + 0.03**2) ** 0.5
    torch.testing.assert_close(tones(grey_cells(0.2, 0.8)), expected)


def test_what_the_photo_has_costs_nothing_and_its_negative_most():
    photo = grey_cells(0.1, 0.9, 0.4, 0.6)
    assert error(photo, photo) == pytest.approx(0, abs=0.02)
    assert error(1 - photo, photo) == pytest.approx(2, abs=0.02)


def test_brightness_and_contrast_are_left_open():
    photo, other = grey_cells(0.1, 0.9, 0.4, 0.6), grey_cells(0.2, 0.8, 0.4, 0.7)
    assert error(0.5 + 0.5 * other, photo) == pytest.approx(error(other, photo), abs=0.03)


def test_the_error_is_one_less_the_correlation_of_the_cells():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 3, 4, 5, generator=generator).round()
    large = [
        cells[None].repeat_interleave(16, 2).repeat_interleave(16, 3) for cells in (one, other)
    ]
    cells = [luminance(each[None]).flatten().numpy() for each in (one, other)]
    expected = 1 - np.corrcoef(*cells)[0, 1]
    assert error(*large) == pytest.approx(expected, abs=0.02)


def test_of_all_places_for_given_colours_those_in_the_photo_s_order_cost_least():
    greys = (0.1, 0.3, 0.35, 0.8, 0.95)
    photo = grey_cells(0.7, 0.2, 0.9, 0.1, 0.5)
    errors = {order: error(grey_cells(*order), photo) for order in permutations(greys)}
    assert min(errors, key=errors.__getitem__) == (0.8, 0.3, 0.95, 0.1, 0.35)


def test_what_is_within_a_cell_does_not_matter():
    photo = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    cells = photo.unflatten(2, (4, 16)).unflatten(4, (3, 16))
    turned = cells.flip(3, 5).flatten(4).flatten(2, 3)
    assert not torch.equal(turned, photo)
    torch.testing.assert_close(tones(turned), tones(photo), atol=1e-4, rtol=1e-4)


def test_a_flat_photo_asks_for_nothing():
    painting = torch.rand(1, 3, 32, 32, requires_grad=True)
    found = tone_error(tones(painting), tones(grey_cells(0.5, 0.5, size=32)[..., :32]))
    assert found.item() == pytest.approx(1)
    found.sum().backward()
    assert painting.grad is not None
    torch.testing.assert_close(painting.grad, torch.zeros_like(painting))


def test_a_flat_painting_has_a_gradient_that_is_finite():
    painting = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    tone_error(tones(painting), tones(torch.rand(1, 3, 32, 32))).sum().backward()
    assert painting.grad is not None
    assert painting.grad.isfinite().all()
    assert painting.grad.abs().max() > 0


def test_every_picture_of_a_batch_counts_for_itself():
    one, other = grey_cells(0.1, 0.9, 0.4), grey_cells(0.7, 0.2, 0.3)
    together = tone_error(tones(torch.cat([one, other])), tones(torch.cat([other, other])))
    apart = torch.tensor([error(one, other), error(other, other)])
    torch.testing.assert_close(together, apart)


def test_pictures_smaller_than_a_cell_and_in_half_precision():
    photo = torch.rand(1, 3, 9, 20, generator=torch.Generator().manual_seed(2))
    assert tones(photo).shape == (1, 2)
    assert tones(photo.bfloat16()).dtype == torch.float32
    assert tones(photo.double()).dtype == torch.float64
