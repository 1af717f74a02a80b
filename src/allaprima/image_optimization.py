"""Any loss minimised over pixels, which stay in [0,1]: L-BFGS, or any optimiser of torch."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Terms = dict[str, Tensor]
Loss = Callable[[Tensor], Terms]
MakeOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


class PixelLBFGS(torch.optim.LBFGS):
    """L-BFGS with strong Wolfe line search (Nocedal & Wright 2006, ch. 3 and 7) for pixels.

    Differs from torch's: the first step moves pixels by about ``first_step`` on average, whatever
    the scale of the loss. torch's moves them by 1 in total, and the line search would spend its
    first evaluations on finding that this is little. A search that finds no way down starts
    anew from the steepest descent.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        history_size: int = 20,
        max_iter: int = 100,
        first_step: float = 0.01,
    ):
        super().__init__(
            parameters,
            max_iter=max_iter,
            history_size=history_size,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        self.first_lr = first_step * sum(p.numel() for p in parameters)

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # pyright: ignore
        group, first = self.param_groups[0], {"lr": self.first_lr, "max_iter": 1}
        usual = {key: group[key] for key in first}
        if not self.state:
            group.update(first)
        num_before = self._num_evaluations()
        value = super().step(closure)
        group.update(usual)
        if self._num_evaluations() == num_before + 1:
            self.state.clear()
        for state in self.state.values():
            for history in ("old_dirs", "old_stps"):
                if isinstance(state.get(history), list) and not state[history]:
                    state[history] = _Rows(group["history_size"], state["prev_flat_grad"])
        return value

    def _num_evaluations(self) -> int:
        return sum(state["func_evals"] for state in self.state.values())


class _Rows(list):
    """Copies of tensors, in one buffer: scattered, they would keep freed activations' memory."""

    def __init__(self, num: int, like: Tensor):
        super().__init__()
        self.free = list(like.new_empty(num, *like.shape))

    def append(self, tensor: Tensor) -> None:
        super().append(self.free.pop().copy_(tensor))

    def pop(self, index: Any = -1) -> Tensor:
        self.free.append(super().pop(index))
        return self.free[-1]


class _Project(torch.autograd.Function):
    """Clamp to [0,1]; the gradient is kept except where it would lead further outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore
        (x,) = ctx.saved_tensors
        return grad.masked_fill(((x <= 0) & (grad > 0)) | ((x >= 1) & (grad < 0)), 0)


class _Done(Exception):
    pass


def optimize_image(
    start: Tensor,
    loss: Loss,
    num_evaluations: int,
    on_evaluation: Callable[[int, float], object] = lambda evaluation, value: None,
    optimizer: MakeOptimizer = PixelLBFGS,
    on_best: Callable[[Tensor], object] = lambda image: None,
) -> Tensor:
    """Minimise the sum of the loss's terms over the pixels; the best image that was evaluated.

    Source: Gatys 2016, section 2.
    Differs: what is evaluated is always within [0,1], so that every value is that of a picture.
    Johnson 2016, section 4.1, projects after each iteration instead, which torch's L-BFGS takes
    for a wrong gradient; that reached higher losses in as many evaluations. The optimiser is given
    the loss relative to its first value.

    Args:
        start: RGB (1, 3, H, W) in [0,1]; left as it is.
        num_evaluations: of loss and gradient, exactly; fewer where no gradient is left.
        on_evaluation: called with the count and the loss after each; if it returns True, this
            was the last one.
        optimizer: makes one of the pixels; any whose ``step`` takes a closure.
        on_best: called, before ``on_evaluation``, with each image (1, 3, H, W) that is the best
            so far. It is overwritten by the next one: copy what you keep.

    Raises:
        FloatingPointError: a loss that is not finite.
    """
    image = start.clone(memory_format=torch.contiguous_format).requires_grad_()  # L-BFGS's layout
    best, best_value, count = image.detach().clamp(0, 1), float("inf"), 0
    scale = 1.0

    def evaluate() -> Any:
        nonlocal best_value, count, scale
        image.grad = None
        projected = _Project.apply(image)
        terms = loss(projected.contiguous(memory_format=torch.channels_last))
        total = torch.stack(list(terms.values())).sum()
        value = total.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at evaluation {count + 1}: lower its weights, which may have "
                "left the range of float32"
            )
        if count == 0 and value:
            scale = 1 / abs(value)  # squared slopes of a huge loss would leave that range
        scaled = scale * total
        scaled.backward()
        count += 1
        if value < best_value:
            best_value = value
            best.copy_(projected.detach())
            on_best(best)
        if on_evaluation(count, value) is True or count == num_evaluations:
            raise _Done
        return scaled

    steps = optimizer([image])
    try:
        while count < num_evaluations and (image.grad is None or image.grad.any()):
            steps.step(evaluate)
            with torch.no_grad():
                image.clamp_(0, 1)
    except _Done:
        pass
    return best
