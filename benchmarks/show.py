"""Figures as tables and as a plot."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Goal, Row, Section, quartiles, ratio

Figures = Mapping[str, Mapping[str, Any]]  # of sections.run_apart, by name
COLOURS = ("#9a9a9a", "#2f6db3", "#c2571a", "#3b8f5a", "#7d55a8", "#b08d00")


def sections(figures: Figures) -> list[tuple[Section, Mapping[str, float]]]:
    """Every table, with the machine's rates when it was measured."""
    found = []
    for run in figures.values():
        found += [(Section.from_dict(table), run["rates"]) for table in run["tables"]]
    return found


def number(value: float | None) -> str:
    """Three significant digits, without exponent; "–" for nothing."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


def cells(section: Section, rates: Mapping[str, float]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a section's table; columns without a figure are left out."""
    units = {row.unit for row in section.rows}
    rate = f"{units.pop()}/s" if len(units) == 1 else "rate"
    headings = ["", "median s", "quartiles s", rate, "faster", "GMAC", "of product rate"]
    headings += ["memory MB", "of plain's" if section.compared_with else "", "note"]
    rows = [_cells(section, row, rates, rate == "rate") for row in section.rows]
    kept = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    return [headings[i] for i in kept], [[row[i] for i in kept] for row in rows]


def share_of_rate(row: Row, rates: Mapping[str, float]) -> float | None:
    """Arithmetic a second over the measured rate of a large product in the row's precision."""
    if row.gmac is None or row.precision not in rates:
        return None
    return row.gmac / row.median_s / rates[row.precision]


def _cells(section: Section, row: Row, rates: Mapping[str, float], name_unit: bool) -> list[str]:
    plain, share = section.compared_with, share_of_rate(row, rates)
    low, _, high = quartiles(row.seconds)
    comparable = plain is not None and plain.unit == row.unit
    lighter = comparable and plain.memory_mb and row.memory_mb and row is not plain
    return [
        row.name,
        number(row.median_s),
        f"{number(low)}–{number(high)}" if len(row.seconds) > 1 else "once",
        number(row.rate) + (f" {row.unit}/s" if name_unit else ""),
        f"{number(ratio(plain, row))}×" if comparable and row is not plain else "",
        "" if row.gmac is None else number(row.gmac),
        "" if share is None else f"{share:.0%} of {row.precision}",
        "" if row.memory_mb is None else f"{row.memory_mb:,.0f}",
        f"{row.memory_mb / plain.memory_mb:.2f}×" if lighter else "",
        row.note,
    ]


def goal_cells(goal: Goal) -> list[str]:
    """What, aimed at, reached, met or not."""
    sign, bound = ("≥", goal.least) if goal.most is None else ("≤", goal.most)
    aim = "–" if bound is None else f"{sign} {bound:g}{goal.unit}"
    reached = "–" if goal.reached is None else f"{number(goal.reached)}{goal.unit}"
    met = {True: "yes", False: "**no**", None: "not measured"}[goal.met]
    return [goal.what, aim, reached, met + (f" ({goal.note})" if goal.note else "")]


def print_tables(figures: Figures, console: Console) -> None:
    """Every section's table and goals."""
    for section, rates in sections(figures):
        headings, rows = cells(section, rates)
        table = Table(title=section.title)
        for heading in headings:
            table.add_column(heading, justify="right" if heading not in ("", "note") else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        for goal in section.goals:
            what, aim, reached, met = goal_cells(goal)
            console.print(f"  {what}: {reached} (goal {aim}): {met.replace('*', '')}")
        for note in section.notes:
            console.print(f"  {note}", style="dim")


def draw(figures: Figures, path: Path) -> None:
    """A panel of bars for each table, whiskers between the quartiles; curves where there are."""
    from matplotlib.figure import Figure

    tables = [section for section, _ in sections(figures) if section.rows]
    curves = [section for section, _ in sections(figures) if section.extra.get("curves")]
    heights = [0.8 + 0.36 * len(section.rows) for section in tables] + [3.6] * len(curves)
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, section in zip(axes, tables, strict=False):
        draw_bars(axis, section)
    for axis, section in zip(axes[len(tables) :], curves, strict=True):
        draw_curves(axis, section)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw_bars(axis: Any, section: Section) -> None:
    rows, plain = section.rows, section.compared_with
    units = {row.unit for row in rows}
    widest = max(row.work / quartiles(row.seconds).low for row in rows)
    for place, row in enumerate(rows):
        low, _, high = quartiles(row.seconds)
        spread = [[max(0, row.rate - row.work / high)], [max(0, row.work / low - row.rate)]]
        colour = COLOURS[0] if row is plain else COLOURS[1]
        axis.barh(place, row.rate, xerr=spread, color=colour, height=0.7, capsize=2)
        faster = plain and plain.unit == row.unit and row is not plain
        label = number(row.rate) + (f"  ({number(ratio(plain, row))}×)" if faster else "")
        axis.text(row.work / low + 0.01 * widest, place, label, va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.2 * widest)
    unit = units.pop() if len(units) == 1 else "work"
    axis.set_title(f"{section.title}: {unit} a second", fontsize=9, loc="left")
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def draw_curves(axis: Any, section: Section) -> None:
    """extra["curves"]: {name: {"x": […], "y": […]}}, with "x_label", "y_label", "level"."""
    extra = section.extra
    for colour, (name, curve) in zip(COLOURS, extra["curves"].items(), strict=False):
        axis.plot(curve["x"], curve["y"], label=name, color=colour, marker=".", markersize=4)
    if extra.get("level") is not None:
        axis.axhline(extra["level"], color="black", linewidth=0.8, linestyle=":")
    axis.set(xlabel=extra.get("x_label", ""), ylabel=extra.get("y_label", ""), yscale="log")
    axis.set_title(section.title, fontsize=9, loc="left")
    axis.legend(fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
