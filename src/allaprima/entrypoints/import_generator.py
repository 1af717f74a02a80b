"""import_generator.py: models of PyTorch's fast neural style example, made ours."""

import hashlib
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from allaprima.entrypoints.printing import take_any_name
from allaprima.errors import InputError
from allaprima.weights import SUFFIX, save_generator

app = typer.Typer(add_completion=False)
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Console entry point."""
    app()


@app.command()
def import_generator(
    model: Annotated[Path, typer.Argument(help="State dict: .pth, .model, .pt, or .safetensors.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=f"NAME{SUFFIX}; else MODEL's name here.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the painting.")] = None,
    artist: Annotated[str | None, typer.Option(help="Of the painting.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the model: its author's terms.")] = None,
    source: Annotated[str | None, typer.Option(help="Where it is from, such as a URL.")] = None,
    float16: Annotated[bool, typer.Option("--float16", help="Half the size.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file.")] = False,
) -> None:
    """Turn a model of PyTorch's fast_neural_style example into a generator that paints the same.

    Tensors alone are read: a file that could run code is refused.
    """
    take_any_name()
    path = output or Path(f"{model.stem}{SUFFIX}")
    try:
        if os.path.exists(path) and os.path.exists(model) and os.path.samefile(path, model):
            raise InputError(f"{path} is the model itself; name another file with --output")
        from allaprima.importing import EXAMPLE, import_transformer_net

        generator = import_transformer_net(model)
        style = {"name": path.stem, "title": title or path.stem, "artist": artist}
        style |= {"licence": licence, "source": source}
        metadata = {
            "style": {key: text and _printable(text) for key, text in style.items()},
            "recipe": f"{EXAMPLE}, imported from {_printable(model.name)}",
            "imported_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        }
        save_generator(path, generator, metadata, half=float16, overwrite=overwrite)
    except InputError as error:
        console.print(f"error: {error}")
        raise typer.Exit(1) from None
    typer.echo(f"Wrote {path}. Paint with it:\n  python scripts/stylize.py PHOTO.jpg -c {path}")


def _printable(text: str) -> str:
    """Text with "?" for what no encoding has: bytes of a file's name that are no UTF-8."""
    return text.encode(errors="replace").decode()
