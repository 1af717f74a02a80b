"""Patterns that repeat, told from strokes, edges and noise."""

import numpy as np
import pytest
import torch

from allaprima.errors import InputError
from allaprima.losses import PerceptualLoss
from allaprima.spectrum import INVISIBLE, pattern_error, spectral_peaks

NOTHING = torch.zeros(1, 3, 64, 64)


def noise(scale=0.1, size=256):
    return 0.5 + scale * torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def waves(down, across, amplitude=0.1, size=256):
    """So many periods in 64 px."""
    y, x = torch.arange(size)[:, None], torch.arange(size)[None]
    return amplitude * torch.cos(2 * torch.pi * (down * y + across * x) / 64)


def error(images, painting=NOTHING):
    return pattern_error(spectral_peaks(images), painting).item()


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_noise_has_no_pattern(scale):
    assert error(noise(scale)) < 1e-3
    assert spectral_peaks(noise(scale)).std() == pytest.approx(0.18, abs=0.01)


def test_a_pattern_is_a_peak_where_its_frequency_is_whatever_its_contrast():
    for amplitude in (0.1, 0.4):
        peaks = spectral_peaks(noise(amplitude) + waves(3, -21, amplitude))
        highest = peaks[0, 0].flatten().topk(2).indices.tolist()
        assert sorted(divmod(place, 64) for place in highest) == [(3, 43), (61, 21)]
        assert peaks.max() > 3


def test_the_spectrum_of_pixels_is_symmetric():
    """So half of it is enough: as the whole transform by numpy, of one patch."""
    images = noise(size=64) + waves(3, -21, size=64)
    window = torch.hann_window(64, periodic=False)
    patch = (images - images.mean((-2, -1), keepdim=True)) * window[:, None] * window
    whole = np.log(np.abs(np.fft.fft2(patch.double().numpy())) ** 2 + INVISIBLE)
    shifts = [(down, across) for down in range(-4, 5) for across in range(-4, 5)]
    around = np.mean([np.roll(whole, shift, (-2, -1)) for shift in shifts], 0)
    places = np.abs(np.fft.fftfreq(64, 1 / 64))
    fast = np.maximum(places[:, None], places) >= 8
    np.testing.assert_allclose(spectral_peaks(images), (whole - around) * fast, atol=1e-3)


def test_each_picture_of_a_batch_has_its_own_patterns():
    both = torch.cat([noise(), noise() + waves(3, -21)])
    found = pattern_error(spectral_peaks(both), NOTHING).tolist()
    assert found == pytest.approx([error(both[:1]), error(both[1:])])


def test_a_pattern_in_step_with_a_grid_is_one_and_a_slow_wave_is_not():
    grid, slow = noise() + waves(16, 0), noise() + waves(5, 0)
    assert error(grid) > 30 * error(slow)


def test_edges_that_run_otherwise_elsewhere_are_no_pattern():
    y, x = torch.arange(256)[:, None] - 127.5, torch.arange(256)[None] - 127.5
    disc = ((y.square() + x.square()) < 100**2).float().expand(1, 3, -1, -1)
    assert error(0.2 * noise() + 0.5 * disc) < 0.1 * error(noise() + waves(3, -21))


def test_the_paintings_own_pattern_is_none():
    weave = noise() + waves(3, -21)
    assert error(weave, spectral_peaks(weave)) == 0
    assert error(weave, spectral_peaks(noise())) > 0.5 * error(weave)


def test_what_cannot_be_seen_is_no_pattern():
    assert error(0.5 + waves(3, -21, 1e-4).expand(1, 3, -1, -1)) < 1e-3
    assert error(0.5 + waves(3, -21, 1e-2).expand(1, 3, -1, -1)) > 1e-2


@pytest.fixture
def loss(vgg19):
    painting = noise()[0]
    return PerceptualLoss(vgg19, painting, {}, {}, pattern_weight=7.0)


def test_the_pattern_is_a_term_of_the_loss(loss):
    painting, stylized = noise()[0], (noise(size=128) + waves(3, -21, size=128)).requires_grad_()
    expected = 7 * error(stylized, spectral_peaks(painting[None]))
    for each in (loss, loss.for_style(painting)):
        targets = each.content_targets(stylized.detach())
        assert targets == {}
        terms = each(stylized, targets)
        assert list(terms) == ["pattern"]
        assert terms["pattern"].item() == pytest.approx(expected)
    terms["pattern"].backward()
    assert stylized.grad.abs().max() > 0
    assert not loss.state_dict().keys() & {"pixels.target_peaks"}


def test_patterns_of_several_paintings_are_between_theirs(vgg19):
    one, other = noise()[0], (noise() + waves(3, -21))[0]
    loss = PerceptualLoss(vgg19, [one, other], {}, {}, pattern_weight=1.0, blend=[1, 3])
    between = spectral_peaks(one[None]) / 4 + spectral_peaks(other[None]) * 3 / 4
    torch.testing.assert_close(loss.pixels.target_peaks, between)


def test_a_pattern_of_no_painting_or_of_pictures_too_small(vgg19, loss):
    with pytest.raises(InputError, match=r"loss\.pattern_weight=2.0 needs a style image"):
        PerceptualLoss(vgg19, None, {}, {}, pattern_weight=2.0)
    with pytest.raises(InputError, match="style image has 63 × 64 px"):
        PerceptualLoss(vgg19, noise()[0, :, :64, :63], {}, {}, pattern_weight=2.0)
    with pytest.raises(InputError, match="photo has 63 × 63 px"):
        loss.content_targets(noise(size=63))
