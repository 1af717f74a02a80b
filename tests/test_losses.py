from functools import partial

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import interpolate

from allaprima.errors import InputError
from allaprima.layer_weights import difference_chain
from allaprima.loss_network import LossNetwork
from allaprima.losses import (
    PerceptualLoss,
    gatys_style_error,
    gram_matrix,
    half_squared_error,
    mean_squared_error,
    relative_error,
    squared_error,
    total_variation,
)
from allaprima.palette import palette, palette_error, palette_power
from allaprima.tone import tone_error, tones

CHANNELS_LAST = torch.channels_last
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, CHANNELS_LAST])


def picture(size: int = 32, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Random blots, so that every layer has something to see."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, size // 4, size // 4, generator=generator)
    fine = torch.rand(batch, 3, size, size, generator=generator)
    return 0.8 * coarse.repeat_interleave(4, -1).repeat_interleave(4, -2) + 0.2 * fine


def plain_gram(features: torch.Tensor, divisor: float) -> torch.Tensor:
    return torch.einsum("bchw,bdhw->bcd", features, features) / divisor


# Gram matrix


@pytest.mark.parametrize(("divide_by", "divisor"), [("one", 1), ("hw", 2), ("chw", 4)])
def test_gram_by_hand(divide_by, divisor):
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    expected = torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / divisor
    torch.testing.assert_close(gram_matrix(features, divide_by), expected)


def test_gram_divides_by_channels_and_positions_unless_told():
    features = torch.rand(1, 3, 4, 5)
    assert torch.equal(gram_matrix(features), gram_matrix(features, "chw"))


@LAYOUTS
def test_gram_against_loops(layout):
    features = torch.randn(2, 3, 4, 5).to(memory_format=layout)
    expected = torch.zeros(2, 3, 3)
    for image in range(2):
        for a in range(3):
            for b in range(3):
                for row in range(4):
                    for column in range(5):
                        expected[image, a, b] += (
                            features[image, a, row, column] * features[image, b, row, column] / 20
                        )
    torch.testing.assert_close(gram_matrix(features, "hw"), expected)


@LAYOUTS
def test_gram_gradient_against_the_plain_formula(layout):
    """With an upstream gradient that is not symmetric, as a loss on part of the matrix gives."""
    values = torch.randn(2, 7, 5, 6)
    upstream = torch.randn(2, 7, 7)
    exact = values.double().requires_grad_()
    plain_gram(exact, 7 * 5 * 6).backward(upstream.double())
    features = values.to(memory_format=layout).requires_grad_()
    gram_matrix(features).backward(upstream)
    torch.testing.assert_close(features.grad, exact.grad.float())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gram_of_large_half_precision_activations(dtype, autocast):
    """A plain float16 product overflows at 65 504; here sums reach 10⁸."""
    values = 1e3 * torch.rand(1, 16, 12, 12)
    upstream = torch.randn(1, 16, 16)
    exact = values.double().requires_grad_()
    expected = plain_gram(exact, 12 * 12)
    expected.backward(upstream.double())

    features = values.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        gram = gram_matrix(features, "hw")
        gram.backward(upstream)
    assert gram.dtype == torch.float32
    assert features.grad.dtype == dtype
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(gram, expected.float(), rtol=rounding, atol=0)
    error = (features.grad.float() - exact.grad.float()).abs().max()
    assert error < 2 * rounding * exact.grad.abs().max()
    # Only the activations were rounded: the product itself is float32's.
    torch.testing.assert_close(gram, gram_matrix(features.detach().float(), "hw"))


def test_shifted_gram_by_hand():
    """Novak & Nikulin's (F + s)(F + s)ᵀ of [[1, 2], [3, 4]] with s = −1."""
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    expected = torch.tensor([[[1.0, 3.0], [3.0, 13.0]]])
    assert torch.equal(gram_matrix(features, "one", shift=-1), expected)


def test_gram_of_two_layers_by_hand():
    """One deep position over 2×2 shallow ones: its values times the sums of theirs."""
    deep = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1)
    shallow = torch.arange(4.0).view(1, 1, 2, 2)
    expected = torch.tensor([[[12.0], [-6.0]]])
    assert torch.equal(gram_matrix(deep, "one", other=shallow), expected)
    assert torch.equal(gram_matrix(deep, "hw", other=shallow), expected / 4)
    torch.testing.assert_close(gram_matrix(deep, other=shallow), expected / (4 * 2**0.5))


