import itertools

import pytest
import torch

from allaprima.errors import InputError
from allaprima.generators.johnson_superres import JohnsonSuperresolutionGenerator
from allaprima.weights import load_generator, save_generator

NORMS, UPSAMPLINGS = ("instance", "batch"), ("smooth", "nearest", "transposed")
every_option = pytest.mark.parametrize(
    ("norm", "upsampling"), list(itertools.product(NORMS, UPSAMPLINGS))
)


def small(factor: int = 4, norm: str = "batch", upsampling: str = "nearest"):
    return JohnsonSuperresolutionGenerator(factor, 6, 2, norm, upsampling)


@pytest.mark.parametrize(("factor", "num_upsamplings"), [(4, 2), (8, 3)])
@every_option
def test_number_of_parameters_of_the_papers_networks(factor, num_upsamplings, norm, upsampling):
    norm_parameters = 2 * 64
    conv = 64 * 64 * 3 * 3 + 64 + norm_parameters
    first, last = 3 * 64 * 9 * 9 + 64 + norm_parameters, 64 * 3 * 9 * 9 + 3
    expected = first + 4 * 2 * conv + num_upsamplings * conv + last
    assert expected == {4: 401_859, 8: 438_915}[factor]
    generator = JohnsonSuperresolutionGenerator(factor, norm=norm, upsampling=upsampling)
    assert sum(p.numel() for p in generator.parameters()) == expected


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("size", [(5, 5), (7, 12)])
@every_option
def test_size_and_range(factor, size, norm, upsampling):
    generator = small(factor, norm, upsampling)
    photo = torch.rand(2, 3, *size)
    with torch.no_grad():
        generator.to_rgb.weight.mul_(30)  # far into tanh's ends
        output = generator(photo)
    assert output.shape == (2, 3, size[0] * factor, size[1] * factor)
    assert output.min() >= 0
    assert output.max() <= 1
    assert output.max() - output.min() > 0.5


@every_option
def test_float32_under_autocast_and_gradients_everywhere(norm, upsampling):
    generator = small(2, norm, upsampling)
    with torch.autocast("cpu", torch.bfloat16):
        output = generator(torch.rand(2, 3, 12, 12))
    assert output.dtype == torch.float32
    (output - torch.rand(2, 3, 24, 24)).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_option
@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_a_flat_photo_stays_finite(norm, upsampling, colour):
    generator = small(2, norm, upsampling)
    output = generator(torch.full((1, 3, 8, 8), colour))
    output.sum().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in generator.parameters())


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_moving_the_photo_by_a_pixel_moves_the_output_by_the_factor(upsampling):
    generator = small(4, "batch", upsampling).eval()
    wide = torch.rand(1, 3, 40, 41)
    with torch.no_grad():
        a = generator(wide[..., :-1])[..., 64:-64, 68:-64]
        b = generator(wide[..., 1:])[..., 64:-64, 64:-68]
    assert a.std() > 0.001
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@every_option
def test_a_file_gives_the_same_generator_back(tmp_path, norm, upsampling):
    generator = small(4, norm, upsampling)
    generator(torch.rand(2, 3, 8, 8))  # batch norm's statistics are no longer the initial ones
    save_generator(tmp_path / "superres.safetensors", generator, {})
    loaded, metadata = load_generator(tmp_path / "superres.safetensors")
    assert metadata["generator"] == "johnson_superres"
    assert loaded.arguments == generator.arguments
    photo = torch.rand(1, 3, 9, 10)
    with torch.inference_mode():
        assert torch.equal(loaded(photo), generator.eval()(photo))


@pytest.mark.parametrize(
    ("option", "value", "choices"),
    [
        ("factor", 3, "2, 4, 8, 16"),
        ("factor", "4", "2, 4, 8, 16"),
        ("norm", "none", "instance, batch"),
        ("upsampling", "none", "smooth, nearest, transposed"),
    ],
)
def test_an_unknown_option_names_the_choices(option, value, choices):
    with pytest.raises(InputError, match=f"generator.{option}={value}; choose one of {choices}"):
        JohnsonSuperresolutionGenerator(**{option: value})


def test_a_photo_that_is_too_small():
    with pytest.raises(InputError, match=r"4×9 px.* ≥ 5 px"):
        small()(torch.rand(1, 3, 9, 4))
