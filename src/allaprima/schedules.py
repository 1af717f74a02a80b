"""How the learning rate goes: factors of it by step and by progress through the run."""

from collections.abc import Callable

Schedule = Callable[[int, float], float]  # step, progress in [0,1]


def warm_up_then_anneal(
    step: int, progress: float, warm_up_steps: int, anneal_from: float
) -> float:
    """Rise linearly over the first steps, stay, fall linearly to 0 from a share of the run."""
    rise = min(1.0, (step + 1) / warm_up_steps) if warm_up_steps else 1.0
    fall = min(1.0, (1.0 - progress) / (1.0 - anneal_from)) if anneal_from < 1 else 1.0
    return rise * fall


def constant(step: int, progress: float) -> float:
    """The learning rate as it is: Johnson 2016."""
    return 1.0


def step_decay(
    step: int, progress: float, factor: float, every_num_steps: int, first_step: int | None = None
) -> float:
    """Multiply by a factor every so many steps: Ulyanov 2016a and 2016b.

    Args:
        first_step: the first time; None is after ``every_num_steps``.
    """
    first_step = every_num_steps if first_step is None else first_step
    return factor ** max(0, 1 + (step - first_step) // every_num_steps)
