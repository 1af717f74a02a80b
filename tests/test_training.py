"""The moving average by hand; the module's averages, its step and its rehearsal."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from allaprima.errors import InputError
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.generators.johnson_superres import JohnsonSuperresolutionGenerator
from allaprima.losses import PerceptualLoss
from allaprima.schedules import constant
from allaprima.tasks import Colorization, Stylization, SuperResolution, Task
from allaprima.training import StyleTransferModule, _moving_average, unsteadiness


def test_moving_average_starts_as_a_short_memory_and_ends_as_the_decay():
    layer = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(layer, multi_avg_fn=_moving_average(0.5))
    expected = None
    for count, value in enumerate([4.0, 8.0, 2.0, 6.0] + [1.0] * 20):
        layer.weight.data.fill_(value)
        average.update_parameters(layer)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)


def make_module(vgg19, generator: nn.Module, average_decay: float, task: Task):
    loss = PerceptualLoss(vgg19, None, {"relu1_2": 1.0}, {})
    return StyleTransferModule(generator, loss, torch.optim.Adam, constant, average_decay, task)


BATCH_NORM = [
    (lambda: JohnsonGenerator((4, 4, 8), 1, norm="batch"), Stylization()),
    (lambda: JohnsonGenerator((4, 4, 8), 1, norm="batch", input="luminance"), Colorization()),
    (lambda: JohnsonSuperresolutionGenerator(4, 4, 1), SuperResolution(4)),
]


def steps(module: StyleTransferModule, num_steps: int):
    """Training steps without Lightning; the module's state after each."""
    optimizer = module.configure_optimizers()
    for _ in range(num_steps):
        photos = torch.rand(2, 3, 32, 32)
        targets = module.loss.content_targets(photos)
        terms = module.loss(module.generator(module.task.input(photos)), targets)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        module.average.update_parameters(module.generator)
        yield {k: v.clone() for k, v in module.generator.state_dict().items()}


@pytest.mark.parametrize(("make", "task"), BATCH_NORM)
def test_no_average_is_the_generator_itself_batch_norm_and_all(vgg19, make, task):
    module = make_module(vgg19, make(), 0, task)
    for state in steps(module, 3):
        for name, value in module.painter.state_dict().items():
            assert torch.equal(value, state[name]), name
    given = module.task.input(torch.rand(2, 3, 32, 32))
    with torch.no_grad():
        assert torch.equal(module.painter(given), module.generator.eval()(given))


@pytest.mark.parametrize(("make", "task"), BATCH_NORM)
def test_batch_norms_statistics_are_averaged_like_the_weights(vgg19, make, task):
    module = make_module(vgg19, make(), 0.5, task)
    expected = None
    for count, state in enumerate(steps(module, 4)):
        decay = min(0.5, (1 + count) / (10 + count)) if count else 0.0
        expected = expected or state
        expected = {
            k: decay * expected[k] + (1 - decay) * v if v.is_floating_point() else v
            for k, v in state.items()
        }
    statistics = [k for k in expected if "running" in k or "num_batches" in k]
    assert statistics
    for name, value in module.painter.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_painting_leaves_the_averaged_statistics_alone(vgg19):
    make, task = BATCH_NORM[0]
    module = make_module(vgg19, make(), 0.9, task).train()  # as Lightning does
    before = {k: v.clone() for k, v in module.average.module.state_dict().items()}
    module.painter(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in module.painter.state_dict().items())


@pytest.mark.parametrize(
    ("generator", "task", "size_px", "words"),
    [
        (JohnsonGenerator((4, 4, 8), 1), SuperResolution(4), 64, "do not fit.*16×16"),
        (JohnsonSuperresolutionGenerator(2, 4, 1), Stylization(), 32, "do not fit.*64×64"),
        (JohnsonSuperresolutionGenerator(2, 4, 1), SuperResolution(4), 32, "do not fit.*16×16"),
        (JohnsonSuperresolutionGenerator(8, 4, 1), SuperResolution(8), 36, "multiple of 8"),
        (JohnsonSuperresolutionGenerator(8, 4, 1), SuperResolution(8), 32, "≥ 5 px"),
    ],
)
def test_what_does_not_fit_is_told_before_the_work_starts(vgg19, generator, task, size_px, words):
    with pytest.raises(InputError, match=words):
        make_module(vgg19, generator, 0, task).rehearse(size_px)


@pytest.mark.parametrize(("steadiness", "least_px"), [(0.0, 64 + 4), (1.0, 64 + 4 + 32)])
def test_a_crop_whose_parts_are_too_small_for_the_loss(vgg19, steadiness, least_px):
    module = make_module(vgg19, JohnsonGenerator((4, 4, 8), 1), 0, Stylization())
    module.loss = PerceptualLoss(vgg19, torch.rand(3, 64, 64), {}, {}, pattern_weight=1.0)
    module.jitter_px, module.steadiness_weight = 4, steadiness
    module.rehearse(least_px)
    with pytest.raises(InputError, match=rf"data\.crop_px={least_px - 1} .*63 × 63 px"):
        module.rehearse(least_px - 1)


def test_steadiness_is_not_for_photos_that_are_scaled_down(vgg19):
    module = make_module(vgg19, JohnsonSuperresolutionGenerator(4, 4, 1), 0, SuperResolution(4))
    module.steadiness_weight = 10.0
    with pytest.raises(InputError, match="steadiness_weight=10"):
        module.rehearse(64)


