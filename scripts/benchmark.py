"""Time training, loading, stylising and more: ``python scripts/benchmark.py``.

Whatever is compared takes turns in one process; figures are medians with quartiles. Peak memory is
that of a process of its own. Nothing else should be running.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.performance_page import page
from benchmarks.sections import run_apart, section_names
from benchmarks.show import draw, print_tables


def main(
    only: Annotated[list[str], typer.Option(help="This section; may be repeated.")] = [],  # noqa: B006
    quick: Annotated[bool, typer.Option(help="Fewer rounds: under two minutes.")] = False,
    output: Annotated[
        Path, typer.Option(help="The JSON of figures. Sections that are not run are kept in it.")
    ] = Path("outputs/benchmark/figures.json"),
    read: Annotated[
        Path | None, typer.Option("--from", help="Run nothing: show the figures of this JSON.")
    ] = None,
    write_page: Annotated[
        Path | None, typer.Option("--page", help="Write the page there, its plot beside it.")
    ] = None,
) -> None:
    """Measure, print tables, write JSON and a plot."""
    console = Console()
    failures: list[str] = []
    if read:
        figures = json.loads(read.read_text(encoding="utf-8"))
    else:
        figures, failures = measure(only, quick, output, console)
    if not figures:
        console.print("There are no figures.")
        raise typer.Exit(1)
    plot = write_page.with_suffix(".png") if write_page else (read or output).with_suffix(".png")
    draw(figures, plot)
    if write_page:
        write_page.write_text(page(figures, plot.name), encoding="utf-8")
    if read:
        print_tables(figures, console)
    written = [str(path) for path in (None if read else output, plot, write_page) if path]
    console.print(f"Wrote {', '.join(written)}")
    for failure in failures:
        console.print(failure, style="red", markup=False)
    if failures:
        raise typer.Exit(1)


def measure(
    only: list[str], quick: bool, output: Path, console: Console
) -> tuple[dict[str, Any], list[str]]:
    """Run the sections, each kept on disk as soon as it is there; those that failed are told."""
    try:
        names = section_names(only, quick)
    except ValueError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(1) from error
    kept = json.loads(output.read_text(encoding="utf-8")) if output.exists() and only else {}
    output.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for name in names:
        with console.status(f"{name} …"):
            try:
                kept[name] = run_apart(name, quick)
            except RuntimeError as error:
                failures.append(str(error))
                continue
        print_tables({name: kept[name]}, console)
        partial = output.with_suffix(".part")
        partial.write_text(json.dumps(in_order(kept), indent=1), encoding="utf-8")
        os.replace(partial, output)
    return in_order(kept), failures


def in_order(figures: dict[str, Any]) -> dict[str, Any]:
    order = section_names(list(figures), quick=False)
    return {name: figures[name] for name in order}


if __name__ == "__main__":
    typer.run(main)
