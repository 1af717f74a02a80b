"""A painting blended into a photo: exact at the ends, even between them."""

import numpy as np
import pytest

from allaprima.blending import blend


def colours(*rgb):
    return np.array([rgb], np.float32)


def test_the_ends_are_exact():
    photo, painted = (np.random.rand(70, 9, 3).astype(np.float32) for _ in range(2))
    assert np.array_equal(blend(photo, painted, 0), photo)
    assert np.array_equal(blend(photo, painted, 1), painted)
    share = np.zeros((70, 9), np.float32)
    share[40:, 3:] = 1
    expected = np.where(share[..., None] == 1, painted, photo)
    assert np.array_equal(blend(photo, painted, share), expected)


def test_a_picture_blended_with_itself_stays():
    photo = np.random.rand(40, 30, 3).astype(np.float32)
    np.testing.assert_allclose(blend(photo, photo, 0.3), photo, atol=1e-5)


def test_greys_stay_grey_and_their_lightness_is_in_proportion():
    """Oklab's lightness of a grey is the cube root of its linear light."""
    black, white = colours((0, 0, 0)), colours((1, 1, 1))
    for share in (0.2, 0.5, 0.9):
        [[grey]] = blend(black, white, share)
        assert np.ptp(grey) < 1e-4
        linear = ((grey[0] + 0.055) / 1.055) ** 2.4 if grey[0] > 0.04045 else grey[0] / 12.92
        assert linear == pytest.approx(share**3, abs=1e-4)


def test_half_way_is_half_way_in_oklab():
    """Between two colours, by Oklab's matrices as published (Ottosson 2020)."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
    ]
    to_lms = np.array([*to_lms, [0.0883024619, 0.2817188376, 0.6299787005]])
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
    ]
    to_lab = np.array([*to_lab, [0.0259040371, 0.7827717662, -0.8086757660]])

    def lab(rgb):
        linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
        return to_lab @ np.cbrt(to_lms @ linear)

    blue, sand = colours((0.2, 0.3, 0.8)), colours((0.9, 0.8, 0.6))
    [[mixed]] = blend(blue, sand, 0.5)
    np.testing.assert_allclose(lab(mixed), (lab(blue[0, 0]) + lab(sand[0, 0])) / 2, atol=1e-5)


def test_complementary_colours_do_not_pass_through_dark_grey():
    """Half red, half cyan: lighter than the middle grey that a blend of sRGB values gives."""
    [[mixed]] = blend(colours((1, 0, 0)), colours((0, 1, 1)), 0.5)
    assert mixed.mean() > 0.55
    assert mixed.min() >= 0
    assert mixed.max() <= 1
