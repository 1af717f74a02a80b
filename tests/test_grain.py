"""Grain in the flat parts of a photo, and nowhere else."""

import numpy as np
import pytest

from allaprima.grain import CELL_PX, PERIOD_PX, add_grain


def lively(height=64, width=96):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_photo_that_is_nowhere_flat_is_itself():
    for photo in (lively(), lively() / np.float32(255)):
        assert add_grain(photo, 4) is photo


def test_no_grain_leaves_a_flat_photo_itself():
    photo = np.full((40, 40, 3), 200, np.uint8)
    assert add_grain(photo, 0) is photo


def test_flat_cells_alone_are_changed_and_the_given_photo_is_not():
    photo = lively()
    photo[16:32, 32:80] = (200, 90, 30)
    given = photo.copy()
    changed = (add_grain(photo, 4) != photo).any(2)
    assert (photo == given).all()
    assert changed[16:32, 32:80].mean() > 0.5
    changed[16:32, 32:80] = False
    assert not changed.any()


@pytest.mark.parametrize("levels", [2, 4, 16])
@pytest.mark.parametrize("value", [0, 100, 255])
def test_mean_and_deviation_are_as_asked_in_all_channels_alike(value, levels):
    photo = np.full((PERIOD_PX, PERIOD_PX, 3), value, np.uint8)
    grained = add_grain(photo, levels).astype(float)
    inwards = np.clip(value, 2 * levels, 255 - 2 * levels)
    assert grained.mean() == pytest.approx(inwards, abs=0.05)
    assert grained.std() == pytest.approx(levels, rel=0.07)
    assert abs(grained - inwards).max() <= 2 * levels
    assert (grained == grained[..., :1]).all()


def test_floats_and_bytes_have_the_same_grain():
    photo = lively()
    photo[20:60, :50] = 254
    grained = add_grain(photo / np.float32(255), 4)
    assert grained.dtype == np.float32
    assert np.abs(255 * grained - add_grain(photo, 4)).max() < 1e-4


@pytest.mark.parametrize(("span", "share"), [(0, 1), (1, 1), (2, 2 / 3), (3, 1 / 3), (4, 0)])
def test_less_grain_where_there_is_some_already(span, share):
    photo = np.full((PERIOD_PX, PERIOD_PX, 3), 100, np.uint8)
    photo[::CELL_PX, ::CELL_PX, 1] += np.uint8(span)
    assert (add_grain(photo, 16) - 100.0).std() == pytest.approx(16 * share, rel=0.08, abs=0.5)


def test_grain_is_coarse_and_repeats_without_a_seam():
    grain = add_grain(np.full((32, 2 * PERIOD_PX, 3), 100, np.uint8), 16)[..., 0].astype(float)
    assert (grain[:, :PERIOD_PX] == grain[:, PERIOD_PX:]).all()
    steps = np.abs(np.diff(grain, axis=1)).mean(0)
    assert steps[PERIOD_PX - 1] < 2 * steps.mean()
    assert steps.mean() < 10  # of white noise it would be 18


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (17, 33), (1, 4000)])
def test_parts_of_cells_at_the_ends_are_cells_too(size):
    grained = add_grain(np.full((*size, 3), 100, np.uint8), 16)
    assert grained.shape == (*size, 3)
    whole = add_grain(np.full((64, 4000, 3), 100, np.uint8), 16)
    assert (grained == whole[: size[0], : size[1]]).all()
