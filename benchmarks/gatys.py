"""The optimiser against the package pastiche: ``benchmarks/gatys_pastiche.py`` as a section."""

from typing import Any

from allaprima.resources import resource_dir
from benchmarks.arithmetic import gram_gmac, vgg_gmac
from benchmarks.figures import Goal, Row, Section, interleave, ratio
from benchmarks.gatys_pastiche import CHANNELS, PROGRAMS, WEIGHED
from benchmarks.memory import peak_memory


def gatys_figures(quick: bool) -> dict[str, Any]:
    """Seconds an evaluation of the same loss at 512² (256² if quick), in turns."""
    size_px, evaluations = (256, 2) if quick else (512, 20)
    runs = {name: make(*pictures(), size_px, evaluations + 2) for name, make in PROGRAMS.items()}
    calls = {name: lambda run=run: next(run) for name, run in runs.items()}
    seconds = interleave(calls, evaluations)
    gmac = 2 * vgg_gmac("vgg19", "relu5_1", size_px, size_px)
    gmac += 2 * gram_gmac("vgg19", CHANNELS, size_px, size_px)
    rows = [
        Row(
            name,
            seconds[name],
            unit="evaluations",
            gmac=gmac,
            memory_mb=None if quick else weigh(name, size_px),
        )
        for name in runs
    ]
    section = Section("gatys", f"Gatys 2016, one evaluation at {size_px}², VGG-19", rows)
    section.goals = [Goal("evaluations/s against pastiche", ratio(*rows), least=1)]
    section.notes = [
        "Both optimise the same photo with pastiche's layers and weights by L-BFGS. Memory is the "
        "peak over the bare interpreter."
    ]
    return section.as_dict()


def pictures() -> tuple[Any, Any]:
    assets = resource_dir("assets")
    return assets / "photos" / "val" / "astronaut.jpg", assets / "styles" / "starry_night.png"


def make(name: str, size_px: int) -> Any:
    """Five evaluations at a call."""
    return lambda: WEIGHED[name](*pictures(), size_px, 5)


def weigh(name: str, size_px: int) -> float | None:
    peak = peak_memory("benchmarks.gatys:make", name, size_px, calls=1).over_start
    return peak if peak == peak else None
