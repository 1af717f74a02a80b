"""docs/performance.md from the figures of scripts/benchmark.py."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.figures import Section
from benchmarks.show import Figures, cells, goal_cells, number, sections, share_of_rate

TYPES = {
    "32": "float32",
    "bf16": "bfloat16",
    "cuda 32": "float32 on the GPU",
    "cuda bf16": "bfloat16 on the GPU",
}


def page(figures: Figures, plot: str) -> str:
    """The page as Markdown.

    Args:
        plot: the picture, relative to the page.
    """
    parts = ["# Performance", introduction(figures), f"![Work a second, by section]({plot})"]
    parts += ["## Goals", goals_table(figures)]
    for section, rates in sections(figures):
        parts += [f"## {section.title}", markdown_table(*cells(section, rates))]
        parts += ["\n".join(f"- {note}" for note in section.notes)] if section.notes else []
    parts += ["## Roofline", roofline(figures)]
    if profiles := profile_tables(figures):
        parts += ["## Where a training step's time goes", *profiles]
    return "\n\n".join(parts) + "\n"


def introduction(figures: Figures) -> str:
    runs = list(figures.values())
    machine = runs[0]["machine"]
    versions = ", ".join(f"{name} {number_}" for name, number_ in machine["versions"].items())
    commits = ", ".join(dict.fromkeys(str(run["machine"]["commit"]) for run in runs))
    dates = ", ".join(dict.fromkeys(run["date"] for run in runs))
    precisions = {"32": "float32", "bf16-mixed": "bfloat16 where it is safe"}
    lines = [
        "Written by `python scripts/benchmark.py --page docs/performance.md` (`make benchmark`), "
        "from real runs. Whatever is compared took turns in one process; figures are medians, with "
        "quartiles beside them. Peak memory is of a process of its own.",
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['threads']} threads, {machine['system']}; GPU: {machine['gpu'] or 'none'}. "
        f"Precision: {precisions[machine['precision']]}; "
        f"compiled C code: {'yes' if machine['compiled_code'] else 'no'}. {versions}. "
        f"Commit {commits}; {dates}. (+: with changes that were not committed.)",
    ]
    if machine["precision"] == "32":
        lines.append(
            "The goals of training are for a processor with bfloat16 products; this one has none."
        )
    if any(run["quick"] for run in runs):
        lines.append("**Some figures are from a quick run, with few rounds.**")
    return "\n\n".join(lines)


def goals_table(figures: Figures) -> str:
    goals = [goal_cells(goal) for section, _ in sections(figures) for goal in section.goals]
    return markdown_table(["goal", "aimed at", "reached", "met"], goals)


def markdown_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"

    headings = list(headings)
    return "\n".join([line(headings), "|" + "---|" * len(headings), *map(line, rows)])


def roofline(figures: Figures) -> str:
    """Arithmetic needed, rate measured, share reached, a sentence for each row that tells it."""
    sentences = []
    for run in figures.values():
        tables = [Section.from_dict(table) for table in run["tables"]]
        told = [sentence(t, row, run["rates"]) for t in tables for row in t.rows if row.gmac]
        if told:
            sentences += [yardstick(tables[0].name, run["rates"]), "\n".join(told)]
    return "\n\n".join([EXPLANATION, *sentences])


EXPLANATION = (
    "How near a thing comes to what the machine could do: the multiply-adds (1e9: GMAC) that its "
    "convolutions and Gram matrices need when done directly, over the time it took, as a share of "
    "the rate of a large matrix product, measured in the same run. Winograd's convolutions need a "
    "quarter of the products of direct ones, so a share may exceed 100 %. What is missing "
    "from it goes to memory traffic (norms, activations, padding, copies between types and "
    "layouts) and to transforms."
)


def yardstick(name: str, rates: Mapping[str, float]) -> str:
    products = ", ".join(
        f"{number(rates[k])} GMAC/s in {v}" for k, v in TYPES.items() if k in rates
    )
    copying = f"; copying moves {number(rates['memory_gb_per_s'])} GB/s"
    return f"**{name}**, measured beside it: {products}{copying}."


def sentence(section: Section, row: Any, rates: Mapping[str, float]) -> str:
    share = share_of_rate(row, rates)
    at_rate = row.gmac / rates[row.precision]
    return (
        f"- {row.name} ({section.title}): needs {number(row.gmac)} GMAC, {number(at_rate)} s at "
        f"the full rate of {TYPES[row.precision]}; took {number(row.median_s)} s: {share:.0%}."
    )


def profile_tables(figures: Figures) -> list[str]:
    """Operators by their share of one step, from torch's profiler."""
    parts = []
    for section, _ in sections(figures):
        for name, operators in section.extra.get("profile", {}).items():
            rows = [[f"`{o['name']}`", f"{o['share']:.1%}", str(o["calls"])] for o in operators]
            rest = 1 - sum(operator["share"] for operator in operators)
            rows.append(["the rest", f"{rest:.1%}", ""])
            heading = ["operator", "share of the step", "calls"]
            parts += [f"{section.title}, {name}:", markdown_table(heading, rows)]
    return parts