@pytest.mark.parametrize("sizes", [((3, 4), (6, 8)), ((3, 4), (7, 9)), ((2, 2), (8, 8))])
@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_gram_of_two_layers_is_that_of_the_enlarged(sizes, shift):
    deep, shallow = torch.randn(2, 5, *sizes[0]), torch.randn(2, 3, *sizes[1])
    enlarged = interpolate(deep, sizes[1], mode="nearest") + shift
    expected = torch.einsum("bchw,bdhw->bcd", enlarged, shallow + shift)
    found = gram_matrix(deep, "one", shift, other=shallow)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# Errors

VALUE = torch.tensor([[1.0, 2.0], [3.0, 5.0]])  # a batch of two
TARGET = torch.tensor([[1.0, 4.0], [0.0, 4.0]])
TARGET64 = torch.linspace(0.1, 2, 144, dtype=torch.float64).view(2, 3, 4, 6)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (squared_error, [4.0, 10.0]),
        (half_squared_error, [2.0, 5.0]),
        (mean_squared_error, [2.0, 5.0]),
        (relative_error, [4 / 17, 10 / 16]),
    ],
)
def test_errors_by_hand(error, expected):
    assert error(VALUE, TARGET).tolist() == pytest.approx(expected)


def test_gatys_style_error_is_equation_4_whatever_the_divisor_is_made_of():
    features, painted = torch.rand(1, 3, 4, 5), torch.rand(1, 3, 4, 5)
    plain = plain_gram(features, 1) - plain_gram(painted, 1)
    expected = plain.square().sum() / (4 * 3**2 * 20**2)
    grams = [gram_matrix(x, "hw") for x in (features, painted)]
    torch.testing.assert_close(gatys_style_error(*grams)[0], expected)
    torch.testing.assert_close(gatys_style_error(*grams, channels=6)[0], expected / 4)


@pytest.mark.parametrize("error", [squared_error, mean_squared_error, relative_error])
def test_errors_of_half_precision_are_float32_and_accept_one_target_for_all(error):
    value, target = 300 * torch.rand(3, 4, 5), 300 * torch.rand(1, 4, 5)
    found = error(value.half(), target.half())
    assert found.dtype == torch.float32
    assert found.shape == (3,)
    expected = torch.cat([error(v[None], target) for v in value])
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)


def test_relative_error_is_0_for_a_match_and_1_for_nothing():
    target = torch.randn(2, 3, 4)
    assert relative_error(target, target).tolist() == [0, 0]
    assert relative_error(torch.zeros_like(target), target).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e6])
def test_relative_error_does_not_know_scale(scale):
    value, target = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = relative_error(value, target)
    torch.testing.assert_close(relative_error(scale * value, scale * target), expected)


@pytest.mark.parametrize("value", [0.0, 1e-3, 1e3])
def test_relative_error_of_a_target_without_energy(value):
    image = torch.full((1, 3, 4), value, requires_grad=True)
    error = relative_error(image, torch.zeros(1, 3, 4)).sum()
    error.backward()
    assert error.isfinite()
    assert image.grad.isfinite().all()


# Total variation


def test_total_variation_by_hand():
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0] = torch.tensor([[0.0, 1.0], [0.5, 0.0]])
    expected = (0.5**2 + 1**2) + (1**2 + 0.5**2)  # down, across
    assert total_variation(image).tolist() == pytest.approx([expected])
    assert total_variation(image, mean=True).tolist() == pytest.approx([expected / 12])
    of_bytes = total_variation(image, pixel_range=255)
    assert of_bytes.tolist() == pytest.approx([expected * 255**2])


