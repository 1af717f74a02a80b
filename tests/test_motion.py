import numpy as np
import pytest
from PIL import Image

from allaprima.images import to_uint8
from allaprima.motion import WORKING_SIDE_PX, box_mean, estimate_motion
from allaprima.resources import resource_dir
from benchmarks.steadiness import bend


def view(x: float, y: float, width: int = 160, height: int = 120, zoom: float = 1) -> np.ndarray:
    """A window of a photo whose middle is moved by x and y, with the noise of a camera."""
    file = sorted((resource_dir("assets") / "photos" / "val").glob("*.jpg"))[0]
    with Image.open(file) as image:
        scene = image.convert("RGB").resize((240, 180), Image.Resampling.BICUBIC)
    left, top = 120 + x - width / zoom / 2, 90 + y - height / zoom / 2
    box = left, top, left + width / zoom, top + height / zoom
    window = np.asarray(scene.resize((width, height), Image.Resampling.BICUBIC, box), np.float32)
    noise = np.random.default_rng(int(abs(100 * x + 10 * y))).normal(0, 2, window.shape)
    return np.float32(np.rint(window + noise).clip(0, 255) / 255)


@pytest.mark.parametrize("way", [(0, 0), (3, 1), (1.37, -0.61), (-0.3, 0.2), (6.5, 4.25)])
def test_a_pan_is_measured_to_a_fraction_of_a_pixel(way):
    flow = estimate_motion(view(0, 0), view(*way))

    assert flow.shape == (120, 160, 2)
    assert np.median(flow, (0, 1)) == pytest.approx(way, abs=0.08)
    assert np.quantile(np.abs(flow - way)[12:-12, 12:-12], 0.9) < 0.4


def test_a_zoom_moves_the_sides_apart():
    flow = estimate_motion(view(0, 0), view(0, 0, zoom=1.04))

    x = np.arange(160) + 0.5
    expected = (x - 80) / 1.04 - (x - 80)
    assert np.abs(np.median(flow[..., 0], 0) - expected)[10:-10].max() < 0.3


def test_large_frames_are_measured_small_and_told_in_their_own_pixels():
    small = [view(0, 0), view(2, 1)]
    large = [np.float32(frame.repeat(4, 0).repeat(4, 1)) for frame in small]

    flow = estimate_motion(*large)

    assert max(flow.shape) == WORKING_SIDE_PX
    assert np.median(flow, (0, 1)) == pytest.approx((8, 4), abs=0.4)


def test_flat_tiny_and_unrelated_frames_give_finite_motion():
    flat = np.full((40, 40, 3), 0.5, np.float32)
    rng = np.random.default_rng(0)
    assert np.abs(estimate_motion(flat, flat)).max() == 0
    assert np.isfinite(estimate_motion(flat, rng.random((40, 40, 3), np.float32))).all()
    for size in ((1, 1), (2, 5), (3, 200)):
        frames = rng.random((2, *size, 3), np.float32)
        assert np.isfinite(estimate_motion(*frames)).all()


def test_bending_by_whole_pixels_copies_and_by_nothing_changes_nothing():
    rgb = to_uint8(view(0, 0, 101, 67))
    bent, inside = bend(rgb, np.zeros((5, 5, 2), np.float32))
    assert np.array_equal(bent, rgb)
    assert inside.all()

    bent, inside = bend(rgb, np.full((1, 1, 2), (3, -2), np.float32))
    assert np.array_equal(bent[2:, :-3], rgb[:-2, 3:])
    assert inside[2:, :-3].all()
    assert not inside[:2].any()
    assert not inside[:, -3:].any()


def test_bending_by_the_measured_motion_brings_one_frame_onto_the_next():
    before, now = view(0, 0), view(2.4, 1.3)
    bent, inside = bend(to_uint8(before), estimate_motion(before, now))
    assert np.abs(bent / 255 - now)[inside].mean() < 0.3 * np.abs(before - now).mean()


def test_box_mean_is_the_mean_of_the_window():
    values = np.random.default_rng(0).random((12, 9)).astype(np.float32)
    padded = np.pad(values, 2, mode="edge")
    assert box_mean(values, 5)[4, 7] == pytest.approx(padded[4:9, 7:12].mean(), rel=1e-5)
    assert box_mean(values, 5)[0, 0] == pytest.approx(padded[:5, :5].mean(), rel=1e-5)
    assert box_mean(values, 5).shape == values.shape
