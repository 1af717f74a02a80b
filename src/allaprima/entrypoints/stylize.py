"""stylize.py: paint photos and folders of photos with a trained generator."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from allaprima.errors import InputError
from allaprima.images import read_picture, write_picture
from allaprima.stylize import Stylizer, plan_outputs
from allaprima.weights import find_generator, list_generators, read_metadata

INTERRUPTED = 130  # the shell's status of a command that Ctrl-C ended

app = typer.Typer(add_completion=False)
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


def main() -> None:
    """Console entry point."""
    app()


def show_styles(wanted: bool) -> None:
    """Print the shipped generators' names and what they say of themselves, and exit."""
    if not wanted:
        return
    for name, file in list_generators().items():
        style = read_metadata(file).get("style")
        about = style if isinstance(style, dict) else {}
        known = [about[key] for key in ("title", "artist", "year", "licence") if about.get(key)]
        typer.echo(f"{name:20} {', '.join(map(str, known))}".rstrip())
    if not list_generators():
        typer.echo("No generator is shipped yet; scripts/train.py trains one.")
    raise typer.Exit


@app.command()
def stylize(
    photos: Annotated[list[Path], typer.Argument(help="Photos and folders of photos.")],
    checkpoint: Annotated[
        str,
        typer.Option("--checkpoint", "-c", help="A shipped style's name, or a generator's file."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file for one photo, else a folder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace paintings that exist.")
    ] = False,
    device: Annotated[Device, typer.Option(help="What computes.")] = Device.AUTO,
    list_: Annotated[
        bool,
        typer.Option("--list", callback=show_styles, is_eager=True, help="Name shipped styles."),
    ] = False,
) -> None:
    """Paint photos in the style of a trained generator; sizes stay as they are.

    Without --output, photo.jpg becomes photo_STYLE.jpg, and a folder becomes FOLDER_STYLE.
    A photo that cannot be painted is reported, the rest go on, and the exit status is 1.
    """
    try:
        generator = find_generator(checkpoint)
        plan = plan_outputs(photos, output, generator.stem, overwrite=overwrite)
        raise typer.Exit(paint(generator, plan, device, overwrite))
    except InputError as error:
        console.print(f"error: {error}")
        raise typer.Exit(1) from None


def paint(generator: Path, plan: list[tuple[Path, Path]], device: str, overwrite: bool) -> int:
    """Paint all the photos of a plan and say what was written.

    Returns:
        The exit status: 0, or 1 if a photo failed, or 130 after Ctrl-C.
    """
    written: list[Path] = []
    num_failed = 0
    interrupted = False
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left")
    hidden = len(plan) == 1 or not console.is_terminal
    try:
        stylizer = Stylizer(generator, device)
        with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
            for photo, painted in progress.track(plan):
                try:
                    write_picture(painted, stylizer.paint(read_picture(photo)), overwrite=overwrite)
                    written.append(painted)
                except InputError as error:
                    num_failed += 1
                    named = str(error) if str(photo) in str(error) else f"{photo}: {error}"
                    console.print(f"failed: {named}")
    except KeyboardInterrupt:
        interrupted = True
        console.print(f"Stopped: {len(written)} of {len(plan)} photos are painted.")
    if num_failed:
        console.print(f"{num_failed} of {len(plan)} photos could not be painted.")
    report(written)
    return INTERRUPTED if interrupted else int(num_failed > 0)


def report(written: list[Path]) -> None:
    """Name the files that were written, or, if they are many, their number and folder."""
    if len(written) <= 5:
        for file in written:
            typer.echo(f"Wrote {file}")
    else:
        folder = os.path.commonpath([file.parent.absolute() for file in written])
        typer.echo(f"Wrote {len(written)} paintings in {folder}")