def test_total_variation_of_each_image():
    images = torch.rand(3, 3, 5, 7)
    images[1] = 0.3
    found = total_variation(images)
    assert found[1] == 0
    torch.testing.assert_close(found[2:], total_variation(images[2:]))


def test_mean_total_variation_does_not_grow_with_the_image():
    small = torch.rand(1, 3, 64, 64)
    large = small.repeat(1, 1, 4, 4)
    ratio = total_variation(large, mean=True) / total_variation(small, mean=True)
    assert ratio.item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.25])
def test_total_variation_with_a_power_by_hand(power):
    image = torch.zeros(1, 1, 2, 2)
    image[0, 0] = torch.tensor([[0.0, 1.0], [0.5, 0.0]])
    expected = (0.5**2 + 1**2) ** power + (1**2) ** power + (0.5**2) ** power
    assert total_variation(image, power=power).tolist() == pytest.approx([expected])


@pytest.mark.parametrize("power", [0.5, 0.75, 1.25])
def test_total_variation_has_a_gradient_between_equal_pixels(power):
    image = torch.full((1, 3, 6, 6), 0.5)
    image[..., 3, 3] = 0.7
    image.requires_grad_()
    total_variation(image, power=power).sum().backward()
    assert image.grad.isfinite().all()
    assert image.grad[..., 3, 3].abs().min() > 0
    assert total_variation(torch.ones(1, 3, 5, 5), power=power).item() == 0


def test_total_variation_of_too_small_a_power():
    with pytest.raises(InputError, match=r"power=0.4.*0\.5"):
        total_variation(torch.rand(1, 3, 4, 4), power=0.4)


# Gradients


