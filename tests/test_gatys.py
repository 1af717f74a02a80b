import numpy as np
import pytest
import torch
from PIL import Image

from allaprima.errors import InputError
from allaprima.gatys import halve, optimize_image, synthesize_texture
from allaprima.loss_network import LossNetwork

LAYERS = {"relu1_1": 0.5, "relu2_1": 0.5}


@pytest.fixture(scope="module")
def painting(shared) -> torch.Tensor:
    """A 64 px piece of The Starry Night's sky at a small scale."""
    file = shared / "styles/starry_night.jpg"
    if not file.is_file():
        pytest.skip("the painting is not in shared/styles")
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB").resize((160, 128)))[8:72, 40:104]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def relative_style_error(network: LossNetwork, image: torch.Tensor, style: torch.Tensor) -> float:
    """Weighted mean over layers of |G − G'|² / |G'|², G the mean product of two channels."""
    error = 0.0
    ours, painted = (network(x, list(LAYERS)) for x in (image, style[None]))
    for layer in LAYERS:
        f, g = (x[layer][0].flatten(1) for x in (ours, painted))
        value, target = f @ f.T / f.shape[1], g @ g.T / g.shape[1]
        error += LAYERS[layer] * ((value - target).square().sum() / target.square().sum()).item()
    return error


# Optimisation


def test_a_quadratic_is_minimised_within_the_range():
    target = torch.rand(1, 3, 6, 5)
    curvature = torch.logspace(0, 2, 5)
    start = torch.rand(1, 3, 6, 5)
    before, counts, values = start.clone(), [], []

    def note(count: int, value: float) -> None:
        counts.append(count)
        values.append(value)

    def loss(image: torch.Tensor) -> dict[str, torch.Tensor]:
        error = curvature * (image - target).square()
        return {"left": error[..., :2].sum(), "right": error[..., 2:].sum()}

    found = optimize_image(start, loss, 100, note)
    assert (found - target).abs().max() < 1e-3
    assert torch.equal(start, before)
    assert not found.requires_grad
    assert counts == list(range(1, len(counts) + 1))
    assert 100 <= len(counts) <= 125  # the last line search may be finished
    assert values[0] == pytest.approx(sum(loss(before).values()).item())
    assert values[-1] < 1e-4 * values[0]


@pytest.mark.parametrize(("target", "expected"), [(1.5, 1.0), (-0.5, 0.0)])
def test_pixels_stay_in_the_range(target, expected):
    start = torch.rand(1, 3, 4, 4)
    found = optimize_image(start, lambda image: {"far": (image - target).square().sum()}, 30)
    assert torch.equal(found, torch.full_like(start, expected))


def test_no_evaluations_leave_the_start():
    start = torch.rand(1, 3, 4, 4)
    assert torch.equal(optimize_image(start, lambda image: {}, 0), start)


# Texture


def test_a_texture_takes_the_paintings_statistics(vgg19, painting):
    counts = []
    texture = synthesize_texture(
        vgg19, painting, LAYERS, 32, (15, 15), on_evaluation=lambda count, _: counts.append(count)
    )
    assert texture.shape == (1, 3, 32, 32)
    assert texture.min() >= 0
    assert texture.max() <= 1
    assert counts.count(1) == 2  # once a scale
    start = synthesize_texture(vgg19, painting, LAYERS, 32, (0, 0))
    before, after = (relative_style_error(vgg19, x, painting) for x in (start, texture))
    assert after < before / 5


def test_every_scale_is_matched_from_the_coarsest_on(vgg19):
    """What is minimised, seen by its value at the first evaluation of each scale."""
    style = torch.rand(3, 40, 40) ** 3
    coarse_style = style.unflatten(1, (20, 2)).unflatten(3, (20, 2)).mean((2, 4))
    first = []

    def note(count: int, value: float) -> None:
        if count == 1:
            first.append(value)

    def texture(size: int, evaluations: tuple[int, ...], on_evaluation=lambda *_: None):
        return synthesize_texture(vgg19, style, LAYERS, size, evaluations, 0.0, 0, on_evaluation)

    texture(32, (2, 2), note)
    start, grown = texture(16, (0,)), texture(32, (2, 0))
    coarse = grown.unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5))
    fine_error = relative_style_error(vgg19, grown, style)
    assert first == pytest.approx(
        [
            relative_style_error(vgg19, start, coarse_style),
            fine_error + relative_style_error(vgg19, coarse, coarse_style),
        ],
        rel=1e-4,
    )


def test_a_texture_depends_on_its_seed_alone(vgg19, painting):
    make = [synthesize_texture(vgg19, painting, LAYERS, 32, (3, 3), seed=s) for s in (1, 1, 2)]
    assert torch.equal(make[0], make[1])
    assert not torch.equal(make[0], make[2])


@pytest.mark.parametrize("evaluations", [(1,), (1, 0), (0, 0, 1)])
def test_a_texture_has_its_size_at_any_number_of_scales(vgg19, evaluations):
    style = torch.rand(3, 40, 56)
    texture = synthesize_texture(vgg19, style, {"relu1_1": 1.0}, 32, evaluations)
    assert texture.shape == (1, 3, 32, 32)


def test_a_size_that_the_scales_do_not_divide(vgg19):
    with pytest.raises(InputError, match=r"30.*4"):
        synthesize_texture(vgg19, torch.rand(3, 40, 40), {"relu1_1": 1.0}, 30, (0, 0, 0))


def test_a_texture_starts_from_the_paintings_mean_colour(vgg19):
    colour = torch.tensor([0.2, 0.5, 0.7])
    style = colour.view(3, 1, 1).expand(3, 32, 32)
    start = synthesize_texture(vgg19, style, {"relu1_1": 1.0}, 32, (0,))
    torch.testing.assert_close(start.mean((0, 2, 3)), colour, rtol=0, atol=0.02)
    assert 0.05 < start.std((2, 3)).mean() < 0.15


# Halving


def test_halve_by_hand():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert halve(image, 0).equal(image)
    assert halve(image, 1).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert halve(image, 2).tolist() == [[[[7.5]]]]


def test_halve_drops_an_odd_row_and_takes_unbatched_images():
    image = torch.arange(16.0).view(1, 4, 4)
    odd = torch.nn.functional.pad(image, (0, 1, 0, 1), value=100)
    assert halve(odd, 1).equal(halve(image, 1))
