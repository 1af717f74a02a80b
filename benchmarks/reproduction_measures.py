"""What is measured on the runs' generators and pictures for docs/reproduction.md."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from allaprima.entrypoints.configuration import register_resolvers
from allaprima.images import read_picture, resize
from allaprima.losses import PerceptualLoss
from allaprima.photos import list_folder, read_square
from allaprima.resources import resource_dir
from allaprima.styles import read_style
from allaprima.stylize import stylize
from allaprima.weights import load_generator

PHOTOS = list_folder(resource_dir("assets") / "photos" / "val")


def generator_of(run: Path) -> torch.nn.Module:
    return load_generator(next(run.glob("*.safetensors")))[0]


def square(photo: Path, size_px: int) -> np.ndarray:
    """The central square, float32 in [0,1]."""
    return np.divide(read_square(photo, size_px), 255, dtype=np.float32)


def lower_contrast(rgb: np.ndarray, contrast: float) -> np.ndarray:
    """Every pixel nearer to the mean colour."""
    mean = rgb.mean((0, 1), keepdims=True)
    return mean + np.float32(contrast) * (rgb - mean)


def contrast_change(run: Path, contrast: float = 0.25, size_px: int = 256) -> float:
    """RMS difference of the paintings of photos and of the same at a lower contrast."""
    generator = generator_of(run)
    squares = [square(photo, size_px) for photo in PHOTOS]
    pairs = [
        (stylize(generator, s), stylize(generator, lower_contrast(s, contrast))) for s in squares
    ]
    return float(np.sqrt(np.mean([(a - b) ** 2 for a, b in pairs])))


def validation_curve(run: Path) -> list[tuple[int, float]]:
    """(step, loss on the validation photos) as TensorBoard shows them, while training."""
    events = EventAccumulator(str(run / "tensorboard")).Reload().Scalars("validation/loss")
    return [(event.step + 1, event.value) for event in events[:-2]]  # told twice more at the end


def rms_difference(a: Path, b: Path) -> float:
    """Of two runs' pictures, in [0,1]."""
    return float(np.sqrt(np.mean((read_picture(a).rgb - read_picture(b).rgb) ** 2)))


@cache
def _scale() -> PerceptualLoss:
    """Relative errors by the layers of Gatys 2016, one scale for pictures of all methods."""
    register_resolvers()
    with initialize_config_dir(str(resource_dir("configs").resolve()), version_base="1.3"):
        cfg = compose("train", ["style=starry_night", "loss=gatys", "output_dir=."])
    return instantiate(cfg.loss, _convert_="all")


def score(picture: Path, photo: Path, painting: Path, style_px: int) -> dict[str, float]:
    """Relative content and style error under VGG-19, and roughness: mean step between pixels."""
    loss = _scale().for_style(read_style(str(painting), style_px))
    rgb = read_picture(picture).rgb
    height, width = rgb.shape[:2]
    image, content = (
        torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None]
        for x in (rgb, resize(read_picture(photo).rgb, height, width))
    )
    with torch.no_grad():
        terms = loss(image, loss.content_targets(content))
    steps = np.abs(np.diff(rgb, axis=0)).mean() + np.abs(np.diff(rgb, axis=1)).mean()
    content_weight, style_weight = (
        sum(w.values()) for w in (loss.content_layers, loss.style_layers)
    )
    return {
        "content": sum(t.item() for n, t in terms.items() if n[0] == "c") / content_weight,
        "style": sum(t.item() for n, t in terms.items() if n[0] == "s") / style_weight,
        "roughness": float(steps / 2),
    }
