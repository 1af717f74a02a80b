from functools import partial

import pytest
import torch

from allaprima.image_optimization import PixelLBFGS, optimize_image

ADAM = partial(torch.optim.Adam, lr=0.02)
OPTIMIZERS = pytest.mark.parametrize("optimizer", [PixelLBFGS, ADAM], ids=["lbfgs", "adam"])
TARGET = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(3))


def bowl(image: torch.Tensor) -> dict[str, torch.Tensor]:
    error = torch.logspace(0, 2, 5) * (image - TARGET).square()
    return {"left": error[..., :2].sum(), "right": error[..., 2:].sum()}


def total(image: torch.Tensor) -> float:
    return sum(term.item() for term in bowl(image).values())


@OPTIMIZERS
def test_a_quadratic_is_minimised(optimizer):
    start = torch.rand(1, 3, 6, 5)
    before, counts, values = start.clone(), [], []

    def note(count: int, value: float) -> None:
        counts.append(count)
        values.append(value)

    found = optimize_image(start, bowl, 60, note, optimizer)
    assert torch.equal(start, before)
    assert not found.requires_grad
    assert counts == list(range(1, 61))  # every one is told, and no more
    assert values[0] == pytest.approx(total(before))
    assert total(found) == pytest.approx(min(values))
    assert total(found) < (1e-6 if optimizer is PixelLBFGS else 0.05) * values[0]


@OPTIMIZERS
@pytest.mark.parametrize(("target", "expected"), [(1.5, 1.0), (-0.5, 0.0)])
def test_pixels_stay_in_the_range(optimizer, target, expected):
    seen = []

    def loss(image: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(image.detach().clone())
        return {"far": (image - target).square().sum()}

    found = optimize_image(torch.rand(1, 3, 4, 4), loss, 60, optimizer=optimizer)
    assert torch.equal(found, torch.full_like(found, expected))
    assert all(image.min() >= 0 and image.max() <= 1 for image in seen)


def test_pixels_come_back_from_the_edge():
    """Where a first step has gone too far, the gradient is not lost."""
    target = torch.full((1, 3, 4, 4), 0.3)
    steep = optimize_image(
        torch.ones(1, 3, 4, 4),
        lambda image: {"steep": 1e4 * (image - target).square().sum()},
        30,
    )
    torch.testing.assert_close(steep, target, rtol=0, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_the_scale_of_the_loss_does_not_matter(scale):
    start = torch.rand(1, 3, 6, 5)
    found = optimize_image(start, lambda x: {k: scale * v for k, v in bowl(x).items()}, 30)
    assert total(found) < 1e-3 * total(start)


def test_a_huge_loss_does_not_leave_float32():
    """Squares of its slopes do: unscaled, the line search made every pixel NaN."""
    start, values = torch.rand(1, 3, 6, 5), []
    huge = lambda image: {name: 1e24 * term for name, term in bowl(image).items()}  # noqa: E731
    found = optimize_image(start, huge, 40, lambda count, value: values.append(value))
    assert total(found) < 1e-6 * total(start)
    assert values[0] == pytest.approx(1e24 * total(start), rel=1e-5)  # told as it is


def test_a_loss_that_is_not_finite_is_told():
    with pytest.raises(FloatingPointError, match="evaluation 1"):
        optimize_image(torch.rand(1, 3, 4, 4), lambda image: {"inf": image.sum() / 0}, 3)


def test_the_best_image_is_given_though_later_ones_are_worse():
    start = torch.rand(1, 3, 6, 5)
    # Overshoots where the curvature is 200; the loss counts relative to its first value.
    jumpy = partial(torch.optim.SGD, lr=0.02 * total(start))
    values, best = [], []
    found = optimize_image(
        start,
        bowl,
        7,
        lambda count, value: values.append(value),
        jumpy,
        lambda image: best.append(image.clone()),
    )
    assert total(found) == pytest.approx(min(values))
    assert values[-1] > min(values)
    assert torch.equal(found, best[-1])


def test_true_ends_it():
    counts = []

    def note(count: int, value: float) -> bool:
        counts.append(count)
        return count == 4

    start = torch.rand(1, 3, 6, 5)
    found = optimize_image(start, bowl, 100, note)
    assert counts == [1, 2, 3, 4]
    assert total(found) <= total(start)


def test_no_evaluations_leave_the_start():
    start = torch.rand(1, 3, 4, 4)
    assert torch.equal(optimize_image(start, lambda image: {}, 0), start)


def test_no_gradient_ends_it():
    counts = []
    optimize_image(TARGET, bowl, 50, lambda count, _: counts.append(count))
    assert len(counts) <= 2


def test_l_bfgs_starts_anew_where_no_search_finds_a_way_down():
    """A gradient that lies: the search fails, and the steepest descent is tried again."""
    optimizer = PixelLBFGS([image := torch.rand(1, 3, 4, 4).requires_grad_()])

    def closure() -> torch.Tensor:
        image.grad = torch.zeros_like(image)
        return image.sum().detach()

    optimizer.step(closure)
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 1
    assert optimizer.param_groups[0]["max_iter"] == 100
