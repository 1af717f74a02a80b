import itertools
import re

import numpy as np
import pytest
import torch
from torch import nn

from allaprima.errors import InputError
from allaprima.generators.johnson import JohnsonGenerator, ResidualBlock, reflect
from allaprima.luminance import luminance

SMALL = (4, 6, 8)
NORMS, PADDINGS = ("instance", "batch"), ("layers", "start")
UPSAMPLINGS = ("smooth", "nearest", "transposed")
every_option = pytest.mark.parametrize(
    ("norm", "upsampling", "padding"), list(itertools.product(NORMS, UPSAMPLINGS, PADDINGS))
)
every_geometry = pytest.mark.parametrize(
    ("upsampling", "padding"), list(itertools.product(UPSAMPLINGS, PADDINGS))
)


def randomize_batch_norm(generator: nn.Module) -> None:
    """Statistics as after some training, so that evaluation mode does something."""
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.05, 0.2)


# The papers' numbers


@pytest.mark.parametrize(
    ("filters", "num_parameters"), [((32, 64, 128), 1_679_235), ((16, 32, 64), 424_899)]
)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_number_of_parameters(filters, num_parameters, norm, upsampling, padding):
    generator = JohnsonGenerator(filters, norm=norm, upsampling=upsampling, padding=padding)
    assert sum(p.numel() for p in generator.parameters()) == num_parameters


def test_the_papers_network_is_the_default():
    assert JohnsonGenerator().arguments["filters"] == [32, 64, 128]
    assert JohnsonGenerator().arguments["num_residual_blocks"] == 5
    assert JohnsonGenerator(padding="start").start_padding == 40


# Sizes and ranges


@every_option
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (30, 23), (64, 65)])
def test_size_and_range_are_kept(norm, upsampling, padding, size):
    generator = JohnsonGenerator(SMALL, norm=norm, upsampling=upsampling, padding=padding)
    photo = torch.rand(2, 3, *size)
    before = photo.clone()
    with torch.no_grad():
        generator.to_rgb.weight.mul_(30)  # far into tanh's ends
        painted = generator(photo)
    assert painted.shape == photo.shape
    assert painted.min() >= 0
    assert painted.max() <= 1
    assert painted.max() - painted.min() > 0.5
    assert torch.equal(photo, before)


@pytest.mark.parametrize(("width", "height"), [(15, 64), (64, 15), (1, 1)])
def test_a_photo_that_is_too_small(width, height):
    with pytest.raises(InputError, match=f"{width}×{height} px.* ≥ 16 px"):
        JohnsonGenerator(SMALL)(torch.rand(1, 3, height, width))


@pytest.mark.parametrize("option", ["norm", "upsampling", "padding", "input", "output"])
def test_an_unknown_option_names_the_choices(option):
    with pytest.raises(InputError, match=f"generator.{option}=none; choose one of [a-z]+, [a-z]+"):
        JohnsonGenerator(SMALL, **{option: "none"})


@pytest.mark.parametrize("margin_px", [-4, 22, 4.5, 68, "24", None])
def test_a_margin_off_the_grid_of_strides(margin_px):
    with pytest.raises(InputError, match=f"generator.margin_px={margin_px}; choose one of 0, 4, 8"):
        JohnsonGenerator(SMALL, margin_px=margin_px)


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ({"dilations": (1, 2, 4, 2, 1)}, 3),
        ({"dilations": (1, 2, 16, 2, 1), "margin_px": 24}, 15),
        ({"dilations": (1, 1, 0, 1, 1)}, 3),
        ({"dilations": (1, 2, 1)}, 3),
        ({"dilations": (1, 1, 2, 1, 1), "padding": "start"}, 1),
    ],
)
def test_dilations_that_the_smallest_photo_has_no_room_for(arguments, most):
    words = re.escape(f"generator.dilations={arguments['dilations']}; give each of the 5 ")
    with pytest.raises(InputError, match=f"{words}.* from 1 to {most} "):
        JohnsonGenerator(SMALL, **arguments)


