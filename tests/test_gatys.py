from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from allaprima.errors import InputError
from allaprima.gatys import (
    Evaluation,
    halve,
    make_noise,
    scale_image,
    stylize_photo,
    synthesize_texture,
)
from allaprima.images import resize
from allaprima.loss_network import LossNetwork
from allaprima.losses import PerceptualLoss, gram_matrix, relative_error, total_variation

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


def blots(height: int = 32, width: int = 48, seed: int = 0) -> torch.Tensor:
    """A photo of soft spots (3, H, W)."""
    coarse = np.random.default_rng(seed).random((6, 8, 3), dtype=np.float32)
    return torch.from_numpy(resize(coarse, height, width)).permute(2, 0, 1).contiguous()


def calibrated(network: LossNetwork, style: torch.Tensor, **options) -> PerceptualLoss:
    arguments = {"content_layers": {}, "style_layers": LAYERS} | options
    return PerceptualLoss(
        network,
        style,
        gram=partial(gram_matrix, divide_by="hw"),
        content_error=relative_error,
        style_error=relative_error,
        variation=partial(total_variation, mean=True),
        **arguments,
    )


def relative_style_error(network: LossNetwork, image: torch.Tensor, style: torch.Tensor) -> float:
    """Weighted mean over layers of |G − G'|² / |G'|², G the mean product of two channels."""
    error = 0.0
    ours, painted = (network(x, list(LAYERS)) for x in (image, style[None]))
    for layer in LAYERS:
        f, g = (x[layer][0].flatten(1) for x in (ours, painted))
        value, target = f @ f.T / f.shape[1], g @ g.T / g.shape[1]
        error += LAYERS[layer] * ((value - target).square().sum() / target.square().sum()).item()
    return error


# A photo


def test_without_style_noise_becomes_the_photo(vgg19):
    photo = blots()
    loss = calibrated(vgg19, None, content_layers={"relu1_1": 1.0}, style_layers={})
    start = make_noise(32, 48, photo.mean((1, 2)), seed=1)
    found = stylize_photo(loss, photo, start, [150])[0]
    assert (start - photo).abs().mean() > 0.1
    assert (found - photo).abs().mean() < 0.015
    assert (found - photo).abs().max() < 0.1


def test_without_content_the_style_images_grams_are_matched(vgg19, painting):
    loss = calibrated(vgg19, painting)
    found = stylize_photo(loss, blots(48, 48), None, [60])
    assert found.shape == (1, 3, 48, 48)
    before = relative_style_error(vgg19, blots(48, 48)[None], painting)
    assert relative_style_error(vgg19, found, painting) < min(0.02, before / 10)


def test_both_are_between(vgg19, painting):
    photo = blots(40, 56)
    loss = calibrated(vgg19, painting, content_layers={"relu2_2": 1.0}, style_weight=1.0)
    terms = []
    stylize_photo(loss, photo, None, [15], on_evaluation=lambda e: terms.append(e.terms))
    assert list(terms[0]) == ["content/relu2_2", "style/relu1_1", "style/relu2_1"]
    assert terms[0]["content/relu2_2"] < 1e-8
    assert sum(terms[-1].values()) < 0.7 * sum(terms[0].values())


def test_scales_double_and_pass_the_image_on(vgg19, painting):
    photo, seen = blots(33, 50), []
    loss = calibrated(vgg19, painting, content_layers={"relu1_1": 1.0})

    def note(evaluation: Evaluation) -> None:
        seen.append(evaluation._replace(image=evaluation.image.clone()))

    found = stylize_photo(loss, photo, None, [3, 0, 2], on_evaluation=note)
    assert found.shape == (1, 3, 33, 50)
    assert [e.scale for e in seen] == [0, 0, 0, 2, 2]
    assert [e.num_done for e in seen] == [1, 2, 3, 4, 5]
    assert [tuple(e.image.shape[2:]) for e in seen[2:4]] == [(8, 12), (33, 50)]
    small = scale_image(photo, 8, 12)
    torch.testing.assert_close(seen[0].image[0], small)
    own = loss.for_style(scale_image(painting, 16, 16))
    expected = own(small[None], own.content_targets(small[None]))
    assert seen[0].terms == pytest.approx({k: v.item() for k, v in expected.items()}, rel=1e-3)
    assert torch.equal(found, seen[-1].image)


def test_a_stop_at_a_coarse_scale_still_gives_the_whole_size(vgg19, painting):
    seen = []

    def note(evaluation: Evaluation) -> bool:
        seen.append(evaluation.num_done)
        return len(seen) == 2

    loss = calibrated(vgg19, painting)
    assert stylize_photo(loss, blots(), None, [5, 5], on_evaluation=note).shape == (1, 3, 32, 48)
    assert seen == [1, 2]


def test_a_blend_of_two_paintings_is_between_them(vgg19, painting):
    other = blots(64, 64, seed=9)
    losses = [calibrated(vgg19, [painting, other], blend=b) for b in ([1, 0], [1, 1], [0, 1])]
    found = [stylize_photo(loss, blots(), None, [25, 5]) for loss in losses]
    errors = [relative_style_error(vgg19, x, painting) for x in found]
    assert errors[0] < errors[1] < errors[2]