@pytest.mark.parametrize(
    "function",
    [
        gram_matrix,
        partial(gram_matrix, divide_by="hw", shift=-1.0),
        lambda x: gram_matrix(x[..., :2, :3], other=x),
        partial(relative_error, target=TARGET64),
        partial(half_squared_error, target=TARGET64),
        lambda x: gatys_style_error(gram_matrix(x, "hw"), gram_matrix(TARGET64, "hw")),
        total_variation,
        partial(total_variation, power=1.25, pixel_range=255.0),
        partial(total_variation, power=0.5, mean=True),
    ],
)
def test_gradcheck(function):
    values = torch.rand(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    assert gradcheck(function, values)


def test_the_whole_loss_changes_as_its_gradient_says(style):
    """Along a direction, in float64, through the network."""
    network = LossNetwork(deepest_layer="relu2_1").double()
    layers = {"relu1_1": 0.5, "relu2_1": 1.0, "relu2_1*relu1_2": 2.0}
    loss = PerceptualLoss(
        network,
        style.double(),
        {"relu1_2": 1.0},
        layers,
        total_variation_weight=0.1,
        gram=partial(gram_matrix, shift=-1.0),
        style_error=relative_error,
        content_error=relative_error,
    )
    targets = loss.content_targets(picture(seed=2).double())

    def total(image):
        return torch.stack(list(loss(image, targets).values())).sum()

    image = picture(seed=3).double().requires_grad_()
    total(image).backward()
    direction = torch.randn_like(image)
    step = 1e-6 * direction
    with torch.no_grad():
        found = (total(image + step) - total(image - step)) / 2e-6
    torch.testing.assert_close(found, (image.grad * direction).sum(), rtol=1e-4, atol=0)


# Perceptual loss


CONTENT = {"relu2_2": 1.0}
STYLE = {"relu1_2": 0.5, "relu2_1": 2.0}


@pytest.fixture
def style():
    return picture(seed=1)[0]


@pytest.fixture
def relative(vgg19, style):
    """The kind of loss that is trained with."""
    return PerceptualLoss(
        vgg19,
        style,
        {"relu3_1": 1.0},
        {"relu1_2": 0.5, "relu3_1": 0.5},
        style_weight=10,
        total_variation_weight=0.1,
        gram=partial(gram_matrix, divide_by="hw"),
        content_error=relative_error,
        style_error=relative_error,
        variation=partial(total_variation, mean=True),
    )


def terms_of(loss: PerceptualLoss, stylized: torch.Tensor, photo: torch.Tensor) -> dict:
    return loss(stylized, loss.content_targets(photo))


def test_terms_are_the_papers_sum(vgg19, style):
    """Johnson 2016, equations 2 to 4, written out on the activations themselves."""
    loss = PerceptualLoss(vgg19, style, CONTENT, STYLE, 3.0, 5.0, 1e-3)
    photo, stylized = picture(seed=2, batch=2), picture(seed=3, batch=2)
    terms = terms_of(loss, stylized, photo)

    layers = ["relu1_2", "relu2_1", "relu2_2"]
    ours, photos, styles = (vgg19(x, layers) for x in (stylized, photo, style[None]))
    expected = {"content/relu2_2": 3 * (ours["relu2_2"] - photos["relu2_2"]).square().mean()}
    for layer, weight in STYLE.items():
        divisor = ours[layer][0].numel()
        difference = plain_gram(ours[layer], divisor) - plain_gram(styles[layer], divisor)
        expected[f"style/{layer}"] = 5 * weight * difference.square().sum() / 2  # two photos
    down, across = stylized.diff(dim=-2), stylized.diff(dim=-1)
    variation = (down.square().sum() + across.square().sum()) / 2
    expected["total_variation"] = 1e-3 * variation
    assert list(terms) == list(expected)
    for name in expected:
        torch.testing.assert_close(terms[name], expected[name], rtol=1e-4, atol=1e-6)


def test_the_style_image_has_no_style_error_and_the_photo_no_content_error(relative, style):
    photo = picture(seed=2)
    of_style = terms_of(relative, style[None], photo)
    of_photo = terms_of(relative, photo, photo)
    for name in of_style:
        part = name.split("/")[0]
        assert (of_style[name] < 1e-8) == (part == "style"), name
        assert (of_photo[name] < 1e-8) == (part == "content"), name


def test_weights_scale_their_own_terms(vgg19, style):
    photo, stylized = picture(seed=2), picture(seed=3)
    once = terms_of(PerceptualLoss(vgg19, style, CONTENT, STYLE, 1, 1, 1), stylized, photo)
    heavier = PerceptualLoss(vgg19, style, {"relu2_2": 2}, STYLE | {"relu2_1": 8}, 2, 3, 5)
    factors = {"content/relu2_2": 4, "style/relu1_2": 3, "style/relu2_1": 12, "total_variation": 5}
    for name, value in terms_of(heavier, stylized, photo).items():
        torch.testing.assert_close(value, factors[name] * once[name])


def test_the_loss_of_a_batch_is_the_mean_of_its_images(relative):
    photos, stylized = picture(seed=2, batch=3), picture(seed=3, batch=3)
    together = terms_of(relative, stylized, photos)
    pairs = zip(stylized.split(1), photos.split(1), strict=True)
    singles = [terms_of(relative, s, p) for s, p in pairs]
    for name, value in together.items():
        expected = torch.stack([single[name] for single in singles]).mean()
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-7)


def test_parts_without_weight_have_no_terms(vgg19, style):
    layers = STYLE | {"relu4_1": 0.0}
    loss = PerceptualLoss(vgg19, style, CONTENT, layers, content_weight=0)
    assert loss.content_targets(picture()) == {}
    assert list(loss(picture(), {})) == ["style/relu1_2", "style/relu2_1"]
    variation_alone = PerceptualLoss(vgg19, style, {}, {}, total_variation_weight=1)
    assert list(variation_alone(picture(), {})) == ["total_variation"]