@pytest.mark.parametrize("margin_px", [0, 24])
def test_the_smallest_photo_has_room_for_the_largest_dilation(margin_px):
    generator = JohnsonGenerator(SMALL, 1, margin_px=margin_px, dilations=[3 + margin_px // 2])
    assert generator(torch.rand(1, 3, 16, 16)).isfinite().all()


def test_a_dilated_block_is_a_dense_one_of_interleaved_images():
    dense, dilated = (ResidualBlock(4, "batch", True, dilation).eval() for dilation in (1, 3))
    dilated.load_state_dict(dense.state_dict())
    x = torch.randn(1, 4, 30, 36)
    inside = slice(2, -2)  # borders apart, for each of them reflects another row
    for i, j in itertools.product(range(3), repeat=2):
        found, expected = dilated(x)[..., i::3, j::3], dense(x[..., i::3, j::3])
        torch.testing.assert_close(found[..., inside, inside], expected[..., inside, inside])


@pytest.mark.parametrize("size", [(32, 48), (29, 43), (16, 17)])
def test_a_margin_is_a_larger_photo_and_a_cropped_painting(size):
    plain = JohnsonGenerator(SMALL, 2).eval()
    generator = JohnsonGenerator(SMALL, 2, margin_px=24).eval()
    generator.load_state_dict(plain.state_dict())
    (height, width), photo = size, np.random.default_rng(0).random((3, *size), np.float32)
    around = [(24, 24 + -side % 4) for side in size]
    larger = torch.from_numpy(np.pad(photo, [(0, 0), *around], "reflect"))[None]
    expected = plain(larger)[..., 24 : 24 + height, 24 : 24 + width]
    photo = torch.from_numpy(photo)[None]
    torch.testing.assert_close(generator(photo), expected, rtol=0, atol=1e-6)


@every_option
@pytest.mark.parametrize("colour", [0.0, 0.5, 1.0])
def test_a_flat_photo_stays_finite(norm, upsampling, padding, colour):
    generator = JohnsonGenerator(SMALL, norm=norm, upsampling=upsampling, padding=padding)
    painted = generator(torch.full((1, 3, 24, 24), colour))
    painted.sum().backward()
    assert painted.isfinite().all()
    assert all(p.grad.isfinite().all() for p in generator.parameters())


@every_option
def test_output_is_float32_under_autocast(norm, upsampling, padding):
    generator = JohnsonGenerator(SMALL, norm=norm, upsampling=upsampling, padding=padding)
    photo = torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        painted = generator(photo)
    assert painted.dtype == torch.float32
    assert (painted - generator(photo)).abs().max() < 0.1


# Geometry: where a pixel of the picture comes from


@every_geometry
def test_moving_the_photo_moves_the_picture(upsampling, padding):
    """By a multiple of 4 px, away from the borders; with statistics that do not move."""
    generator = JohnsonGenerator(SMALL, 2, "batch", upsampling, padding).eval()
    randomize_batch_norm(generator)
    wide = torch.rand(1, 3, 96, 100)
    with torch.no_grad():
        left, right = generator(wide[..., :96]), generator(wide[..., 4:])
    margin = 40  # wider than the receptive field reaches
    a = left[..., margin:-margin, margin + 4 : -margin]
    b = right[..., margin:-margin, margin : -margin - 4]
    assert a.std() > 0.01
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


@every_geometry
def test_a_size_not_divisible_by_4_moves_nothing(upsampling, padding):
    generator = JohnsonGenerator(SMALL, 2, "batch", upsampling, padding).eval()
    randomize_batch_norm(generator)
    photo = torch.rand(1, 3, 100, 100)
    with torch.no_grad():
        a, b = (generator(x)[..., 40:57, 40:58] for x in (photo, photo[..., :97, :98]))
    assert a.std() > 0.01
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_both_paddings_are_one_network_away_from_the_borders(upsampling):
    """Unpadded residual convolutions, cropped shortcuts and the final crop cancel exactly."""
    layers = JohnsonGenerator(SMALL, 3, "batch", upsampling, "layers").eval()
    randomize_batch_norm(layers)
    start = JohnsonGenerator(SMALL, 3, "batch", upsampling, "start").eval()
    start.load_state_dict(layers.state_dict())
    photo = torch.rand(1, 3, 102, 109)
    with torch.no_grad():
        a, b = (g(photo)[..., 44:-44, 44:-44] for g in (layers, start))
    assert a.std() > 0.01
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@every_geometry
def test_a_pixel_comes_from_its_own_place(upsampling, padding):
    """With every weight equal, the gradient of an output pixel is centred on that pixel."""
    generator = JohnsonGenerator((2, 2, 2), 2, "batch", upsampling, padding).eval()
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.fill_(1 / module.weight[0].numel())
                module.bias.zero_()
    photo = torch.full((1, 3, 112, 112), 0.6, requires_grad=True)
    for row, column in ((52, 60), (55, 57)):
        (grad,) = torch.autograd.grad(generator(photo)[0, :, row, column].sum(), photo)
        share = grad[0].sum(0) / grad.sum()
        assert (share >= 0).all()
        places = torch.arange(112.0)
        assert (share.sum(1) @ places).item() == pytest.approx(row, abs=2)
        assert (share.sum(0) @ places).item() == pytest.approx(column, abs=2)


@pytest.mark.parametrize(("padded", "lost"), [(True, 0), (False, 2)])
def test_the_shortcut_passes_where_the_body_is_silent(padded, lost):
    block = ResidualBlock(3, "instance", padded)
    nn.init.zeros_(block.body[-1].weight)
    x = torch.randn(1, 3, 12, 14)
    assert torch.equal(block(x), x[..., lost : 12 - lost, lost : 14 - lost])


@pytest.mark.parametrize(
    "pads",
    [(0, 0, 0, 0), (1, 2, 3, 4), (0, 3, 0, 0), (5, 0, 6, 1), (16, 17, 18, 19), (40, 43, 40, 41)],
)
@pytest.mark.parametrize("size", [(5, 7), (16, 19)])
def test_reflect_is_numpys(pads, size):
    images = torch.rand(2, 3, *size)
    left, right, top, bottom = pads
    widths = ((0, 0), (0, 0), (top, bottom), (left, right))
    expected = np.pad(images.numpy(), widths, mode="reflect")
    assert np.array_equal(reflect(images, left, right, top, bottom).numpy(), expected)


# Colourisation


@every_geometry
def test_luminance_alone_is_read_and_kept(upsampling, padding):
    generator = JohnsonGenerator(SMALL, 2, "batch", upsampling, padding, "luminance").eval()
    randomize_batch_norm(generator)
    photo = torch.rand(2, 3, 22, 25)
    with torch.no_grad():
        generator.to_rgb.weight.mul_(30)  # colours far beyond what RGB can show
        painted = generator(photo)
        assert torch.equal(generator(luminance(photo).expand_as(photo)), painted)
    assert painted.min() >= 0
    assert painted.max() <= 1
    assert (painted - luminance(painted)).abs().max() > 0.1
    torch.testing.assert_close(luminance(painted), luminance(photo), rtol=0, atol=1e-6)


def test_colourisation_learns_a_colour():
    """With all else given, a flat photo's colour is within reach of the last bias alone."""
    generator = JohnsonGenerator(SMALL, 1, input="luminance")
    photo = torch.tensor([0.6, 0.4, 0.3]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    optimizer = torch.optim.Adam([generator.to_rgb.bias], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        (generator(photo) - photo).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(generator(photo), photo, rtol=0, atol=0.01)


# Output


def test_linear_output_is_cut_off_where_tanh_bends():
    """The same network under both: ½ + x against ½ + ½·tanh(x), and the ends exact."""
    linear, bent = (JohnsonGenerator(SMALL, 1, output=o) for o in ("linear", "tanh"))
    bent.load_state_dict(linear.state_dict())
    photo = torch.rand(1, 3, 19, 22)
    with torch.no_grad():
        for generator in (linear, bent):
            generator.to_rgb.weight.mul_(3)
        x = torch.atanh(2 * bent(photo).double() - 1)
        assert (x.abs() > 0.5).any()
        assert (x.abs() < 0.5).any()
        expected = (0.5 + x).clamp(0, 1)
        torch.testing.assert_close(linear(photo).double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("option", "meaning"), [("output", "tanh"), ("dilations", [1, 1])])
def test_what_a_file_from_before_an_option_means(option, meaning):
    arguments = JohnsonGenerator(SMALL, 2).arguments
    assert arguments.pop(option) == meaning
    assert JohnsonGenerator(**arguments).arguments[option] == meaning


# As a module


@every_option
def test_gradients_reach_every_parameter(norm, upsampling, padding):
    generator = JohnsonGenerator(SMALL, norm=norm, upsampling=upsampling, padding=padding)
    photo = torch.rand(2, 3, 32, 32, requires_grad=True)
    (generator(photo) - torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert photo.grad.abs().sum() > 0
    for name, parameter in generator.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_option
def test_arguments_rebuild_the_module(norm, upsampling, padding):
    generator = JohnsonGenerator(SMALL, 2, norm, upsampling, padding)
    assert generator.arguments["input"] == "rgb"
    twin = JohnsonGenerator(**generator.arguments)
    assert twin.arguments == generator.arguments
    assert str(twin) == str(generator)
    twin.load_state_dict(generator.state_dict())
    photo = torch.rand(1, 3, 20, 24)
    assert torch.equal(twin(photo), generator(photo))
