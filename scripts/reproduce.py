"""reproduce.py: run the papers' experiments and write docs/reproduction.md from what they left."""

import shlex
import string
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.reproduction import RUNS, Run

DOCS = Path(__file__).parent.parent / "docs"


def main(
    photos: Annotated[Path, typer.Option(help="Photographs in COCO's layout.")],
    painting: Annotated[Path, typer.Option(help="The style image.")],
    only: Annotated[list[str], typer.Option(help="Run these alone.")] = [],  # noqa: B006
    page: Annotated[bool, typer.Option(help="Write docs/reproduction.md.")] = True,
    folder: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path(
        "outputs/reproduction"
    ),
) -> None:
    """Do what has not been done yet, one run after another, then write the page and its pictures.

    A run that was interrupted goes on from its last checkpoint. About two hours on two cores.
    """
    if unknown := set(only) - {run.name for run in RUNS}:
        names = ", ".join(run.name for run in RUNS)
        raise typer.BadParameter(f"no run is called {', '.join(unknown)}; there are {names}")
    places = {"PHOTOS": str(photos), "PAINTING": str(painting)}
    for run in RUNS:
        if (not only or run.name in only) and run.result(folder) is None:
            carry_out(run, folder, places)
    if page:
        from benchmarks.reproduction_page import write_page

        write_page(folder, DOCS)


def carry_out(run: Run, folder: Path, places: dict[str, str]) -> None:
    """Run the command as the page shows it, with the folder it goes into added."""
    target = folder / run.name
    target.mkdir(parents=True, exist_ok=True)
    words = shlex.split(string.Template(run.command).substitute(places))
    words += [argument.format(folder=target) for argument in run.places]
    if (target / "last.ckpt").exists():
        words += [f"resume={target}"]
    print(f"\n{run.name}: {' '.join(words)}", flush=True)
    with (target / "log.txt").open("a", encoding="utf-8") as log:
        subprocess.run([sys.executable, *words[1:]], check=True, stdout=log, stderr=log)
    if run.result(folder) is None:
        raise SystemExit(f"{run.name} was stopped; see {target}/log.txt")


if __name__ == "__main__":
    typer.run(main)