@pytest.mark.parametrize(("make", "task"), BATCH_NORM)
def test_a_rehearsal_changes_nothing(vgg19, make, task):
    module = make_module(vgg19, make(), 0.9, task)
    before, random = {k: v.clone() for k, v in module.state_dict().items()}, torch.get_rng_state()
    module.rehearse(32)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_jitter_takes_the_same_part_of_all_from_every_place(vgg19):
    loss = PerceptualLoss(vgg19, None, {"relu1_2": 1.0}, {})
    arguments = JohnsonGenerator((4, 4, 4), 1), loss, torch.optim.Adam, constant, 0, Stylization()
    module = StyleTransferModule(*arguments, jitter_px=2)
    rows = torch.arange(6.0).view(1, 1, 6, 1).expand(1, 1, 6, 7)
    columns = torch.arange(7.0).view(1, 1, 1, 7).expand(1, 1, 6, 7)
    starts = set()
    for _ in range(200):
        y, x = module.jitter(rows, columns)
        assert y.shape == x.shape == (1, 1, 4, 5)
        assert torch.equal(y[0, 0, :, 0] - y[0, 0, 0, 0], torch.arange(4.0))
        assert torch.equal(x[0, 0, 0] - x[0, 0, 0, 0], torch.arange(5.0))
        starts.add((int(y[0, 0, 0, 0]), int(x[0, 0, 0, 0])))
    assert starts == {(y, x) for y in range(3) for x in range(3)}
    [same] = StyleTransferModule(*arguments).jitter(rows)
    assert torch.equal(same, rows)


def test_the_loss_is_asked_about_painting_and_photo(vgg19):
    loss = PerceptualLoss(vgg19, None, {"relu1_2": 1.0}, {}, padding="reflect")
    generator = JohnsonGenerator((4, 4, 4), 1)
    module = StyleTransferModule(generator, loss, torch.optim.Adam, constant, 0, Stylization())
    module._trainer = SimpleNamespace(world_size=1)
    module.log_dict = lambda values: None
    photos = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = loss(generator(photos), loss.content_targets(photos))["content/relu1_2"]
    assert expected.item() > 0
    torch.testing.assert_close(module.training_step(photos, 0), expected)


class Positional(nn.Module):
    """Paints a photo's place into it, counted from its own corner."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, photo: torch.Tensor) -> torch.Tensor:
        height, width = photo.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        return photo + self.scale * (y + x)


def steady_module(vgg19, generator: nn.Module) -> StyleTransferModule:
    loss = PerceptualLoss(vgg19, None, {}, {}, total_variation_weight=1e-12)
    arguments = generator, loss, torch.optim.SGD, constant, 0.0, Stylization()
    module = StyleTransferModule(*arguments, steadiness_weight=2.0)
    module._trainer = SimpleNamespace(world_size=1)  # what a step asks of it
    module.log_dict = lambda values: None
    return module


def test_what_hangs_on_the_end_of_the_photo_is_unsteady(vgg19):
    photos = torch.rand(2, 3, 80, 96, generator=torch.Generator().manual_seed(0))
    cuts = set()
    for scale in (0.0, 0.01):
        module = steady_module(vgg19, Positional(scale))
        for seed in range(20):
            torch.manual_seed(seed)
            y, x = (4 * torch.randint(-8, 9, (2,))).tolist()
            torch.manual_seed(seed)
            part, shown = module.part_of(photos)
            assert part.shape == shown.shape == (2, 3, 80 - abs(y), 96 - abs(x))
            assert not shown.requires_grad
            found = unsteadiness(module.generator(part), shown)
            change = scale * (max(y, 0) + max(x, 0))  # the part begins so much later
            torch.testing.assert_close(found, change**2 / shown.var())
            cuts.add(y)
    assert min(cuts) < -24 < 24 < max(cuts)


def test_unsteadiness_is_a_term_of_the_step(vgg19):
    module = steady_module(vgg19, JohnsonGenerator((4, 6, 8), 1, margin_px=8))
    photos = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    part, shown = module.part_of(photos)
    noisy = part + torch.randn(part.shape) * 2 / 255
    expected = 2 * unsteadiness(module.generator(noisy), shown)
    torch.manual_seed(3)
    module.training_step(photos, 0)
    torch.testing.assert_close(module.terms["steadiness"], expected.detach())


def test_a_step_for_steadiness_lowers_the_gain_of_noise(vgg19):
    class Gain(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(6.0))

        def forward(self, photo: torch.Tensor) -> torch.Tensor:
            return 0.5 + self.gain * (photo - 0.5)

    module = steady_module(vgg19, Gain())
    module.training_step(torch.rand(1, 3, 64, 64), 0).backward()
    assert module.generator.gain.grad > 1e-4


@pytest.mark.parametrize("side_px", [16, 20, 24, 32, 48, 79])
def test_parts_of_small_photos_can_be_painted(vgg19, side_px):
    generator = JohnsonGenerator((4, 6, 8), 1, margin_px=8)
    module = steady_module(vgg19, generator)
    photos = torch.rand(1, 3, side_px, side_px + 40)
    for _ in range(10):
        part, shown = module.part_of(photos)
        assert unsteadiness(generator(part), shown).isfinite()


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_steadiness_below_nothing(vgg19, weight):
    loss = PerceptualLoss(vgg19, None, {"relu1_1": 1.0}, {})
    arguments = nn.Identity(), loss, torch.optim.SGD, constant, 0.0, Stylization()
    with pytest.raises(InputError, match="steadiness_weight"):
        StyleTransferModule(*arguments, steadiness_weight=weight)


@pytest.mark.parametrize("px", [-1, 1.5, None])
def test_a_jitter_that_is_no_number_of_pixels(vgg19, px):
    loss = PerceptualLoss(vgg19, None, {"relu1_2": 1.0}, {})
    arguments = JohnsonGenerator((4, 4, 4), 1), loss, torch.optim.Adam, constant, 0, Stylization()
    with pytest.raises(InputError, match=rf"jitter_px={px}"):
        StyleTransferModule(*arguments, jitter_px=px)
