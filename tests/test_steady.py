import numpy as np
import pytest
import torch
from test_motion import view
from torch import nn

from allaprima.errors import InputError
from allaprima.steady import Steadied
from benchmarks.steadiness import detail, warping_error


class Boiling:
    """A painter whose strokes hang on its grid of 4 pixels, as strides make them do."""

    def __init__(self):
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 24, 5, stride=4, padding=2, padding_mode="reflect")
        self.up = nn.ConvTranspose2d(24, 3, 4, stride=4)

    def __call__(self, rgb):
        height, width = rgb.shape[:2]
        with torch.inference_mode():
            x = torch.tensor(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
            painted = self.up(torch.relu(self.down(x)))[0, :, :height, :width]
            painted = nn.functional.avg_pool2d(painted, 3, stride=1, padding=1)
        painted = nn.functional.pad(
            painted, (0, width - painted.shape[2], 0, height - painted.shape[1])
        )
        return (0.2 + 6 * painted).clip(0, 1).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("way", [(3, 1), (1.37, -0.61), (-0.4, 0.3)])
def test_strokes_stay_with_the_scene_and_keep_their_edges(way):
    frames = [view(i * way[0], i * way[1]) for i in range(6)]

    flow = np.array([[way]], np.float32)
    plain = [Boiling()(frame) for frame in frames]
    steadied = list(map(Steadied(Boiling()), frames))

    assert warping_error(steadied, flow) < 0.7 * warping_error(plain, flow)
    assert detail(steadied[-1]) > 0.8 * detail(plain[-1])  # nothing is smeared
    assert all(frame.dtype == np.float32 and frame.shape == (120, 160, 3) for frame in steadied)


@pytest.mark.parametrize("way", [(0, 0), (3, -2), (-1, 5)])
def test_the_noise_of_a_camera_makes_strokes_flicker_less(way, monkeypatch):
    """Than in a clip that is steadied, but mixes nothing of the painting before in."""
    rng = np.random.default_rng(0)
    frames = [view(i * way[0], i * way[1]) for i in range(6)]
    frames = [np.float32((f + rng.normal(0, 2 / 255, f.shape)).clip(0, 1)) for f in frames]

    steadied = list(map(Steadied(Boiling()), frames))
    monkeypatch.setattr("allaprima.steady.MIXED", 0.0)
    unmixed = list(map(Steadied(Boiling()), frames))

    flow = np.array([[way]], np.float32)
    assert warping_error(steadied[2:], flow) < 0.8 * warping_error(unmixed[2:], flow)


@pytest.mark.parametrize("way", [(0, 0), (3, -2), (100, 0), (400, 400)])
def test_what_two_frames_share(way):
    scene = np.random.default_rng(0).random((60, 90, 3), np.float32)
    steadied = Steadied(lambda rgb: rgb)
    steadied._mix_before(scene, scene, np.array([0, 0]))
    x, y = way
    moved = np.roll(scene, (y, x), (0, 1))  # what comes in at one side is another picture's
    painted = moved + np.float32(8 / 255)
    mixed = steadied._mix_before(moved, painted, np.array(way))
    change = np.abs(mixed - painted).max(-1) > 1 / 255
    shared = np.zeros((60, 90), bool)
    if x < 90 and y < 60:
        shared[max(y, 0) : 60 + min(y, 0), x:] = True
    assert np.array_equal(change, shared)


@pytest.mark.parametrize("pan", [0, 3])
def test_nothing_of_what_was_there_before_is_left_behind(pan):
    """A square that has moved on, and a cut, are painted as if they were alone."""
    ground = view(0, 0)
    with_square, moved_on = ground.copy(), view(pan, 0)
    with_square[40:70, 40:70] = (1, 0, 0)
    moved_on[40:70, 90:120] = (1, 0, 0)
    steadied = Steadied(Boiling())
    steadied(with_square)
    after = steadied(moved_on)
    alone = Steadied(Boiling())
    alone.position = steadied.position
    assert np.abs(after - alone(moved_on))[42:68, 42 + pan : 68 + pan].max() < 0.08

    cut = np.ascontiguousarray(1 - ground[::-1])
    steadied = Steadied(Boiling())
    steadied(ground)
    after = steadied(cut)
    alone = Steadied(Boiling())
    alone.position = steadied.position
    assert np.abs(after - alone(cut)).mean() < 0.01


def test_the_first_frame_and_small_ones_are_painted_whole():
    for size in ((1, 1), (2, 3), (5, 40), (37, 51)):
        frame = np.random.default_rng(0).random((*size, 3), np.float32)
        steadied = Steadied(lambda rgb: rgb)
        for _ in range(2):
            painted = steadied(frame)
            assert painted.shape == frame.shape
            assert np.allclose(painted, frame, atol=1 / 255)


def test_frames_of_another_size_begin_anew():
    steadied = Steadied(lambda rgb: rgb)
    steadied(view(0, 0))
    other = view(0, 0, 80, 60)
    assert np.allclose(steadied(other), other, atol=1 / 255)


def test_a_painter_that_enlarges_cannot_be_steadied():
    with pytest.raises(InputError, match="keeps the size"):
        Steadied(lambda rgb: rgb.repeat(2, 0))(view(0, 0))
