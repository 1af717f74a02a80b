"""What goes in and what is compared: against numpy and Pillow, and by hand."""

import math

import numpy as np
import pytest
import torch

from allaprima import images
from allaprima.errors import InputError
from allaprima.luminance import luminance
from allaprima.tasks import Colorization, Stylization, SuperResolution, gaussian_blur, luma


def flat(*values: float, size: int = 32) -> torch.Tensor:
    """A batch of grey images, one of each value."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, size, size)


def ramp(height: int, width: int) -> torch.Tensor:
    down, across = torch.linspace(0.2, 0.5, height), torch.linspace(0, 0.3, width)
    return (down[:, None] + across).expand(1, 3, -1, -1)


def test_stylization_is_the_photo_in_and_nothing_told():
    task, photos, output = Stylization(), torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    assert task.input(photos) is photos
    assert task.metrics(output, photos, photos) == {}
    assert task.panels(output, photos, photos) == [photos, output]


# Super-resolution


def slow_blur(channel: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """By its two-dimensional definition, pixel by pixel."""
    places = np.arange(-radius, radius + 1)
    kernel = np.exp(-(places[:, None] ** 2 + places**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded, size = np.pad(channel, radius, mode="edge"), 2 * radius + 1
    height, width = channel.shape
    blurred = np.empty_like(channel)
    for i in range(height):
        for j in range(width):
            blurred[i, j] = (kernel * padded[i : i + size, j : j + size]).sum()
    return blurred


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_small_photo_is_blurred_and_reduced_as_numpy_and_pillow_do(factor):
    photo = torch.rand(1, 3, 24, 32)
    blurred = np.stack([slow_blur(c, 1.0, 4) for c in photo[0].double().numpy()], axis=-1)
    expected = images.resize(blurred.astype(np.float32), 24 // factor, 32 // factor)
    given = SuperResolution(factor).input(photo)
    assert given.shape == (1, 3, 24 // factor, 32 // factor)
    np.testing.assert_allclose(given[0].permute(1, 2, 0).numpy(), expected, atol=2e-6)


def test_the_bicubic_baseline_is_pillows():
    given = torch.rand(1, 3, 6, 8)
    expected = images.resize(given[0].permute(1, 2, 0).numpy(), 24, 32)
    enlarged = SuperResolution(4).enlarge(given)
    np.testing.assert_allclose(enlarged[0].permute(1, 2, 0).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("factor", [4, 8])
def test_a_ramp_survives_but_at_its_borders(factor):
    task, photo = SuperResolution(factor), ramp(96, 128)
    again = task.enlarge(task.input(photo))
    margin = 3 * factor
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    torch.testing.assert_close(again[inside], photo[inside], rtol=0, atol=1e-4)


def test_a_flat_photo_stays_and_the_baseline_is_perfect():
    task, photos = SuperResolution(4), flat(0.0, 0.3, 1.0)
    given = task.input(photos)
    torch.testing.assert_close(given, flat(0.0, 0.3, 1.0, size=8), rtol=0, atol=1e-6)
    metrics = task.metrics(photos, photos, given)
    assert metrics["psnr"] == 100
    assert metrics["ssim"].item() == pytest.approx(1, abs=1e-4)
    assert metrics["psnr_bicubic"] > 99
    assert metrics["ssim_bicubic"].item() == pytest.approx(1, abs=1e-4)


def test_psnr_is_of_the_y_channel_in_its_published_range():
    assert luma(flat(0.0, 1.0))[:, 0, 0, 0].tolist() == pytest.approx([16 / 255, 235 / 255])
    photos = torch.rand(3, 3, 32, 32) * 0.5 + 0.1
    metrics = SuperResolution(4).metrics(photos + 0.1, photos, torch.rand(3, 3, 8, 8))
    assert metrics["psnr"].item() == pytest.approx(20 + 20 * math.log10(255 / 219), abs=1e-3)


def test_psnr_is_the_mean_over_photos():
    photos = flat(0.5, 0.5)
    output = flat(0.6, 0.51)  # 20 and 40 dB
    metrics = Colorization().metrics(output, photos, output)
    assert metrics["psnr"].item() == pytest.approx(30, abs=1e-3)


def test_ssim_of_flat_images_by_hand():
    a, b = 0.2, 0.4
    expected = (2 * a * b + 0.01**2) / (a**2 + b**2 + 0.01**2)  # there is no variance
    metrics = Colorization().metrics(flat(a), flat(b), flat(b))
    assert metrics["ssim"].item() == pytest.approx(expected, abs=1e-4)


def test_noise_scores_below_the_baseline_and_the_photo_above():
    task = SuperResolution(4)
    photos = gaussian_blur(torch.rand(2, 3, 64, 64), 1.5)
    given = task.input(photos)
    good, bad = (task.metrics(o, photos, given) for o in (photos, torch.rand_like(photos)))
    for name in ("psnr", "ssim"):
        assert bad[name] < good[f"{name}_bicubic"] < good[name]


def test_super_resolution_is_float32_under_autocast():
    task, photos = SuperResolution(4), torch.rand(2, 3, 32, 32)
    output = (photos + 0.01).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        given = task.input(photos)
        metrics = task.metrics(output, photos, given)
    assert torch.equal(given, task.input(photos))
    assert all(value.dtype == torch.float32 for value in metrics.values())
    expected = task.metrics(output, photos, given)
    assert {k: v.item() for k, v in metrics.items()} == {k: v.item() for k, v in expected.items()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"factor": 1}, "task.factor=1"),
        ({"factor": 2.5}, "task.factor=2.5"),
        ({"factor": 4, "blur_sigma": -1}, "task.blur_sigma=-1"),
        ({"factor": 4, "blur_sigma": math.nan}, "task.blur_sigma=nan"),
    ],
)
def test_numbers_out_of_range(arguments, words):
    with pytest.raises(InputError, match=words):
        SuperResolution(**arguments)


def test_a_size_that_the_factor_does_not_divide():
    with pytest.raises(InputError, match=r"36×32 px.*crop_px.*multiple of 8"):
        SuperResolution(8).input(torch.rand(1, 3, 32, 36))


@pytest.mark.parametrize("sigma", [1.0, 20.0])
def test_blur_keeps_the_sum_of_a_point_and_no_blur_the_image(sigma):
    image = torch.zeros(1, 1, 201, 201)
    image[..., 100, 100] = 1
    blurred = gaussian_blur(image, sigma)
    assert blurred.sum().item() == pytest.approx(1, abs=1e-4)
    places = torch.arange(201.0) - 100
    assert (blurred[0, 0].sum(0) * places**2).sum().item() == pytest.approx(sigma**2, rel=0.02)
    assert gaussian_blur(image, 0) is image


# Colourisation


def test_colorization_is_given_the_luminance_and_compared_in_rgb():
    task, photos = Colorization(), torch.rand(2, 3, 32, 32)
    given = task.input(photos)
    assert given.shape == photos.shape
    for channel in range(3):
        assert torch.equal(given[:, channel], luminance(photos)[:, 0])
    assert torch.equal(task.input(given), given)
    metrics = task.metrics(photos, photos, given)
    assert set(metrics) == {"psnr", "ssim", "psnr_grey", "ssim_grey"}
    assert metrics["psnr"] == 100
    assert metrics["ssim"].item() == pytest.approx(1)
    errors = (given - photos).double().square().mean((1, 2, 3))
    assert metrics["psnr_grey"].item() == pytest.approx((-10 * errors.log10()).mean().item())


# Pictures


@pytest.mark.parametrize("task", [Stylization(), SuperResolution(4), Colorization()])
def test_panels_have_the_photos_size(task):
    photos, output = torch.rand(2, 3, 32, 48), torch.rand(2, 3, 32, 48)
    given = task.input(photos)
    panels = task.panels(output, photos, given)
    assert {panel.shape for panel in panels} == {photos.shape}
    assert any(panel is output for panel in panels)
    assert any(panel is photos for panel in panels)
