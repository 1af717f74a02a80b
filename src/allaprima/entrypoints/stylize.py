"""stylize.py: paint photos, folders of photos, or textures with a trained generator."""

import re
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from allaprima.controls import Controls, read_mask
from allaprima.entrypoints.painting import INTERRUPTED, Painting, paint_plan, report, tell, watch
from allaprima.errors import InputError
from allaprima.images import MAX_PIXELS, write_picture
from allaprima.outputs import plan_outputs, plan_texture
from allaprima.processors import num_cores
from allaprima.records import left_to_paint, recipe_of
from allaprima.stylize import Stylizer
from allaprima.torch_painter import TEXTURES_ONLY
from allaprima.weights import find_generator, list_generators, read_metadata

MAX_PARALLEL = 4  # photos painted at once, each on its share of the cores

app = typer.Typer(add_completion=False)


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Colors(StrEnum):
    STYLE = "style"
    PHOTO = "photo"
    MATCHED = "matched"


class Precision(StrEnum):
    FLOAT32 = "32"
    BFLOAT16 = "bf16"


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


LOOK, NOISE, MACHINE = "How it looks", "Textures and noise", "The machine"


@app.command()
def stylize(
    checkpoint: Annotated[
        list[str],
        typer.Option(
            "--checkpoint",
            "-c",
            help="A shipped style's name, or a generator's file. Several: see --blend.",
        ),
    ],
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Photos, folders of photos, and patterns.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file for one picture, else a folder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Paint all anew, and replace what exists.")
    ] = False,
    watch_: Annotated[
        bool, typer.Option("--watch", help="Go on: paint what comes into the folders, till Ctrl-C.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Long side to paint at: smaller makes broader strokes. The size stays.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    output_size: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Long side of the result.", rich_help_panel=LOOK),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="0 is the photo, 1 the painting.", rich_help_panel=LOOK)
    ] = 1.0,
    colors: Annotated[
        Colors,
        typer.Option(
            help="The style's; the photo's own; or the style's matched to the photo's palette.",
            rich_help_panel=LOOK,
        ),
    ] = Colors.STYLE,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="A picture: painted where it is white, by degrees where it is grey.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Shares in which several checkpoints' weights are averaged, as 0.7,0.3.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    texture: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Paint a texture of this size instead of photos, with a generator of textures.",
            rich_help_panel=NOISE,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Of the noise, where a generator has any: another seed, another picture.",
            rich_help_panel=NOISE,
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Strength of the noise: 0 is none, 1 as in training.", rich_help_panel=NOISE
        ),
    ] = None,
    device: Annotated[
        Device, typer.Option(help="What computes.", rich_help_panel=MACHINE)
    ] = Device.AUTO,
    precision: Annotated[
        Precision,
        typer.Option(
            help="bf16 is faster on processors that have it, and less exact.",
            rich_help_panel=MACHINE,
        ),
    ] = Precision.FLOAT32,
    max_megapixels: Annotated[
        float,
        typer.Option(help="Larger photos are refused unread.", rich_help_panel=MACHINE),
    ] = MAX_PIXELS / 1e6,
    list_: Annotated[
        bool,
        typer.Option("--list", callback=show_styles, is_eager=True, help="Name shipped styles."),
    ] = False,
) -> None:
    """Paint photos in the style of a trained generator; sizes stay as they are.

    Without --output, photo.jpg becomes photo_STYLE.jpg, and a folder becomes FOLDER_STYLE.
    What was painted before with the same generator and options is not painted again.
    A photo that cannot be painted is reported, the rest go on, and the exit status is 1.

    With --texture 1024x768 there are no photos, and the picture is STYLE_texture.png.
    One seed and size always give the same.
    """
    if not photos and texture is None:
        raise typer.BadParameter("name photos to paint, or a size: --texture 1024x768")
    try:
        if photos and texture is not None:
            raise InputError(
                f"--texture {texture} is painted without photos; leave one of them out"
            )
        generators = [find_generator(name) for name in checkpoint]
        style = "_".join(file.stem for file in generators)
        shares = None if blend is None else parse_shares(blend)
        options = {"shares": shares, "seed": seed, "noise": noise, "precision": precision.value}
        if texture is not None:
            dimensions = parse_size(texture)
            file = plan_texture(output, style, overwrite=overwrite)
            painted = Stylizer(generators, device.value, **options).texture(*dimensions)
            write_picture(file, painted, overwrite=overwrite)
            report([file])
            return
        controls = Controls(
            size, output_size, strength, colors.value, None if mask is None else read_mask(mask)
        )
        recipe = recipe_of(generators, controls, *options.values())
        plan = [] if watch_ else plan_outputs(photos or [], output, style)
        left = plan if overwrite else left_to_paint(plan, recipe)
        if len(left) < len(plan):
            tell(f"{len(plan) - len(left)} of {len(plan)} photos are painted already.")
        if not left and not watch_:
            return
        num_parallel = max(1, min(MAX_PARALLEL, num_cores(), len(left)))
        stylizer = Stylizer(generators, device.value, num_parallel=num_parallel, **options)
        if not stylizer.takes_photos:
            raise InputError(TEXTURES_ONLY)
        painting = Painting(stylizer, controls, recipe, overwrite, round(max_megapixels * 1e6))
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: tell(f"note: {message}")
            if watch_:
                status = watch(painting, lambda: plan_outputs(photos or [], output, style))
            else:
                status = paint_plan(painting, left)
        raise typer.Exit(status)
    except InputError as error:
        tell(f"error: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


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


def parse_shares(text: str) -> list[float]:
    """The numbers of "0.7,0.3".

    Raises:
        InputError: anything else.
    """
    try:
        return [float(share) for share in text.split(",")]
    except ValueError:
        raise InputError(
            f"--blend {text}: write a number for each checkpoint, as 0.7,0.3"
        ) from None