def test_a_start_of_another_size(vgg19, painting):
    with pytest.raises(InputError, match=r"30 × 20 px.*48 × 32 px"):
        stylize_photo(calibrated(vgg19, painting), blots(), blots(20, 30))


@pytest.mark.parametrize("evaluations", [(), (10, -1)])
def test_evaluations_that_are_none(vgg19, painting, evaluations):
    loss = calibrated(vgg19, painting)
    with pytest.raises(InputError, match="evaluations="):
        stylize_photo(loss, blots(), evaluations=evaluations)
    with pytest.raises(InputError, match="evaluations="):
        synthesize_texture(loss, 32, evaluations)


def test_more_scales_than_the_images_have_pixels_for(vgg19, painting):
    with pytest.raises(InputError, match="too small for relu2_1"):
        stylize_photo(calibrated(vgg19, painting), blots(), None, [1] * 6)


# Texture


def test_a_texture_takes_the_paintings_statistics(vgg19, painting):
    loss = calibrated(vgg19, painting, total_variation_weight=1e-3)
    scales = []
    texture = synthesize_texture(loss, 32, (15, 15), on_evaluation=lambda e: scales.append(e.scale))
    assert texture.shape == (1, 3, 32, 32)
    assert texture.min() >= 0
    assert texture.max() <= 1
    assert scales == [0] * 15 + [1] * 15
    start = synthesize_texture(loss, 32, (0, 0))
    before, after = (relative_style_error(vgg19, x, painting) for x in (start, texture))
    assert after < before / 5


def test_every_scale_is_matched_from_the_coarsest_on(vgg19):
    """What is minimised, seen by its value at the first evaluation of each scale."""
    style = torch.rand(3, 40, 40) ** 3
    coarse_style = style.unflatten(1, (20, 2)).unflatten(3, (20, 2)).mean((2, 4))
    first = {}
    loss = calibrated(vgg19, style)

    def note(evaluation: Evaluation) -> None:
        first.setdefault(evaluation.scale, evaluation.value)

    synthesize_texture(loss, 32, (2, 2), on_evaluation=note)
    start, grown = synthesize_texture(loss, 16, (0,)), synthesize_texture(loss, 32, (2, 0))
    coarse = grown.unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5))
    fine_error = relative_style_error(vgg19, grown, style)
    assert list(first.values()) == pytest.approx(
        [
            relative_style_error(vgg19, start, coarse_style),
            fine_error + relative_style_error(vgg19, coarse, coarse_style),
        ],
        rel=1e-4,
    )


def test_a_texture_depends_on_its_seed_alone(vgg19, painting):
    loss = calibrated(vgg19, painting)
    make = [synthesize_texture(loss, 32, (3, 3), seed) for seed in (1, 1, 2)]
    assert torch.equal(make[0], make[1])
    assert not torch.equal(make[0], make[2])


@pytest.mark.parametrize("evaluations", [(1,), (1, 0), (0, 0, 1)])
def test_a_texture_has_its_size_at_any_number_of_scales(vgg19, evaluations):
    loss = calibrated(vgg19, torch.rand(3, 40, 56))
    assert synthesize_texture(loss, 32, evaluations).shape == (1, 3, 32, 32)


def test_a_size_that_the_scales_do_not_divide(vgg19):
    with pytest.raises(InputError, match=r"30.*4"):
        synthesize_texture(calibrated(vgg19, torch.rand(3, 40, 40)), 30, (0, 0, 0))


def test_what_is_no_textures_loss(vgg19, painting):
    content = {"relu1_1": 1.0}
    with pytest.raises(InputError, match="content=PHOTO"):
        synthesize_texture(calibrated(vgg19, painting, content_layers=content), 32, (1,))
    with pytest.raises(InputError, match="texture of 1 × 1 px"):
        synthesize_texture(calibrated(vgg19, painting), 1, (1,))


def test_a_texture_starts_from_the_paintings_mean_colour(vgg19):
    colour = torch.tensor([0.2, 0.5, 0.7])
    style = colour.view(3, 1, 1).expand(3, 32, 32)
    start = synthesize_texture(calibrated(vgg19, style), 32, (0,))
    torch.testing.assert_close(start.mean((0, 2, 3)), colour, rtol=0, atol=0.02)
    assert 0.05 < start.std((2, 3)).mean() < 0.15


# Scaling


def test_halve_by_hand():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert halve(image, 0).equal(image)
    assert halve(image, 1).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert halve(image, 2).tolist() == [[[[7.5]]]]


def test_halve_drops_an_odd_row_and_takes_unbatched_images():
    image = torch.arange(16.0).view(1, 4, 4)
    odd = torch.nn.functional.pad(image, (0, 1, 0, 1), value=100)
    assert halve(odd, 1).equal(halve(image, 1))


def test_images_are_scaled_by_the_one_resize():
    photo = blots()
    expected = resize(photo.permute(1, 2, 0).numpy(), 16, 20)
    assert np.array_equal(scale_image(photo, 16, 20).permute(1, 2, 0).numpy(), expected)
    assert scale_image(photo, 32, 48) is photo
