"""Muon: steps of equal size in every direction that a layer's weights can take."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Jordan 2024's quintic: five iterations bring singular values from [0.003, 1] to [0.7, 1.2].
QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are orthogonalised; Adam for what is no matrix.

    Source: Jordan 2024, Muon; scaled as by Liu 2025, Muon is scalable, so that a step has the
    size of Adam's at the same learning rate.
    Differs: a convolution's kernel is the matrix (C_out, C_in·k·k). The last one, to colours,
    has too few rows for it and gets Adam, as do biases and norms.

    Args:
        parameters: of a generator.
        lr: of both.
        momentum: of matrices (Nesterov's).
        betas, eps: Adam's.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ):
        super().__init__(
            parameters, {"lr": lr, "momentum": momentum, "betas": tuple(betas), "eps": eps}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                is_matrix = parameter.ndim > 1 and len(parameter) > 3
                update = self._muon if is_matrix else self._adam
                parameter.sub_(group["lr"] * update(parameter, group))
        return loss

    def _muon(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        momentum = state.setdefault("momentum", torch.zeros_like(parameter))
        momentum.lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(momentum, group["momentum"]).flatten(1)
        scale = 0.2 * max(matrix.shape) ** 0.5
        return scale * orthogonalize(matrix).view_as(parameter)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        first = state.setdefault("first", torch.zeros_like(parameter))
        second = state.setdefault("second", torch.zeros_like(parameter))
        state["count"] = count = state.get("count", 0) + 1
        first.lerp_(gradient, 1 - group["betas"][0])
        second.lerp_(gradient.square(), 1 - group["betas"][1])
        first_hat = first / (1 - group["betas"][0] ** count)
        second_hat = second / (1 - group["betas"][1] ** count)
        return first_hat / (second_hat.sqrt() + group["eps"])


def orthogonalize(matrix: Tensor, num_iterations: int = 5) -> Tensor:
    """About U Vᵀ of a matrix U S Vᵀ: singular values between 0.7 and 1.2 (Jordan 2024)."""
    a, b, c = QUINTIC
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x = wide / wide.norm().clamp_min(1e-20)
    for _ in range(num_iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if len(matrix) <= matrix.shape[1] else x.T
