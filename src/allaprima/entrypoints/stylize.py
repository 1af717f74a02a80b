"""stylize.py: paint photos, folders of photos, or textures with a trained generator."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from allaprima.errors import InputError
from allaprima.images import read_picture, write_picture
from allaprima.outputs import plan_outputs, plan_texture
from allaprima.stylize import Stylizer, check_takes_photos
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
    checkpoint: Annotated[
        str,
        typer.Option("--checkpoint", "-c", help="A shipped style's name, or a generator's file."),
    ],
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Photos and folders of photos.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file for one picture, else a folder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace paintings that exist.")
    ] = False,
    texture: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Paint a texture of this size instead of photos, with a generator of textures.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Of the noise, where a generator has any: another seed, another picture."
        ),
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="Strength of the noise: 0 is none, 1 as in training.")
    ] = None,
    device: Annotated[Device, typer.Option(help="What computes.")] = Device.AUTO,
    list_: Annotated[
        bool,
        typer.Option("--list", callback=show_styles, is_eager=True, help="Name shipped styles."),
    ] = False,
) -> None:
    """Paint photos in the style of a trained generator; sizes stay as they are.

    Without --output, photo.jpg becomes photo_STYLE.jpg, and a folder becomes FOLDER_STYLE.
    A photo that cannot be painted is reported, the rest go on, and the exit status is 1.

    With --texture 1024x768 there are no photos, and the picture is STYLE_texture.png.
    One seed and size always give the same.
    """
    if not photos and texture is None:
        raise typer.BadParameter("name photos to paint, or a size: --texture 1024x768")
    try:
        generator = find_generator(checkpoint)
        options = {"device": device, "seed": seed, "noise": noise}
        if photos and texture is not None:
            raise InputError(
                f"--texture {texture} is painted without photos; leave one of them out"
            )
        if texture is not None:
            size = parse_size(texture)
            file = plan_texture(output, generator.stem, overwrite=overwrite)
            painted = Stylizer(generator, **options).texture(*size)
            write_picture(file, painted, overwrite=overwrite)
            report([file])
            return
        plan = plan_outputs(photos or [], output, generator.stem, overwrite=overwrite)
        raise typer.Exit(paint(generator, plan, overwrite, **options))
    except InputError as error:
        console.print(f"error: {error}")
        raise typer.Exit(1) from None


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of "1024x768".

    Raises:
        InputError: anything else.
    """
    match = re.fullmatch(r"(\d{1,9})[xX×](\d{1,9})", text.strip())
    if not match:
        raise InputError(
            f"--texture {text} is no size; write WIDTHxHEIGHT in pixels, such as 1024x768"
        )
    return int(match[1]), int(match[2])


def paint(generator: Path, plan: list[tuple[Path, Path]], overwrite: bool, **options: Any) -> int:
    """Paint all the photos of a plan and say what was written.

    Args:
        options: of the :class:`Stylizer`.

    Returns:
        The exit status: 0, or 1 if a photo failed, or 130 after Ctrl-C.

    Raises:
        InputError: not a generator of photos, or an option that is not for it.
    """
    written: list[Path] = []
    num_failed = 0
    interrupted = False
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left")
    hidden = len(plan) == 1 or not console.is_terminal
    try:
        stylizer = Stylizer(generator, **options)
        check_takes_photos(stylizer.generator)
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
