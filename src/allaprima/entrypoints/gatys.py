"""gatys.py: paint a photo, or synthesise a texture, by optimising pixels."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, open_dict
from torch import Tensor

from allaprima.allocator import keep_freed_memory
from allaprima.entrypoints.configuration import expand_home, register_resolvers, run_or_explain
from allaprima.entrypoints.watch import Watch, console
from allaprima.errors import InputError
from allaprima.gatys import (
    OnEvaluation,
    make_noise,
    scale_image,
    stylize_photo,
    synthesize_texture,
)
from allaprima.images import read_picture, resize, write_picture
from allaprima.losses import PerceptualLoss
from allaprima.resources import resource_dir
from allaprima.styles import read_styles
from allaprima.stylize import choose_device


class Job(NamedTuple):
    """What is optimised, and how the optimised image becomes the picture."""

    optimize: Callable[[OnEvaluation], Tensor]
    finish: Callable[[Tensor], np.ndarray]
    evaluations: list[int]


def main() -> None:
    """Console entry point."""
    register_resolvers()
    expand_home()
    configs = str(resource_dir("configs").resolve())
    task = hydra.main(version_base="1.3", config_path=configs, config_name="gatys")
    task(lambda cfg: run_or_explain(paint, cfg))()


def paint(cfg: DictConfig) -> None:
    """Write the picture that the configuration describes.

    Raises:
        InputError: what the user gave cannot be painted, told before the work starts.
    """
    if cfg.size_px is not None and cfg.size_px < 1:
        raise InputError(f"size_px={cfg.size_px} must be at least 1, or null for the photo's own")
    keep_freed_memory()
    name_style(cfg)
    output = Path(cfg.output or default_output(cfg))
    job = plan_stylization(cfg) if cfg.content else plan_texture(cfg)
    watch = Watch(cfg, output, sum(job.evaluations), job.finish)
    with watch:
        image = job.optimize(watch)
    write_picture(output, job.finish(image), overwrite=cfg.overwrite)
    watch.report()
    if watch.stopped_by:
        console.print(f"Stopped: {output} is the best image until then.")
        sys.exit(128 + watch.stopped_by)
    console.print(f"Wrote {output}." if cfg.content else f"Wrote {output}. Train on it:")
    if not cfg.content:
        console.print(f"  python scripts/train.py style.image={output} style.size_px=null")


def plan_stylization(cfg: DictConfig) -> Job:
    """A photo in a style."""
    photo = read_picture(cfg.content).rgb
    if cfg.size_px is not None:
        scale = cfg.size_px / max(photo.shape[:2])
        height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
        photo = resize(photo, height, width)
    if cfg.colors not in cfg.color_modes:
        choices = ", ".join(map(str, cfg.color_modes))
        raise InputError(f"unknown colors={cfg.colors}; choose one of: {choices}")
    colors: Any = instantiate(cfg.color_modes[cfg.colors])
    styles = [to_tensor(colors.of_style(to_rgb(s), photo)) for s in read_style_images(cfg)]
    content = to_tensor(colors.of_photo(photo))
    start = make_start(cfg.init, content, styles[0], cfg.seed)
    loss = make_loss(cfg.loss, styles, cfg)
    evaluations = list(cfg.evaluations or cfg.stylization.evaluations)
    optimizer: Any = instantiate(cfg.optimizer, _convert_="all")

    def optimize(on_evaluation: OnEvaluation) -> Tensor:
        return stylize_photo(loss, content, start, evaluations, optimizer, on_evaluation)

    def finish(image: Tensor) -> np.ndarray:
        return colors.of_result(to_rgb(scale_image(image[0], *photo.shape[:2])), photo)

    loss.content_targets(scale_image(content, *photo.shape[:2])[None].to(loss.network.mean))
    return Job(optimize, finish, evaluations)


def plan_texture(cfg: DictConfig) -> Job:
    """A texture with a painting's statistics."""
    if cfg.size_px is None:
        raise InputError(
            "size_px=null is the photo's size: give content=PHOTO, or a texture's side"
        )
    if cfg.colors != "style" or cfg.init not in ("content", "noise"):
        raise InputError(
            f"colors={cfg.colors}, init={cfg.init} need content=PHOTO; a texture has the "
            "painting's colours and starts from noise"
        )
    loss = make_loss(cfg.texture_loss, read_style_images(cfg), cfg)
    evaluations = list(cfg.evaluations or cfg.texture.evaluations)
    optimizer: Any = instantiate(cfg.optimizer, _convert_="all")

    def optimize(on_evaluation: OnEvaluation) -> Tensor:
        return synthesize_texture(
            loss, cfg.size_px, evaluations, cfg.seed, optimizer, on_evaluation
        )

    return Job(optimize, lambda image: to_rgb(image[0]), evaluations)


def read_style_images(cfg: DictConfig) -> list[Tensor]:
    images = cfg.style.image
    return read_styles(
        list(images) if isinstance(images, ListConfig) else images, cfg.style.size_px
    )


def make_loss(node: DictConfig, styles: list[Tensor], cfg: DictConfig) -> PerceptualLoss:
    """The loss of a configuration, with style images that are in no file."""
    device = choose_device(cfg.device)
    with open_dict(node):
        node.style, node._partial_ = None, True
    make: Any = instantiate(node, _convert_="all")
    blend = cfg.style.get("blend")
    return make(style=styles, blend=None if blend is None else list(blend)).to(device)


def make_start(init: str, content: Tensor, style: Tensor, seed: int) -> Tensor:
    """Where the optimisation starts from: one of the names, else a picture of the same size."""
    height, width = content.shape[1:]
    if init == "content":
        return content
    if init == "noise":
        return make_noise(height, width, style.mean((1, 2)), seed)
    if init == "style":  # as much of its middle as has the photo's shape
        rows, columns = style.shape[1:]
        scale = min(rows / height, columns / width)
        left, top = (columns - width * scale) / 2, (rows - height * scale) / 2
        box = (left, top, columns - left, rows - top)
        return to_tensor(resize(np.ascontiguousarray(to_rgb(style)), height, width, box))
    if not Path(init).exists():
        raise InputError(f"init={init}: neither content, style or noise, nor a picture")
    start = to_tensor(read_picture(init).rgb)
    if start.shape != content.shape:
        raise InputError(
            f"init={init} is {start.shape[2]} × {start.shape[1]} px, but the working size is "
            f"{width} × {height} px: scale it, or change size_px"
        )
    return start


def name_style(cfg: DictConfig) -> None:
    """Several style images are named after all of them."""
    if isinstance(cfg.style.image, ListConfig):
        cfg.style.name = "_".join(Path(image).stem for image in cfg.style.image)


def default_output(cfg: DictConfig) -> str:
    if cfg.content:
        return f"{Path(cfg.content).stem}_{cfg.style.name}.png"
    return f"{cfg.style.name}_texture.png"


def to_tensor(rgb: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rgb, np.float32)).permute(2, 0, 1)


def to_rgb(image: Tensor) -> np.ndarray:
    return image.cpu().permute(1, 2, 0).numpy()
