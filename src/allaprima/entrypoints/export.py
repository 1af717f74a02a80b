"""export.py: a generator for other programs, as ONNX or torch.export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from allaprima.errors import InputError
from allaprima.weights import find_generator, load_generator

if TYPE_CHECKING:
    from allaprima.export import Report

app = typer.Typer(add_completion=False)
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Console entry point."""
    app()


@app.command()
def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="checkpoint=NAME",
            help="A shipped style's name, or a generator's file; checkpoint= may be left out.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="FILE.onnx, or FILE.pt2 for torch.export. Else NAME.onnx here."
        ),
    ] = None,
    float16: Annotated[
        bool, typer.Option("--float16", help="Compute in float16, half the size; pixels stay.")
    ] = False,
    uint8: Annotated[
        bool,
        typer.Option("--uint8", help="Pixels are H×W×3 of 0…255, not 1×3×H×W of float32 in [0,1]."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file.")] = False,
) -> None:
    """Write a generator for other programs; any height and width go in and come out.

    The file is read again and compared with the generator on photos of three sizes; a file that
    differs by more than 2/255 is not kept. The figures are printed and left in FILE.json.
    """
    try:
        file = find_generator(checkpoint.removeprefix("checkpoint="))
        generator, metadata = load_generator(file)
        from allaprima.export import export_generator

        path = output or Path(f"{file.stem}.onnx")
        report = export_generator(
            generator, metadata, path, half=float16, uint8=uint8, overwrite=overwrite
        )
    except InputError as error:
        console.print(f"error: {error}")
        raise typer.Exit(1) from None
    Console(soft_wrap=True).print(table_of(report))
    typer.echo(f"Wrote {report.file} ({report.size_bytes / 1e6:.2f} MB) and {report.file}.json")


def table_of(report: "Report") -> Table:
    """Differences and latency by size."""
    table = Table(title=f"Against the generator; latency in {report.engine}")
    for column in ("photo", "largest difference", "mean difference", "latency"):
        table.add_column(column, justify="right")
    for comparison in report.comparisons:
        table.add_row(
            f"{comparison.width}×{comparison.height}",
            f"{255 * comparison.maximum:.4f}/255",
            f"{255 * comparison.mean:.4f}/255",
            f"{1000 * comparison.latency_s:.0f} ms",
        )
    return table