def test_content_targets_stop_at_the_content_layer(vgg19, style):
    loss = PerceptualLoss(vgg19, style, CONTENT, {"relu4_1": 1.0})
    called = []
    hooks = [
        conv.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, conv in vgg19.named_children()
    ]
    targets = loss.content_targets(picture())
    for hook in hooks:
        hook.remove()
    assert called == ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]
    assert list(targets) == ["relu2_2"]
    assert not targets["relu2_2"].requires_grad


def test_only_the_stylised_photo_gets_a_gradient(relative):
    stylized = picture(seed=3).requires_grad_()
    sum(terms_of(relative, stylized, picture(seed=2)).values()).backward()
    assert stylized.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in relative.parameters())


def test_terms_under_autocast_are_float32(relative):
    photo, stylized = picture(seed=2), picture(seed=3)
    expected = terms_of(relative, stylized, photo)
    with torch.autocast("cpu", torch.bfloat16):
        terms = terms_of(relative, stylized, photo)
    for name, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=0)


@pytest.mark.parametrize("colour", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("flat_style", [False, True])
def test_one_flat_colour_gives_finite_losses_and_gradients(vgg19, style, colour, flat_style):
    photo = torch.full((1, 3, 32, 32), colour)
    if flat_style:
        style = torch.full_like(style, colour)
    for content_error, style_error in (
        (relative_error, relative_error),
        (mean_squared_error, squared_error),
    ):
        loss = PerceptualLoss(
            vgg19,
            style,
            CONTENT,
            STYLE,
            total_variation_weight=1.0,
            content_error=content_error,
            style_error=style_error,
        )
        stylized = photo.clone().requires_grad_()
        total = torch.stack(list(terms_of(loss, stylized, photo).values())).sum()
        total.backward()
        assert total.isfinite()
        assert stylized.grad.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {"content_weight": -1.0},
        {"total_variation_weight": -1e-6},
        {"style_layers": {"relu1_1": -0.5}},
        {"content_weight": 0.0, "style_weight": 0.0},
        {"content_layers": {"relu2_2": 0.0}, "style_layers": {"relu1_1": 0.0}},
        {"content_layers": {}, "style_weight": 0.0},
        {"content_layers": {}, "style_layers": {}},
    ],
)
def test_weights_that_are_negative_or_all_zero(vgg19, style, options):
    arguments = {"content_layers": CONTENT, "style_layers": STYLE} | options
    with pytest.raises(InputError, match="weights must be"):
        PerceptualLoss(vgg19, style, **arguments)


@pytest.mark.parametrize("layers", [{"relu3_9": 1.0}, {"relu3_3": 1.0, "3": 1.0}])
def test_unknown_layers(vgg19, style, layers):
    with pytest.raises(InputError, match=r"unknown layer of vgg19 '(relu3_9|3)'; choose one of"):
        PerceptualLoss(vgg19, style, layers, STYLE)
    with pytest.raises(InputError, match=r"unknown layer of vgg19 '(relu3_9|3)'; choose one of"):
        PerceptualLoss(vgg19, style, CONTENT, layers)


def test_layers_that_the_network_was_cut_before(style):
    network = LossNetwork(deepest_layer="relu1_2")
    with pytest.raises(InputError, match="'relu2_1'"):
        PerceptualLoss(network, style, {}, STYLE)


def test_an_unknown_gram_divisor_lists_the_known():
    with pytest.raises(InputError, match="one, hw, chw"):
        gram_matrix(torch.rand(1, 2, 3, 3), "pixels")


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("relu1_2*relu2_1", r"relu2_1\*relu1_2"),
        ("relu1_2*relu1_2", "deeper"),
        ("relu2_1*relu9_9", "relu9_9.*choose one of"),
        ("relu9_9*relu1_1", "relu9_9.*choose one of"),
    ],
)
def test_pairs_that_are_none(vgg19, style, pair, words):
    with pytest.raises(InputError, match=words):
        PerceptualLoss(vgg19, style, {}, {pair: 1.0})


