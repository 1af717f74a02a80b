"""The style image at its working size, and what cannot be one."""

import numpy as np
import pytest
import torch
from PIL import Image

from allaprima.errors import InputError
from allaprima.images import read_picture, resize_short_side
from allaprima.styles import blur, list_styles, read_style, read_styles


@pytest.fixture
def painting(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "painting.png")
    return tmp_path / "painting.png"


def test_as_it_is(painting):
    style = read_style(str(painting), None)
    assert style.shape == (3, 120, 160)
    assert torch.equal(style, torch.from_numpy(read_picture(painting).rgb).permute(2, 0, 1))


def test_scaled_by_the_one_resize(painting):
    style = read_style(str(painting), 90)
    assert style.shape == (3, 90, 120)
    expected = resize_short_side(read_picture(painting).rgb, 90)
    assert torch.equal(style, torch.from_numpy(expected).permute(2, 0, 1))


def test_no_image_lists_the_styles():
    with pytest.raises(InputError, match=r"starry_night.*style\.image="):
        read_style(None, None)
    assert {"starry_night", "the_scream", "custom"} <= set(list_styles())


def test_too_small_is_told_with_its_size(painting):
    with pytest.raises(InputError, match="40 px"):
        read_style(str(painting), 40)


def test_one_style_or_several(painting):
    one = read_style(str(painting), 90)
    for images, num in ((str(painting), 1), ([str(painting)] * 3, 3)):
        styles = read_styles(images, 90)
        assert len(styles) == num
        assert all(torch.equal(style, one) for style in styles)
    for images in (None, []):
        with pytest.raises(InputError, match=r"style\.image="):
            read_styles(images, 90)


def test_a_blur_takes_fine_grain_away_and_keeps_colours(painting):
    sharp, soft = read_style(str(painting), 90), read_style(str(painting), 90, 1.5)
    assert soft.shape == sharp.shape
    torch.testing.assert_close(soft.mean((1, 2)), sharp.mean((1, 2)), atol=0.02, rtol=0)
    assert soft.diff(dim=2).square().mean() < sharp.diff(dim=2).square().mean() / 2


def test_a_blur_by_hand():
    point = np.zeros((21, 31, 3), np.float32)
    point[10, 15] = 1
    y, x = np.mgrid[-10:11, -15:16]
    gauss = np.exp(-(x * x + y * y) / (2 * 1.2**2))
    np.testing.assert_allclose(blur(point, 1.2)[..., 0], gauss / gauss.sum(), atol=1e-5)


@pytest.mark.parametrize("blur_px", [-1.0, 40.0])
def test_a_blur_that_is_none(painting, blur_px):
    with pytest.raises(InputError, match=r"style\.blur_px"):
        read_style(str(painting), 90, blur_px)
