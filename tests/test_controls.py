"""What may be chosen after training, with a generator that is a formula."""

import numpy as np
import pytest
from PIL import Image

from allaprima.blending import blend
from allaprima.colors import luminance
from allaprima.controls import Controls, read_mask
from allaprima.errors import InputError
from allaprima.images import Picture, resize, to_uint8

sizes = []


def negative(rgb):
    """A generator that notes what size it is given."""
    sizes.append(rgb.shape[:2])
    assert rgb.dtype == np.float32
    return 1 - rgb


@pytest.fixture(autouse=True)
def _no_sizes():
    sizes.clear()


@pytest.fixture
def photo():
    """Smooth, so that scaling loses little."""
    y, x = np.mgrid[0:60, 0:90].astype(np.float32)
    return np.dstack([x / 90, y / 60, (x + y) / 150]).astype(np.float32)


def paint(photo, alpha=None, **controls):
    return Controls(**controls).paint(Picture(photo, alpha), negative)


def test_by_default_the_generators_painting_is_the_result(photo):
    painted = paint(photo)
    assert np.array_equal(painted.rgb, 1 - photo)
    assert painted.alpha is None


@pytest.mark.parametrize(("size_px", "given"), [(45, (30, 45)), (31, (21, 31)), (180, (120, 180))])
def test_the_working_size_is_not_the_results(photo, size_px, given):
    alpha = np.random.rand(60, 90).astype(np.float32)
    painted = paint(photo, alpha, size_px=size_px)
    assert sizes == [given]
    assert painted.rgb.shape == (60, 90, 3)
    assert np.array_equal(painted.alpha, alpha)
    np.testing.assert_allclose(painted.rgb, 1 - photo, atol=0.03)


@pytest.mark.parametrize(("output_size_px", "height"), [(45, 30), (180, 120), (1, 1)])
def test_the_results_size_is_not_the_working_one(photo, output_size_px, height):
    alpha = np.ones((60, 90), np.float32)
    painted = paint(photo, alpha, output_size_px=output_size_px, strength=0.5)
    assert sizes == [(60, 90)]
    assert painted.rgb.shape == (height, output_size_px, 3)
    assert painted.alpha.shape == (height, output_size_px)
    assert (painted.alpha == 1).all()


def test_upright_photos_have_their_long_side_too(photo):
    painted = paint(photo.swapaxes(0, 1), size_px=45, output_size_px=30)
    assert sizes == [(45, 30)]
    assert painted.rgb.shape == (30, 20, 3)


def test_the_painting_stays_in_range_where_lanczos_overshoots():
    edges = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8)))
    rgb = np.repeat(edges[..., None], 3, 2).astype(np.float32)
    painted = paint(rgb, size_px=32).rgb
    assert (painted.min(), painted.max()) == (0, 1)


def test_strength_is_a_share_of_the_painting(photo):
    assert np.array_equal(paint(photo, strength=0.0).rgb, photo)
    expected = blend(photo, 1 - photo, 0.25)
    assert np.array_equal(paint(photo, strength=0.25).rgb, expected)
    assert np.array_equal(paint(photo, strength=1.0).rgb, 1 - photo)


def test_the_photos_colours_stay_and_luminance_is_painted(photo):
    photo = 0.4 + 0.2 * photo  # so that nothing leaves the range
    painted = paint(photo, colors="photo").rgb
    np.testing.assert_allclose(luminance(painted), luminance(1 - photo), atol=1e-5)
    chroma = photo - luminance(photo)[..., None]
    np.testing.assert_allclose(painted - luminance(painted)[..., None], chroma, atol=1e-5)


def test_matched_colours_have_the_photos_mean_and_covariance(photo):
    photo = 0.4 + 0.2 * photo
    painted = paint(photo, colors="matched").rgb.reshape(-1, 3)
    assert np.abs(painted - photo.reshape(-1, 3)).max() > 0.05
    np.testing.assert_allclose(painted.mean(0), photo.reshape(-1, 3).mean(0), atol=1e-4)
    np.testing.assert_allclose(np.cov(painted.T), np.cov(photo.reshape(-1, 3).T), atol=1e-4)


def test_a_mask_says_where_and_how_much(photo):
    mask = np.zeros((60, 90), np.float32)
    mask[:, 30:60], mask[:, 60:] = 0.5, 1
    painted = paint(photo, mask=mask).rgb
    assert np.array_equal(painted[:, :30], photo[:, :30])
    assert np.array_equal(painted[:, 60:], 1 - photo[:, 60:])
    half = blend(photo, 1 - photo, 0.5)
    assert np.array_equal(painted[:, 30:60], half[:, 30:60])
    weaker = paint(photo, mask=mask, strength=0.5).rgb
    assert np.array_equal(weaker[:, 60:], half[:, 60:])


@pytest.mark.parametrize("shape", [(30, 45), (20, 30), (601, 900), (7, 10)])
def test_a_mask_of_the_same_proportions_is_scaled_with_soft_edges(photo, shape):
    mask = np.zeros(shape, np.float32)
    mask[:, shape[1] // 2 :] = 1
    painted = paint(photo, mask=mask).rgb
    expected = blend(photo, 1 - photo, resize(mask, 60, 90))
    assert np.array_equal(painted, expected)
    assert np.array_equal(painted[:, :30], photo[:, :30])
    assert np.array_equal(painted[:, 60:], 1 - photo[:, 60:])


@pytest.mark.parametrize("shape", [(60, 60), (90, 60), (60, 80), (600, 850)])
def test_a_mask_of_other_proportions_is_refused_before_painting(photo, shape):
    with pytest.raises(InputError, match=rf"mask's {shape[1]} × {shape[0]} px .* 90 × 60 px"):
        paint(photo, mask=np.zeros(shape, np.float32))
    assert sizes == []


def test_masks_are_read_from_pictures(tmp_path):
    grey = np.array([[0, 51, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_allclose(read_mask(tmp_path / "grey.png"), [[0, 0.2, 1]], atol=1e-6)
    rgba = np.full((1, 3, 4), 255, np.uint8)
    rgba[..., 3] = grey
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    np.testing.assert_allclose(read_mask(tmp_path / "alpha.png"), [[0, 0.2, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("controls", "problem"),
    [
        ({"size_px": 0}, "--size 0 must be from 1"),
        ({"output_size_px": 65536}, "--output-size 65536 must be from 1 to 65535 px"),
        ({"strength": 1.1}, r"--strength 1\.1 must be from 0"),
        ({"strength": float("nan")}, "--strength nan must be from 0"),
        ({"colors": "mine"}, "--colors mine; choose one of style, photo, matched"),
    ],
)
def test_values_out_of_range_are_named(controls, problem):
    with pytest.raises(InputError, match=problem):
        Controls(**controls)


def test_photos_of_bytes_are_painted_like_photos_of_fractions(photo):
    pixels, alpha = to_uint8(photo), to_uint8(photo[..., 0])
    for options in ({}, {"size_px": 45}, {"colors": "photo", "strength": 0.5, "size_px": 45}):
        painted = Controls(**options).paint(Picture(pixels, alpha), negative)
        expected = paint(pixels / np.float32(255), **options)
        assert painted.rgb.dtype == np.float32
        np.testing.assert_allclose(painted.rgb, expected.rgb, atol=1.2 / 255)
        assert np.array_equal(painted.alpha, alpha)


def test_the_photo_is_left_alone(photo):
    before = photo.copy()
    photo.flags.writeable = False
    mask = np.full((60, 90), 0.5, np.float32)
    paint(photo, size_px=30, strength=0.5, colors="photo", mask=mask)
    assert np.array_equal(photo, before)
