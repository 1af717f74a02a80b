import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

from allaprima.errors import InputError
from allaprima.generators.ulyanov import UlyanovGenerator, average_pyramid
from allaprima.weights import load_generator, save_generator

NORMS, PADDINGS = ("instance", "batch"), ("reflect", "circular")
every_option = pytest.mark.parametrize(
    ("photo", "norm", "padding"), list(itertools.product((True, False), NORMS, PADDINGS))
)


def small(photo=True, norm="instance", padding="reflect", **options):
    """Three scales of four channels, with statistics and affine terms as after some training."""
    generator = UlyanovGenerator(photo, 3, 4, norm=norm, padding=padding, **options)
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        generator.to_rgb.weight.mul_(8)
        for _ in range(20):
            generator(torch.rand(2, 3, 24, 24))
    return generator.eval()


def texture(generator, height, width, batch=1):
    with torch.no_grad():
        return generator(torch.ones(batch, 3, height, width))


# The paper's numbers


def count(num_in, num_scales, n=8):
    """By hand. A block of c channels on i: 9ic + c, 9cc + c, cc + c, and a scale and a shift per
    channel after each. A join normalises its c channels. At the end, 3 colours of all channels."""
    branches = num_scales * ((9 * num_in * n + n) + (9 * n * n + n) + (n * n + n) + 6 * n)
    widths = [n * k for k in range(2, num_scales + 1)]
    joins = sum(2 * (9 * c * c + c) + (c * c + c) + 6 * c + 2 * c for c in widths)
    return branches + joins + (3 * n * num_scales + 3)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_number_of_parameters(norm, padding):
    """The paper says about 65 K for textures: 3·3 and 1·1 weights of the four joins are 65 664.

    With the branches' 4280, the last layer's 120, biases (683) and norms (912), we have 10 % more.
    """
    joins = 19 * (16**2 + 24**2 + 32**2 + 40**2)
    assert joins == 65_664
    assert joins + 5 * 856 + 120 + 683 + 912 == count(3, 5) == 71_659
    assert count(6, 6) == 118_211
    for photo, num_scales, expected in ((False, 5, 71_659), (True, 6, 118_211)):
        generator = UlyanovGenerator(photo, num_scales, norm=norm, padding=padding)
        assert sum(p.numel() for p in generator.parameters()) == expected


def test_the_papers_stylisation_network_is_the_default():
    arguments = UlyanovGenerator().arguments
    assert (arguments["num_scales"], arguments["num_channels"]) == (6, 8)
    assert [b[0].in_channels for b in UlyanovGenerator().branches] == [6] * 6
    assert [j.block[0].in_channels for j in UlyanovGenerator().joins] == [16, 24, 32, 40, 48]


# The same network, written plainly