# Several styles, chains


def test_a_pair_is_matched_by_the_style_image_and_by_no_other(vgg19, style):
    loss = PerceptualLoss(vgg19, style, {}, {"relu2_1*relu1_2": 1.0}, style_error=relative_error)
    assert list(loss.target_grams) == ["relu2_1*relu1_2"]
    assert loss.target_grams["relu2_1*relu1_2"].shape == (1, 128, 64)
    assert loss(style[None], {})["style/relu2_1*relu1_2"] < 1e-8
    assert loss(picture(seed=5), {})["style/relu2_1*relu1_2"] > 1e-3


def test_a_chain_of_differences_is_the_explicit_sum(vgg19, style):
    weights = {"relu1_1": 0.25, "relu1_2": 0.5, "relu2_1": 1.0}
    single = PerceptualLoss(vgg19, style, {}, dict.fromkeys(weights, 1.0))
    e = list(single(picture(seed=3), {}).values())
    expected = 0.25 * (e[0] - e[1]) + 0.5 * (e[1] - e[2])
    chained = PerceptualLoss(vgg19, style, {}, difference_chain(weights))
    terms = chained(picture(seed=3), {})
    torch.testing.assert_close(torch.stack(list(terms.values())).sum(), expected)


def test_blended_targets_are_the_mean_of_the_paintings(vgg19, style):
    other = picture(size=48, seed=4)[0]  # of another size
    one, two = (PerceptualLoss(vgg19, s, {}, STYLE).target_grams for s in (style, other))
    for blend, shares in (([2, 6], (0.25, 0.75)), (None, (0.5, 0.5)), ([1, 0], (1, 0))):
        loss = PerceptualLoss(vgg19, [style, other], {}, STYLE, blend=blend)
        for layer in STYLE:
            expected = shares[0] * one[layer] + shares[1] * two[layer]
            torch.testing.assert_close(loss.target_grams[layer], expected)
        assert len(loss.styles) == 2
        assert torch.equal(loss.style, style)


def test_for_style_is_the_loss_made_anew(relative):
    others = [picture(seed=5)[0], picture(seed=6)[0]]
    before = copy_of(relative.target_grams)
    blended = relative.for_style(others, [3, 1])
    photo, stylized = picture(seed=2), picture(seed=3)
    alone = [terms_of(relative.for_style(s), stylized, photo) for s in others]
    assert list(terms_of(blended, stylized, photo)) == list(alone[0])
    assert blended.network is relative.network
    assert copy_of(relative.target_grams).keys() == before.keys()
    for layer, gram in before.items():
        assert torch.equal(relative.target_grams[layer], gram)
    own = relative.for_style(relative.style)
    for name, value in terms_of(own, stylized, photo).items():
        torch.testing.assert_close(value, terms_of(relative, stylized, photo)[name])


def test_the_palette_is_a_term_of_the_loss(vgg19, style):
    stylized = picture(seed=3).requires_grad_()
    target = palette(style[None])
    expected = 7 * palette_error(palette(stylized), target).mean() / palette_power(target)[0]
    loss = PerceptualLoss(vgg19, style, {}, {}, palette_weight=7.0)
    for each in (loss, loss.for_style(style)):
        terms = each(stylized, {})
        assert list(terms) == ["palette"]
        torch.testing.assert_close(terms["palette"], expected)
    terms["palette"].backward()
    assert stylized.grad.abs().max() > 0
    torch.testing.assert_close(loss(style[None], {})["palette"], torch.tensor(0.0))


def test_the_palette_of_several_paintings_is_between_theirs(vgg19, style):
    other = picture(seed=6)[0]
    loss = PerceptualLoss(vgg19, [style, other], {}, {}, palette_weight=1.0, blend=[1, 3])
    between = palette(style[None]) / 4 + palette(other[None]) * 3 / 4
    torch.testing.assert_close(loss.pixels.target_palette, between)
    assert not any("palette" in name for name in loss.state_dict())


