"""Large photos in bands of rows: time, memory, and how near the picture comes to the whole's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from allaprima.engines import average_weights
from allaprima.painter import Painter
from allaprima.tiling import BAND_PX, TiledPainter
from allaprima.weights import find_generator, list_generators
from benchmarks.figures import Goal, Row, Section, interleave
from benchmarks.memory import peak_memory

ROOT = Path(__file__).parent.parent
PHOTOS = ROOT / "src/allaprima/assets/photos/val"
MODES = ("off", "exact", "fast")
STYLE = "starry_night"
BY_TORCH = {
    "32-64-128, instance norm": ("johnson", {}),
    "32-64-128, batch norm": ("johnson", {"norm": "batch"}),
    "Ulyanov's network, instance norm": ("ulyanov", {}),
    "Ulyanov's network, batch norm": ("ulyanov", {"norm": "batch"}),
}
FULL_HD, HUGE = (1088, 1920), (8700, 11600)


def tiling_figures(quick: bool) -> dict[str, Any]:
    """Whole, exact and fast in turns on one photo; how near both come to it, by generator."""
    painter = make_painter()
    photo = make_photo(*(FULL_HD if quick else (2736, 3648)))
    megapixels = photo.shape[0] * photo.shape[1] / 1e6
    calls = {mode: TiledPainter(painter, mode) for mode in MODES}
    timed = {mode: (lambda call=call: call(photo)) for mode, call in calls.items()}
    seconds = interleave(timed, rounds=3 if quick else 5, limit_s=8 if quick else 60)
    rows = [Row(mode, seconds[mode], megapixels, "megapixels") for mode in MODES]
    if not quick:
        for mode in MODES[1:]:
            peak = peak_memory("benchmarks.tiling:make_call", mode, *HUGE, calls=1).over_start
            rows.append(Row(f"{mode}, 101 megapixels", [], memory_mb=peak))
    section = Section("tiling", "Large photos in bands of rows", rows[:3], baseline="off")
    section.goals = [
        Goal("fast: time of the whole's", rows[2].median_s / rows[0].median_s, most=1.3)
    ]
    section.goals += [
        Goal(f"peak of {r.name}", r.memory_mb, most=2048, unit=" MB") for r in rows[3:]
    ]
    for name in (STYLE,) if quick else list_generators():
        section.goals += nearness_goals(name, num_photos=3 if quick else 5)
    for name, (network, arguments) in () if quick else BY_TORCH.items():
        difference = torch_difference(network, **arguments)
        what = f"{name}: exact, difference from the whole"
        section.goals.append(Goal(what, difference, most=1 / 255, unit=""))
    section.notes = [
        "The shipped Starry Night, float32. Whole: all at once. Differences and gradients are of "
        "1920×1088. The networks that no style names have random weights and are run by torch."
    ]
    return section.as_dict()


def nearness_goals(name: str, num_photos: int) -> list[Goal]:
    """What a shipped generator paints in bands beside the same painted at once."""
    painter = make_painter(name)
    near = [nearness(painter, make_photo(*FULL_HD, each)) for each in range(num_photos)]
    exact, psnr, gradients = zip(*near, strict=True)
    return [
        Goal(f"{name}: exact, difference from the whole", max(exact), most=1 / 255, unit=""),
        Goal(f"{name}: fast, PSNR, median photo", float(np.median(psnr)), least=35, unit=" dB"),
        Goal(
            f"{name}: fast, gradient across bands to elsewhere", max(gradients), most=1.02, unit=""
        ),
    ]


def make_painter(name: str = STYLE) -> Painter:
    """A shipped generator's, float32."""
    metadata, weights = average_weights([find_generator(name)], None)
    arguments: Any = metadata["arguments"]
    return Painter(arguments, weights)


def make_photo(height: int, width: int, number: int = 0) -> np.ndarray:
    """A demo photo, scaled up, with the grain that it lost so; uint8."""
    files = sorted(PHOTOS.glob("*.jpg"))
    with Image.open(files[number % len(files)]) as image:
        large = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    photo = np.array(large)
    random = np.random.default_rng(number)
    for top in range(0, height, 256):  # in parts, for memory
        part = photo[top : top + 256]
        part[...] = (part + random.normal(0, 4, part.shape).astype(np.float32)).clip(0, 255)
    return photo


def make_call(mode: str, height: int, width: int) -> Callable[[], Any]:
    painter, photo = TiledPainter(make_painter(), mode), make_photo(height, width)
    return lambda: painter(photo)


def torch_difference(network: str, **arguments: Any) -> float:
    """The largest one between exact tiles and the whole, by torch with random weights."""
    import torch

    from allaprima.generators.johnson import JohnsonGenerator
    from allaprima.generators.ulyanov import UlyanovGenerator
    from allaprima.torch_painter import stylize
    from allaprima.torch_tiling import paint_in_tiles

    torch.manual_seed(0)
    networks = {"johnson": JohnsonGenerator, "ulyanov": UlyanovGenerator}
    generator = networks[network](**arguments).eval()
    photo = make_photo(*FULL_HD) / np.float32(255)
    whole, tiled = stylize(generator, photo), paint_in_tiles(generator, photo, "32", exact=True)
    return float(np.abs(tiled - whole).max())


def nearness(painter: Painter, photo: np.ndarray) -> tuple[float, float, float]:
    """Of exact: the largest difference. Of fast: PSNR, and gradients across bands to elsewhere."""
    photo = photo / np.float32(255)
    whole = painter(photo)
    exact, fast = (TiledPainter(painter, mode)(photo) for mode in MODES[1:])
    psnr = -10 * np.log10(np.square(fast - whole).mean())

    def across(picture: np.ndarray) -> float:
        steps = np.abs(np.diff(picture, axis=0)).mean((1, 2))
        return float(steps[BAND_PX - 1 :: BAND_PX].mean() / steps.mean())

    return float(np.abs(exact - whole).max()), float(psnr), across(fast) / across(whole)