def by_the_book(generator, photo, noise):
    """From the state dict alone, from the finest scale down by recursion, float64."""
    arguments = generator.arguments
    weights = {name: tensor.double() for name, tensor in generator.state_dict().items()}
    y = photo.double() - 0.5

    def norm(x, name):
        scale, shift = (weights[f"{name}.{w}"].view(1, -1, 1, 1) for w in ("weight", "bias"))
        if arguments["norm"] == "batch":
            mean = weights[f"{name}.running_mean"].view(1, -1, 1, 1)
            var = weights[f"{name}.running_var"].view(1, -1, 1, 1)
        else:
            mean = x.mean((2, 3), keepdim=True)
            var = ((x - mean) ** 2).mean((2, 3), keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def block(x, name):
        for i in (0, 3, 6):
            weight = weights[f"{name}.{i}.weight"]
            if weight.shape[-1] == 3:
                h, w = x.shape[-2:]
                rows, columns = (torch.arange(-1, size + 1) for size in (h, w))
                if arguments["padding"] == "circular":
                    rows, columns = rows % h, columns % w
                else:
                    rows = (h - 1) - ((h - 1) - rows.abs()).abs()
                    columns = (w - 1) - ((w - 1) - columns.abs()).abs()
                x = x[..., rows, :][..., columns]
            x = norm(F.conv2d(x, weight, weights[f"{name}.{i}.bias"]), f"{name}.{i + 1}")
            x = torch.where(x > 0, x, 0.01 * x)
        return x

    def branch(level):
        z = noise[level].double() * generator.noise_strength
        if arguments["photo"]:
            size = 2 ** (arguments["num_scales"] - 1 - level)
            z = torch.cat([y.unfold(2, size, size).unfold(3, size, size).mean((4, 5)), z], dim=1)
        return block(z, f"branches.{level}")

    def up_to(level):
        if level == 0:
            return branch(0)
        coarse = up_to(level - 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
        coarse = norm(coarse, f"joins.{level - 1}.norm_coarse")
        fine = norm(branch(level), f"joins.{level - 1}.norm_fine")
        return block(torch.cat([coarse, fine], dim=1), f"joins.{level - 1}.block")

    top = up_to(arguments["num_scales"] - 1)
    pixels = F.conv2d(top, weights["to_rgb.weight"], weights["to_rgb.bias"])
    return (1 + (pixels / 4).tanh()) / 2


@every_option
def test_it_is_the_network_of_the_paper(photo, norm, padding):
    generator = small(photo, norm, padding)
    generator.noise_strength = 1.3
    given = torch.rand(2, 3, 20, 28)
    noise = generator.draw_noise(2, 20, 28)
    with torch.no_grad():
        painted = generator(given, noise)
        assert torch.equal(painted, generator(given))
    expected = by_the_book(generator, given, noise)
    assert painted.std() > 0.02
    torch.testing.assert_close(painted.double(), expected, rtol=0, atol=1e-5)


def test_the_pyramid_averages_what_there_is():
    image = torch.arange(15.0).view(1, 1, 3, 5)
    half, whole = average_pyramid(image, 2)
    assert torch.equal(whole, image)
    expected = torch.tensor([[3.0, 5, 6.5], [10.5, 12.5, 14]])  # such as (0 + 1 + 5 + 6) / 4
    assert torch.equal(half, expected.view(1, 1, 2, 3))


# Sizes and ranges


@every_option
@pytest.mark.parametrize("size", [(5, 5), (17, 31), (64, 66)])
def test_size_and_range_are_kept(photo, norm, padding, size):
    generator = small(photo, norm, padding).train()
    given = torch.rand(2, 3, *size)
    before = given.clone()
    with torch.no_grad():
        generator.to_rgb.weight.mul_(30)  # far into tanh's ends
        painted = generator(given)
    assert painted.shape == given.shape
    assert painted.min() >= 0
    assert painted.max() <= 1
    assert painted.max() - painted.min() > 0.5
    assert torch.equal(given, before)


@pytest.mark.parametrize(("photo", "num_scales", "least"), [(True, 6, 33), (False, 5, 17)])
def test_what_is_too_small(photo, num_scales, least):
    generator = UlyanovGenerator(photo, num_scales)
    assert generator.min_size_px == least
    assert texture(generator, least, least + 1).isfinite().all()
    what = "photo" if photo else "texture"
    match = f"^{what} of 70×{least - 1} px; each side must be ≥ {least} px"
    with pytest.raises(InputError, match=match):
        texture(generator, least - 1, 70)


def test_an_option_out_of_its_range():
    for option in ("norm", "padding"):
        with pytest.raises(InputError, match=f"generator.{option}=none; choose one of [a-z]+, "):
            UlyanovGenerator(**{option: "none"})
    for option in ("num_scales", "num_channels"):
        with pytest.raises(InputError, match=f"generator.{option}=0 must be at least 1$"):
            UlyanovGenerator(**{option: 0})
    with pytest.raises(InputError, match=r"num_noise_channels=0 .* a texture is made of noise"):
        UlyanovGenerator(photo=False, num_noise_channels=0)


@every_option
@pytest.mark.parametrize("colour", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_flat_photo_stays_finite(photo, norm, padding, colour, strength):
    generator = small(photo, norm, padding).train()
    generator.noise_strength = strength
    painted = generator(torch.full((1, 3, 20, 20), colour))
    painted.sum().backward()
    assert painted.isfinite().all()
    assert all(p.grad.isfinite().all() for p in generator.parameters())


@every_option
def test_output_is_float32_under_autocast(photo, norm, padding):
    generator = small(photo, norm, padding)
    given = torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        painted = generator(given)
    assert painted.dtype == torch.float32
    assert (painted - generator(given)).abs().mean() < 0.02


def test_one_scale_and_no_noise_will_do():
    generator = UlyanovGenerator(num_scales=1, num_noise_channels=0).eval()
    photo = torch.rand(1, 3, 6, 7)
    assert torch.equal(generator(photo), generator(photo))
    generator.train()
    assert torch.equal(generator(photo), generator(photo))


# Textures tile


@pytest.mark.parametrize("norm", NORMS)
def test_rolling_the_noise_rolls_the_texture(norm):
    """So that no place, and no seam, is different from any other."""
    generator = small(False, norm, "circular")
    canvas = torch.ones(1, 3, 24, 32)
    noise = generator.draw_noise(1, 24, 32)
    rolled = [z.roll((2**k, 3 * 2**k), (2, 3)) for k, z in enumerate(noise)]
    with torch.no_grad():
        painted, other = generator(canvas, noise), generator(canvas, rolled)
    assert painted.std() > 0.05
    torch.testing.assert_close(other, painted.roll((4, 12), (2, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (18, 21)])
def test_a_tiled_texture_is_the_texture_of_tiled_noise_at_the_seam(size):
    """At any size: beyond its edge a texture goes on as if the next tile were painted with it."""
    generator = small(False, "batch", "circular")
    height, width = size
    noise = generator.draw_noise(1, height, width)
    seen: list[torch.Tensor] = []
    handle = generator.joins[-1].block[0].register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    with torch.no_grad():
        painted = generator(torch.ones(1, 3, height, width), noise)
        handle.remove()
        # The finest block on three tiles in a row, their outer columns aside, and the last layer.
        x = generator.joins[-1].block(seen[0].repeat(1, 1, 3, 3))
        tiled = 0.5 + 0.5 * (generator.to_rgb(x) / 4).tanh()
    inner = tiled[..., 3:-3, 3:-3]
    torch.testing.assert_close(
        inner, painted.repeat(1, 1, 3, 3)[..., 3:-3, 3:-3], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (18, 21)])
def test_an_edge_sees_the_opposite_edge(size):
    """A pixel at one edge depends on noise at the other with circular padding alone."""
    height, width = size
    for padding in PADDINGS:
        generator = small(False, "batch", padding)
        noise = [z.requires_grad_() for z in generator.draw_noise(1, height, width)]
        painted = generator(torch.ones(1, 3, height, width), noise)
        painted[0, :, height // 2, 0].sum().backward()
        far = noise[-1].grad[0, :, height // 2, -1].abs().sum()
        assert (far > 0) == (padding == "circular")
        near = noise[-1].grad[0, :, height // 2, 1].abs().sum()
        assert near > 0


# Noise


@pytest.mark.parametrize("photo", [True, False])
def test_a_seed_is_a_picture(photo):
    generator = small(photo)
    given = torch.rand(1, 3, 20, 20).expand(3, -1, -1, -1)
    state = torch.get_rng_state()
    with torch.no_grad():
        first = generator(given)
        assert torch.equal(generator(given), first)
        torch.testing.assert_close(generator(given[:1]), first[:1], rtol=0, atol=1e-5)
        for a, b in itertools.combinations(first, 2):  # one photo, three paintings
            assert (a - b).abs().max() > 0.01
        generator.noise_seed = 1
        assert (generator(given) - first).abs().max() > 0.01
        generator.noise_seed = 0
        assert torch.equal(generator(given), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_uniform_and_of_every_scale():
    generator = UlyanovGenerator().eval()
    noise = generator.draw_noise(2, 200, 131)
    sizes = [(7, 5), (13, 9), (25, 17), (50, 33), (100, 66), (200, 131)]
    assert [z.shape for z in noise] == [(2, 3, *size) for size in sizes]
    z = noise[-1]
    assert -0.5 <= z.min() < -0.49
    assert 0.49 < z.max() <= 0.5
    assert abs(z.mean()) < 0.005
    assert z.var() == pytest.approx(1 / 12, rel=0.01)


def test_without_strength_the_seed_is_nothing():
    generator = small()
    photo = torch.rand(1, 3, 20, 20)
    pictures = []
    for strength, seed in ((0.0, 0), (0.0, 5), (0.5, 0), (1.0, 0)):
        generator.noise_strength, generator.noise_seed = strength, seed
        pictures.append(generator(photo).detach())
    assert torch.equal(pictures[0], pictures[1])
    half, whole = ((p - pictures[0]).abs().mean() for p in pictures[2:])
    assert 0 < half < whole


def test_training_draws_anew_and_goes_on_from_a_saved_state():
    generator = small().train()
    photo = torch.rand(1, 3, 20, 20)
    state = torch.get_rng_state()
    first, second = generator(photo), generator(photo)
    assert (first - second).abs().max() > 0.01
    torch.set_rng_state(state)
    assert torch.equal(generator(photo), first)
    assert torch.equal(generator(photo), second)


def test_every_process_draws_its_own(monkeypatch):
    generator = small().train()
    drawn = []
    for rank in (0, 1):
        monkeypatch.setattr("allaprima.generators.ulyanov.process_rank", lambda rank=rank: rank)
        torch.manual_seed(3)
        drawn.append(generator.draw_noise(1, 20, 20)[-1])
    assert (drawn[0] - drawn[1]).abs().mean() > 0.2
    drawn = []
    for rank in (0, 1):  # but all paint the same validation photos alike
        monkeypatch.setattr("allaprima.generators.ulyanov.process_rank", lambda rank=rank: rank)
        drawn.append(generator.eval().draw_noise(1, 20, 20)[-1])
    assert torch.equal(*drawn)


# As a module


@every_option
def test_gradients_reach_every_parameter(photo, norm, padding):
    generator = small(photo, norm, padding).train()
    given = torch.rand(2, 3, 32, 32, requires_grad=True)
    (generator(given) - torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert (given.grad is not None) == photo
    for name, parameter in generator.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_option
def test_memory_format_changes_nothing(photo, norm, padding):
    generator = small(photo, norm, padding)
    given = torch.rand(1, 3, 20, 23)
    expected = generator(given)
    generator.to(memory_format=torch.channels_last)
    painted = generator(given.to(memory_format=torch.channels_last))
    torch.testing.assert_close(painted, expected, rtol=0, atol=1e-5)


def test_batch_norm_paints_with_the_statistics_of_training():
    generator = small(norm="batch").train()
    photos = torch.rand(4, 3, 20, 20)
    before = copy.deepcopy(generator.state_dict())
    generator(photos)
    after = generator.state_dict()
    changed = [name for name in after if not torch.equal(before[name], after[name])]
    assert len(changed) == 3 * (3 * 3 + 2 * (3 + 2))  # of three branches and two joins
    assert all("running" in name or "num_batches" in name for name in changed)
    generator.eval()
    with torch.no_grad():
        alone, together = generator(photos[:1]), generator(photos)
    torch.testing.assert_close(alone, together[:1], rtol=0, atol=1e-5)
    assert all(torch.equal(after[name], value) for name, value in generator.state_dict().items())


@every_option
def test_a_file_paints_the_same(photo, norm, padding, tmp_path):
    generator = small(photo, norm, padding)
    twin = UlyanovGenerator(**generator.arguments)
    assert twin.arguments == generator.arguments
    assert str(twin) == str(generator)
    assert not {"noise_seed", "noise_strength"} & {*generator.arguments, *generator.state_dict()}
    file = tmp_path / "wave.safetensors"
    save_generator(file, generator, {})
    loaded, metadata = load_generator(file)
    given = torch.rand(1, 3, 21, 24)
    with torch.inference_mode():
        assert torch.equal(loaded(given), generator(given))
    assert metadata["generator"] == "ulyanov"
    assert metadata["arguments"]["photo"] is photo


def test_an_average_has_noise_of_its_own_training():
    average = AveragedModel(small().train())
    average.module.noise_seed = 4
    copied = copy.deepcopy(average).module.eval()
    assert (copied.noise_seed, copied.noise_strength) == (4, 1)
    photo = torch.rand(1, 3, 20, 20)
    assert torch.equal(copied(photo), average.module.eval()(photo))
