"""The form of a generator that is exported."""

import pytest
import torch

from allaprima.errors import InputError
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.generators.ulyanov import UlyanovGenerator
from allaprima.portable import PortableGenerator, paint_portably, position_noise


def test_noise_is_uniform_and_of_no_pattern():
    noise = position_noise(3, 120, 130, seed=0)
    assert noise.shape == (1, 3, 120, 130)
    # A tenth of the 46 800 values each, give or take four standard deviations of such a count.
    assert (noise.histc(10, -0.5, 0.5) - 4680).abs().max() < 260
    neighbours = [
        noise[..., 1:, :] * noise[..., :-1, :],
        noise[..., 1:] * noise[..., :-1],
        noise[:, 1:] * noise[:, :-1],
        noise * position_noise(3, 120, 130, seed=1),
    ]
    for product in neighbours:  # 0 give or take four standard deviations
        assert product.mean().abs() < 4 / 12 / product.numel() ** 0.5
    power = torch.fft.fft2(noise).abs().square()
    assert power.max() < 20 * power.mean()  # no frequency stands out


def test_noise_depends_on_the_place_alone():
    large, small = position_noise(2, 50, 60, seed=3), position_noise(2, 20, 31, seed=3)
    assert torch.equal(large[..., :20, :31], small)
    # Computed by hand from the docstring, in Python's whole numbers.
    p = 2**31 - 1
    v = (83_492_791 + 3 * 104_729 + 2 * 73_856_093 + 19_349_663) % p
    for _ in range(3):
        v = (v * v + 1_047_302_117 * v + 12_345) % p
    assert small[0, 0, 1, 0].item() == pytest.approx(v / p - 0.5, abs=1e-6)


def test_a_network_with_noise_paints_with_it():
    generator = UlyanovGenerator(num_scales=3).eval()
    photo = torch.rand(1, 3, 21, 30)
    with torch.no_grad():
        painted = paint_portably(generator, photo)
        noise = [
            position_noise(3, height, width, seed=k)
            for k, height, width in ((2, 6, 8), (1, 11, 15), (0, 21, 30))
        ]
        assert torch.equal(painted, generator(photo, noise))
        assert not torch.equal(painted, generator(photo))


def test_textures_are_refused():
    with pytest.raises(InputError, match="takes no photo"):
        PortableGenerator(UlyanovGenerator(photo=False))


@pytest.mark.parametrize("half", [True, False])
def test_bytes_are_the_floats_rounded(half):
    generator = JohnsonGenerator((4, 6, 8), 1).eval()
    pixels = torch.randint(0, 256, (22, 19, 3), dtype=torch.uint8)
    photo = pixels.permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        painted = PortableGenerator(generator, half=half)(photo)
        in_bytes = PortableGenerator(generator, half=half, uint8=True)(pixels)
        assert painted.dtype == torch.float32
        torch.testing.assert_close(painted, generator(photo), rtol=0, atol=0.01 if half else 0)
    expected = (255 * painted[0].permute(1, 2, 0)).round().to(torch.uint8)
    assert in_bytes.dtype == torch.uint8
    assert torch.equal(in_bytes, expected)
    assert all(p.dtype == torch.float32 for p in generator.parameters())  # it is left as it was
