"""What a finished run leaves: the generator's file, its model card, a before/after picture."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import allaprima
from allaprima.errors import InputError
from allaprima.images import write_picture
from allaprima.partial import partial_of
from allaprima.training import StyleTransferModule
from allaprima.weights import describe_generator, save_generator


def result_paths(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """The generator's file, the model card and the picture of a style's run."""
    return folder / f"{name}.safetensors", folder / f"{name}.md", folder / f"{name}.jpg"


def check_unused(folder: Path, name: str, resumed: Path | None) -> None:
    """Raise InputError if the folder holds a result, or a checkpoint other than the resumed one."""
    for file in (result_paths(folder, name)[0], folder / "last.ckpt"):
        if file.exists() and not (resumed and file.samefile(resumed)):
            raise InputError(
                f"{file} exists already and is kept: choose another output with "
                "hydra.run.dir=FOLDER, or say overwrite=true"
            )


@torch.inference_mode()
def write_result(
    folder: Path, module: StyleTransferModule, photos: list[Tensor], record: dict[str, Any]
) -> Path:
    """Write the three files of :func:`result_paths`; return the generator's.

    Args:
        photos: RGB (3, H, W) in [0,1], not trained on.
        record: "style" (a mapping with name, title, artist, …), "recipe", "command", "commit" (of
            the run's start), "metrics".
    """
    generator, card, picture = result_paths(folder, record["style"]["name"])
    record = {**record, "software": _software()}
    write_picture(picture, _before_after(module, photos), overwrite=True)
    save_generator(generator, module.painter.cpu(), record, overwrite=True)
    description = describe_generator(module.generator)
    partial = partial_of(card)
    text = model_card(record, description, generator, f"{module.task.usage} -c {generator.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, card)
    return generator


def _before_after(module: StyleTransferModule, photos: list[Tensor]) -> np.ndarray:
    rows = []
    for photo in photos:
        batch = photo[None].to(module.device, memory_format=torch.channels_last)
        given = module.task.input(batch)
        panels = module.task.panels(module.painter(given), batch, given)
        rows.append(torch.cat([panel[0].float().cpu() for panel in panels], dim=-1))
    return torch.cat(rows, dim=-2).permute(1, 2, 0).numpy()


def model_card(
    record: dict[str, Any], description: dict[str, Any], generator: Path, usage: str
) -> str:
    """The Markdown page of a generator's file, from what its metadata say."""
    style = record["style"]
    by = f" after {style['artist']}, {style['year']}" if style.get("artist") else ""
    metrics = "\n".join(f"| {k} | {_number(v)} |" for k, v in record["metrics"].items())
    return f"""# {style["title"]}

A feed-forward generator{by}, trained with allaprima.

![photos and what it makes of them]({generator.stem}.jpg)

    python scripts/stylize.py {usage}

| | |
|---|---|
| file | `{generator.name}`, {generator.stat().st_size / 1e6:.2f} MB |
| generator | {description["generator"]}, `{description["arguments"]}` |
| style image | {_style_image(style)} |
| licence | {style["licence"] or "not stated: that of the style image, which you chose"} |
| command | `{record["command"]}` |
| commit | {record["commit"]} |
| software | {record["software"]} |
{metrics}

Losses and metrics are on photos that were not trained on, under the weights of the recipe:

```yaml
{record["recipe"].strip()}
```
"""


def _style_image(style: dict[str, Any]) -> str:
    if not style["image"]:
        return "none"
    blurred = f", blurred by {style['blur_px']} px" if style.get("blur_px") else ""
    return f"`{style['image']}`, short side {style['size_px'] or 'as it is'}{blurred}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _software() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    return (
        f"allaprima {allaprima.__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {platform.system()} {device or platform.machine()}"
    )


def source_commit() -> str:
    """The source tree's commit, or the release where there is no source tree.

    " with changes" is said of a tree where files have changed since, other than its documentation.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # or it is another project's tree
        but_documentation = ":/", ":(top,exclude)*.md", ":(top,exclude)docs"
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *but_documentation)
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return f"release {allaprima.__version__}"