class AlwaysPadding:
    """A loss network that pads so, whatever it is asked."""

    def __init__(self, network: LossNetwork, padding: str):
        self.network, self.padding = network, padding

    def __getattr__(self, name: str):
        return getattr(self.network, name)

    def __call__(self, images: torch.Tensor, layers: list[str], _: str) -> dict:
        return self.network(images, layers, self.padding)


def test_padding_is_of_painting_photo_and_stylised_photo(vgg19, style):
    """At every scale; pixels have none."""
    options = {
        "network": vgg19,
        "style": style,
        "content_layers": CONTENT,
        "style_layers": STYLE,
        "style_scales": {1: 0.5, 2: 0.5},
        "content_unit": "style",
        "palette_weight": 1.0,
    }
    stylized, photo = picture(seed=2), picture(seed=3)

    zeros, reflected = (
        terms_of(PerceptualLoss(**options | {"network": network}), stylized, photo)
        for network in (vgg19, AlwaysPadding(vgg19, "reflect"))
    )
    for padding, terms in (("zeros", zeros), ("reflect", reflected)):
        loss = PerceptualLoss(**options, padding=padding)
        for each in (loss, loss.for_style(style)):
            torch.testing.assert_close(terms_of(each, stylized, photo), terms)
    differ = {name for name in zeros if not torch.equal(zeros[name], reflected[name])}
    assert differ == set(zeros) - {"palette"}


@pytest.mark.parametrize("padding", ["replicate", None, 1])
def test_a_padding_of_no_such_name(vgg19, style, padding):
    with pytest.raises(InputError, match=rf"loss\.padding={padding}: choose zeros or reflect"):
        PerceptualLoss(vgg19, style, CONTENT, STYLE, padding=padding)


def test_the_palette_of_no_painting_is_refused(vgg19):
    with pytest.raises(InputError, match=r"loss\.palette_weight=2.0 needs a style image"):
        PerceptualLoss(vgg19, None, {"relu2_2": 1.0}, {}, palette_weight=2.0)
    with pytest.raises(InputError, match="must be ≥ 0"):
        PerceptualLoss(vgg19, None, {"relu2_2": 1.0}, {}, palette_weight=-1.0)


def test_light_and_dark_are_a_term_of_the_loss(vgg19, style):
    stylized, photo = picture(64, seed=3, batch=2), picture(64, seed=4, batch=2)
    expected = 3 * tone_error(tones(stylized), tones(photo)).mean()
    loss = PerceptualLoss(vgg19, style, {}, STYLE, tone_weight=3.0)
    for each in (loss, loss.for_style(style)):
        targets = each.content_targets(photo)
        assert list(targets) == ["tone"]
        torch.testing.assert_close(each(stylized, targets)["tone"], expected)
    alone = PerceptualLoss(vgg19, None, {}, {}, tone_weight=3.0)
    assert list(terms_of(alone, stylized, photo)) == ["tone"]
    with pytest.raises(InputError, match="must be ≥ 0"):
        PerceptualLoss(vgg19, style, {}, STYLE, tone_weight=-1.0)


def test_a_picture_at_half_the_size_is_compared_with_the_painting_at_half(vgg19, style):
    stylized = picture(seed=3).requires_grad_()

    def halved(images):
        return torch.nn.functional.avg_pool2d(images, 2)

    loss = PerceptualLoss(vgg19, style, {}, STYLE, style_scales={1: 0.75, 2: 0.25})
    whole = PerceptualLoss(vgg19, style, {}, STYLE)(stylized, {})
    half = PerceptualLoss(vgg19, halved(style[None])[0], {}, STYLE)(halved(stylized), {})
    expected = {name: 0.75 * value for name, value in whole.items()}
    expected |= {f"{name}@2": 0.25 * value for name, value in half.items()}
    for found in (loss(stylized, {}), loss.for_style(style)(stylized, {})):
        torch.testing.assert_close(found, expected)
    only_half = PerceptualLoss(vgg19, style, CONTENT, STYLE, style_scales={2: 1.0})
    terms = terms_of(only_half, stylized, picture(seed=2))
    assert list(terms) == ["content/relu2_2", *(f"style/{layer}@2" for layer in STYLE)]


