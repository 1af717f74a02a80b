import numpy as np
import pytest

from allaprima.colors import (
    MatchedColors,
    PhotoColors,
    StyleColors,
    luminance,
    match_colors,
    match_luminance,
    to_grey,
    transfer_luminance,
)


def colored(seed: int, mean: tuple[float, ...], shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    """Correlated colours around a mean, none near 0 or 1."""
    rng = np.random.default_rng(seed)
    mix = 0.03 * rng.standard_normal((3, 3))
    noise = rng.standard_normal((*shape, 3)).clip(-2, 2)
    return (np.array(mean) + noise @ mix).astype(np.float32)


STYLE, PHOTO = colored(0, (0.4, 0.5, 0.6)), colored(1, (0.6, 0.5, 0.4), (17, 23))


def test_matched_colors_have_the_photos_mean_and_covariance():
    matched = match_colors(STYLE, PHOTO)
    assert matched.shape == STYLE.shape
    assert matched.dtype == np.float32
    ours, photos = (x.reshape(-1, 3).astype(np.float64) for x in (matched, PHOTO))
    np.testing.assert_allclose(ours.mean(0), photos.mean(0), atol=1e-5)
    np.testing.assert_allclose(np.cov(ours.T, bias=True), np.cov(photos.T, bias=True), atol=1e-6)


def test_a_photo_that_matches_itself_stays():
    np.testing.assert_allclose(match_colors(PHOTO, PHOTO), PHOTO, atol=1e-5)


@pytest.mark.parametrize("flat", ["style", "photo", "both", "grey style"])
def test_images_without_spread_give_finite_colors(flat):
    style, photo = STYLE, PHOTO
    if "style" in flat or flat == "both":
        style = to_grey(STYLE) if "grey" in flat else np.full_like(STYLE, 0.25)
    if flat in ("photo", "both"):
        photo = np.full_like(PHOTO, 0.75)
    for matched in (match_colors(style, photo), match_luminance(style, photo)):
        assert np.isfinite(matched).all()
        expected = luminance(photo).mean()
        np.testing.assert_allclose(luminance(matched).mean(), expected, atol=0.01)


def test_luminance_by_hand():
    rgb = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]]], np.float32)
    np.testing.assert_allclose(luminance(rgb), [[0.299, 0.587, 0.114, 0.5]], atol=1e-6)


def test_matched_luminance_has_the_photos_mean_and_deviation():
    matched = match_luminance(STYLE, PHOTO)
    assert np.ptp(matched, axis=-1).max() == 0
    assert matched.mean() == pytest.approx(luminance(PHOTO).mean(), abs=1e-4)
    assert matched[..., 0].std() == pytest.approx(luminance(PHOTO).std(), abs=1e-4)


def test_transferred_luminance_keeps_the_chroma():
    painted = colored(2, (0.5, 0.5, 0.5), PHOTO.shape[:2])
    result = transfer_luminance(painted, PHOTO)
    np.testing.assert_allclose(luminance(result), luminance(painted), atol=1e-5)
    chroma = [x - luminance(x)[..., None] for x in (result, PHOTO)]
    np.testing.assert_allclose(*chroma, atol=1e-5)


def test_modes():
    painted = colored(3, (0.4, 0.6, 0.5), PHOTO.shape[:2])
    for mode in (StyleColors(), MatchedColors()):
        assert mode.of_photo(PHOTO) is PHOTO
        assert mode.of_result(painted, PHOTO) is painted
    assert StyleColors().of_style(STYLE, PHOTO) is STYLE
    assert np.array_equal(MatchedColors().of_style(STYLE, PHOTO), match_colors(STYLE, PHOTO))
    own = PhotoColors()
    assert np.array_equal(own.of_photo(PHOTO), to_grey(PHOTO))
    assert np.array_equal(own.of_style(STYLE, PHOTO), match_luminance(STYLE, PHOTO))
    assert np.array_equal(own.of_result(painted, PHOTO), transfer_luminance(painted, PHOTO))
