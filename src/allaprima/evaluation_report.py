"""What an evaluation says in sum: medians over photos, and a small page of tables."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from allaprima.evaluate import Figures, mean_terms, quantile

SPEED_UP_COUNTS = (50, 100, 300, 500)  # Johnson 2016, table 1: 100, 300, 500
QUARTILES = {"lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75}


def summarize(photos: Sequence[Figures]) -> Figures:
    """Of all photos at one size; ``evaluate_stylization`` or ``evaluate_restoration`` made them.

    A quartile of None lies beyond the last evaluation.
    """
    summary: Figures = {
        "num_photos": len(photos),
        "pass_s": statistics.median(photo["pass_s"] for photo in photos),
    }
    if "metrics" in photos[0]:
        return summary | {"metrics": mean_terms([photo["metrics"] for photo in photos])}
    terms = {name: mean_terms([photo[name] for photo in photos]) for name in ("photo", "pass")}
    starts = {}
    for start in photos[0]["optimizer"]:
        runs = [photo["optimizer"][start] for photo in photos]
        for count in runs[0]["at"]:
            if all(count in run["at"] for run in runs):
                terms[f"{start} {count}"] = mean_terms([run["at"][count] for run in runs])
        starts[start] = _summarize_start(runs, summary["pass_s"])
    return summary | {"starts": starts, "mean_terms": terms}


def _summarize_start(runs: Sequence[Figures], pass_s: float) -> Figures:
    counts = [run["equivalent"] for run in runs]
    quartiles = {name: quantile(counts, q) for name, q in QUARTILES.items()}
    times_s = [run["s_per_evaluation"] for run in runs if run["s_per_evaluation"]]
    time_s = statistics.median(times_s) if times_s else None
    speed_up = {str(n): n * time_s / pass_s for n in SPEED_UP_COUNTS} if time_s else {}
    return {
        "equivalent_evaluations": {
            name: None if math.isinf(value) else value for name, value in quartiles.items()
        },
        "num_not_reached": counts.count(None),
        "s_per_evaluation": time_s,
        "speed_up": speed_up,
    }


def worth(evaluations: Mapping[str, float | None], limit: int) -> str:
    """``"130 (quartiles 90–210)"``, with ``>500`` for what lies beyond the last evaluation."""
    low, median, high = (
        f">{limit}" if evaluations[name] is None else f"{evaluations[name]:g}" for name in QUARTILES
    )
    return f"{median} (quartiles {low}–{high})"


def write_page(evaluation: Figures) -> str:
    """The Markdown page of an evaluation, from what its JSON holds."""
    settings, machine = evaluation["settings"], evaluation["machine"]
    by_size = evaluation["summary"]
    lines = [
        f"# Evaluation of {evaluation['checkpoint']}",
        "",
        f"`{evaluation['command']}`",
        "",
        f"{machine['name']}, {machine['threads']} threads, torch {machine['torch']}, allaprima "
        f"{machine['allaprima']}. Photos: the central square of each, scaled.",
        "",
    ]
    tell = _restoration if "metrics" in next(iter(by_size.values())) else _stylization
    return "\n".join([*lines, *tell(by_size, settings)]) + "\n"


def _restoration(by_size: Mapping[str, Figures], settings: Figures) -> list[str]:
    names = list(next(iter(by_size.values()))["metrics"])
    rows = (
        [f"{size}²", summary["num_photos"], *summary["metrics"].values(), summary["pass_s"]]
        for size, summary in by_size.items()
    )
    return table(["size", "photos", *names, "one pass, s"], rows)


def _stylization(by_size: Mapping[str, Figures], settings: Figures) -> list[str]:
    worths, times = [], []
    for size, summary in by_size.items():
        for name, start in summary["starts"].items():
            reached = summary["num_photos"] - start["num_not_reached"]
            text = worth(start["equivalent_evaluations"], settings["evaluations"])
            worths.append([f"{size}²", name, text, f"{reached} of {summary['num_photos']}"])
            ups = [f"{up:.0f}×" for up in start["speed_up"].values()] or ["–"] * 4
            times.append([f"{size}²", name, summary["pass_s"], start["s_per_evaluation"], *ups])
    lines = [
        "## What one pass is worth",
        "",
        "Gatys-equivalent evaluations: after so many evaluations of loss and gradient, L-BFGS with "
        "strong Wolfe line search has a loss no worse than that of one pass. Median over photos.",
        "",
        *table(["size", "start", "evaluations", "reached by"], worths),
        "",
        "![loss against evaluations](curves.png)",
        "",
        "## Time",
        "",
        "The speed-up is over so many evaluations at the median time of one.",
        "",
        *table(
            ["size", "start", "one pass, s", "one evaluation, s", *map(str, SPEED_UP_COUNTS)],
            times,
        ),
        "",
        "## Loss by term",
        "",
        "Means over photos, weighted as in the loss, of which they are the sum; of the optimiser, "
        "the best after so many evaluations.",
    ]
    for size, summary in by_size.items():
        lines += ["", f"### {size}²", "", *_terms(summary["mean_terms"])]
    return lines


def _terms(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    goal = rows["pass"]["loss"]
    names = {"photo": "the photo itself", "pass": "one pass"}
    return table(
        ["", "of one pass’s", *rows["pass"]],
        (
            [names.get(name, name), f"{terms['loss'] / goal:.2f}×", *terms.values()]
            for name, terms in rows.items()
        ),
    )


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table; numbers to four digits."""

    def line(cells: Iterable[Any]) -> str:
        shown = (f"{c:.4g}" if isinstance(c, float) else "–" if c is None else c for c in cells)
        return f"| {' | '.join(map(str, shown))} |"

    return [line(header), "|" + "---|" * len(header), *map(line, rows)]
