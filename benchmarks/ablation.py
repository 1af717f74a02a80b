"""What each part of the compiled code is worth in a training step: without it, torch computes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from allaprima import fused, gram, to_rgb, winograd
from benchmarks.figures import Row, Section, interleave
from benchmarks.training import BATCH, CROP_PX, RECIPE, make_step

PARTS = {
    "3×3 convolutions": winograd,
    "Gram matrices": gram,
    "norm and padding": fused,
    "last layer": to_rgb,
}
WHOLE = "all of it"


def ablation_figures(quick: bool) -> dict[str, Any]:
    """The default recipe's step with everything, without each part, and without all."""
    step = make_step(RECIPE)
    calls = {WHOLE: step}
    for name, module in PARTS.items():
        calls[f"without {name}"] = without(step, module)
    calls["torch alone"] = without(step, *PARTS.values())
    seconds = interleave(calls, rounds=3 if quick else 9, warm_up=1)
    rows = [Row(name, times, BATCH, "photos") for name, times in seconds.items()]
    title = f"What the compiled parts are worth: default recipe, batch {BATCH} at {CROP_PX}²"
    section = Section("ablation", title, rows, baseline="torch alone")
    section.notes = ["In the precision that this CPU is given, with channels-last throughout."]
    return section.as_dict()


def without(step: Callable[[], Any], *modules: Any) -> Callable[[], Any]:
    """The step, with modules that find no compiled library."""

    def call() -> None:
        with none_compiled(modules):
            step()

    return call


@contextmanager
def none_compiled(modules: tuple[Any, ...]) -> Iterator[None]:
    patches = [patch.object(module, "load_library", lambda name: None) for module in modules]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()