@pytest.mark.parametrize("scales", [{}, {0: 1.0}, {1: 0.0}, {1: 1.0, 2: -1.0}])
def test_scales_that_are_none(vgg19, style, scales):
    with pytest.raises(InputError, match=r"loss\.style_scales"):
        PerceptualLoss(vgg19, style, {}, STYLE, style_scales=scales)


def test_a_content_error_in_units_of_the_painting(vgg19, style):
    """A painting twice as strong in its activations leaves a quarter; its weight is the same."""
    photo, stylized = picture(seed=2), picture(seed=3)
    plain = PerceptualLoss(vgg19, style, CONTENT, STYLE)
    unit = PerceptualLoss(vgg19, style, CONTENT, STYLE, content_unit="style")
    [layer] = CONTENT
    energy = vgg19(style[None], [layer])[layer].square().mean()
    expected = terms_of(plain, stylized, photo)[f"content/{layer}"] / energy
    for loss in (unit, unit.for_style(style)):
        found = terms_of(loss, stylized, photo)[f"content/{layer}"]
        torch.testing.assert_close(found, expected)
    other = picture(size=48, seed=4)[0]
    both = PerceptualLoss(vgg19, [style, other], CONTENT, STYLE, content_unit="style", blend=[3, 1])
    energies = [vgg19(s[None], [layer])[layer].square().mean() for s in (style, other)]
    assert both.content_units[layer] == pytest.approx(float(3 * energies[0] + energies[1]) / 4)


@pytest.mark.parametrize(("unit", "given"), [("photo", True), ("style", False)])
def test_a_content_unit_that_is_none(vgg19, style, unit, given):
    with pytest.raises(InputError, match=r"loss\.content_unit"):
        PerceptualLoss(vgg19, style if given else None, CONTENT, {}, content_unit=unit)


def copy_of(grams) -> dict[str, torch.Tensor]:
    return {layer: gram.clone() for layer, gram in grams.items()}


def test_no_style_image_where_no_style_layer_counts(vgg19):
    loss = PerceptualLoss(vgg19, None, CONTENT, STYLE, style_weight=0)
    assert loss.style is None
    assert list(terms_of(loss, picture(seed=3), picture(seed=2))) == ["content/relu2_2"]
    with pytest.raises(InputError, match=r"relu1_2.*need a style image"):
        PerceptualLoss(vgg19, None, CONTENT, STYLE)


@pytest.mark.parametrize(
    ("blend", "words"),
    [([1.0], "1 weights for 2"), ([0, 0], "one of them > 0"), ([2, -1], "≥ 0")],
)
def test_blends_that_are_none(vgg19, style, blend, words):
    with pytest.raises(InputError, match=words):
        PerceptualLoss(vgg19, [style, style], {}, STYLE, blend=blend)


def test_images_that_are_too_small_for_a_layer(vgg19):
    small = picture(12)
    layers = {"relu5_1": 1.0}
    with pytest.raises(InputError, match=r"style image of 12 × 12 px.*relu5_1: 16 px"):
        PerceptualLoss(vgg19, small[0], {}, layers)
    loss = PerceptualLoss(vgg19, picture()[0], {}, layers)
    with pytest.raises(InputError, match=r"photo of 12 × 12 px.*relu5_1: 16 px"):
        loss.content_targets(small)
    assert PerceptualLoss(vgg19, picture(16)[0], {}, layers)(picture(16), {})
