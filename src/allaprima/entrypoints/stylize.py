"""stylize.py: paint photos, videos, folders of them, or textures with a trained generator."""

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allaprima.entrypoints.printing import say, take_any_name, tell
from allaprima.entrypoints.stylize_options import parse_options
from allaprima.errors import InputError

if TYPE_CHECKING:
    from allaprima.entrypoints.painting import Painting
    from allaprima.outputs import Plan
    from allaprima.records import Recipes

INTERRUPTED = 130  # the shell's status of a command that Ctrl-C ended
MAX_PARALLEL = 4  # photos painted at once, each on its share of the cores


def main(arguments: Sequence[str] | None = None) -> None:
    """Console entry point; ends by SystemExit with the status: 0, 1 of failures, 130 of Ctrl-C."""
    take_any_name()
    try:
        try:
            options = parse_options(arguments)
            raise SystemExit(list_styles() if options.list else run(options))
        except InputError as error:
            tell(f"error: {error}")
            raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def list_styles() -> int:
    """Print the shipped generators' names, what they say of themselves, and their thumbnails."""
    from allaprima.weights import list_generators, read_metadata

    lines = []
    for name, file in list_generators().items():
        style = read_metadata(file).get("style")
        about = style if isinstance(style, dict) else {}
        known = [about[key] for key in ("title", "artist", "year", "licence") if about.get(key)]
        lines.append(f"{name:20} {', '.join(map(str, known))}".rstrip())
        if (thumbnail := file.with_suffix(".jpg")).exists():
            lines.append(f"{'':20} {thumbnail}")
    say("\n".join(lines) or "No generator is shipped yet; scripts/train.py trains one.")
    return 0


def run(options: Any) -> int:
    """Paint what the options ask for; the exit status.

    Raises:
        InputError: nothing can be painted so.
    """
    from allaprima.outputs import output_path
    from allaprima.weights import find_generator

    if "" in (*options.photos, *options.checkpoint, options.output, options.mask):
        raise InputError(
            'a PHOTO, STYLE or PATH is empty: name one (is a variable unset?); "." is this folder'
        )
    if not 0 < options.max_megapixels * 1e6 < math.inf:
        raise InputError(
            f"--max-megapixels {options.max_megapixels:g} must be a number above 0, such as 200"
        )
    if options.photos and options.texture is not None:
        raise InputError(
            f"--texture {options.texture} is painted without photos; leave one of them out"
        )
    generators = [find_generator(name) for name in options.checkpoint]
    settings = {
        "shares": None if options.blend is None else parse_shares(options.blend),
        "seed": options.seed,
        "noise": options.noise,
        "grain": options.grain,
        "precision": options.precision,
        "tile": options.tile,
    }
    of_one = options.texture is not None or (
        len(options.photos) == 1 and not os.path.isdir(options.photos[0])
    )
    output = None if options.output is None else output_path(options.output, of_one)
    work = paint_photos if options.texture is None else paint_texture
    return work(options, generators, settings, output)


def paint_texture(
    options: Any, generators: list[Path], settings: dict[str, Any], output: Path | None
) -> int:
    """Paint a texture into its file; the exit status.

    Raises:
        InputError: the size, the file or the generator will not do.
    """
    from allaprima.entrypoints.painting import report
    from allaprima.images import check_long_side, write_picture
    from allaprima.outputs import plan_texture
    from allaprima.stylize import Stylizer

    size = parse_size(options.texture)
    file = plan_texture(output, style_of(generators), overwrite=options.overwrite)
    check_long_side(file, max(size))
    texture = Stylizer(generators, options.device, **settings).texture(*size)
    write_picture(file, texture, overwrite=options.overwrite)
    report([file])
    return 0


def paint_photos(
    options: Any, generators: list[Path], settings: dict[str, Any], output: Path | None
) -> int:
    """Paint photos and clips, those painted already left out, or watch folders; the exit status.

    Raises:
        InputError: nothing can be painted so.
    """
    from allaprima.controls import Controls, read_mask
    from allaprima.entrypoints.clip_painting import ClipOptions, check_clips
    from allaprima.entrypoints.painting import Painting, watch
    from allaprima.entrypoints.share_shown import show_share
    from allaprima.outputs import plan_outputs
    from allaprima.records import Recipes, recipe_of
    from allaprima.stylize import Stylizer

    mask_file = None if options.mask is None else Path(options.mask)
    mask = None if mask_file is None else read_mask(mask_file)
    controls = Controls(options.size, options.output_size, options.strength, options.colors, mask)
    clip_options = ClipOptions(options.codec, options.quality, options.steady)
    looks = generators, controls, *settings.values()
    recipes = Recipes(recipe_of(*looks), recipe_of(*looks, *clip_options[:3]))
    max_pixels = round(options.max_megapixels * 1e6)

    def plan_now() -> "Plan":
        photos = [Path(photo) for photo in options.photos]
        return plan_outputs(photos, output, style_of(generators), mask_file)

    def begin(**work: Any) -> "Painting":
        stylizer = Stylizer(generators, options.device, **work, **settings)
        stylizer.check_takes_photos()
        return Painting(stylizer, controls, recipes, options.overwrite, max_pixels, clip_options)

    if options.watch:
        clip_options = clip_options._replace(for_videos=True)
        return watch(begin(progress=show_share()), plan_now)
    plan = plan_now()
    clip_options = check_clips(plan, clip_options)
    return paint_left(plan, recipes, begin, overwrite=options.overwrite)


def paint_left(
    plan: "Plan", recipes: "Recipes", begin: Callable[..., "Painting"], *, overwrite: bool
) -> int:
    """Paint what of a plan is not painted yet; the exit status.

    Args:
        begin: called if anything is left, with the number of photos to paint at once and what
            tells of large ones.

    Raises:
        InputError: as :func:`allaprima.records.left_to_paint`, or as ``begin``.
    """
    from allaprima.clips import by_frames
    from allaprima.entrypoints.painting import name_of, paint_plan
    from allaprima.entrypoints.share_shown import show_share
    from allaprima.processors import num_cores
    from allaprima.records import left_to_paint

    left = plan if overwrite else left_to_paint(plan, recipes)
    if len(left) < len(plan):
        tell(f"{len(plan) - len(left)} of {len(plan)} {name_of(plan)} are painted already.")
    if not left:
        return 0
    if any(by_frames(*pair) for pair in left):
        # Frames of a clip follow one another, with all cores for each; their number is told.
        return paint_plan(begin(), left)
    num_parallel = min(MAX_PARALLEL, num_cores(), len(left))
    return paint_plan(begin(num_parallel=num_parallel, progress=show_share()), left)


def style_of(generators: Sequence[Path]) -> str:
    """The name for files: of the generator, or of all that are blended."""
    return "_".join(file.stem for file in generators)


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
