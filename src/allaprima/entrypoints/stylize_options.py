"""The options of stylize.py; argparse, for the painting of a photo is to take half a second."""

import argparse
from collections.abc import Sequence

from allaprima.entrypoints.printing import say

DESCRIPTION = """\
Paint photos, videos and animations in the style of a trained generator; sizes stay as they are.

Without --output, photo.jpg becomes photo_STYLE.jpg, and a folder becomes FOLDER_STYLE.
What was painted before with the same generator and options is not painted again.
A file that cannot be painted is reported, the rest go on, and the exit status is 1.

Videos keep their times and sound. GIFs and WebPs that move go on moving, unless the output is
named .png or .jpg. Ctrl-C leaves a video that plays to where it was painted.

With --texture 1024x768 there are no photos, and the picture is STYLE_texture.png.
One seed and size always give the same.
"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's options by their names; exits after --help, or with status 2 at a mistake."""
    parser = argparse.ArgumentParser(
        prog="stylize.py",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("photos", nargs="*", metavar="PHOTO", help="photos, clips, folders of them, and patterns")
    add(
        *("-c", "--checkpoint"),
        action="append",
        metavar="STYLE",
        help="a shipped style's name, or a generator's file; several: see --blend",
    )
    add("-o", "--output", metavar="PATH", help="a file for one picture, else a folder")
    add("--overwrite", action="store_true", help="paint all anew, and replace what exists")
    add("--watch", action="store_true", help="go on: paint what comes into the folders, to Ctrl-C")
    add("--list", action="store_true", help="name the shipped styles")
    _add_looks(parser.add_argument_group("how it looks"))
    _add_clips(parser.add_argument_group("videos and animations"))
    _add_noise(parser.add_argument_group("textures and noise"))
    _add_machine(parser.add_argument_group("the machine"))
    try:
        options = parser.parse_intermixed_args(arguments)
    except SystemExit:
        say("", end="")  # what --help printed may not be written yet
        raise
    if not options.list:
        if not options.checkpoint:
            parser.error("choose a style: -c NAME, or -c FILE.safetensors; --list names them")
        if not options.photos and options.texture is None:
            parser.error("name photos to paint, or a size: --texture 1024x768")
    return options


def _add_looks(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--size",
        type=int,
        metavar="PX",
        help="long side to paint at: smaller makes broader strokes; the photo's size stays",
    )
    add("--output-size", type=int, metavar="PX", help="long side of the result")
    add("--strength", type=float, default=1.0, metavar="0…1", help="0 is the photo, 1 the painting")
    add(
        "--colors",
        choices=("style", "photo", "matched"),
        default="style",
        help="the style's; the photo's own; or the style's matched to the photo's palette",
    )
    add(
        "--grain",
        type=float,
        metavar="LEVELS",
        help="in flat parts of photos, of 255, so that they are painted in strokes too; 0 is none, "
        "and the usual is what the generator's file says",
    )
    add(
        "--mask",
        metavar="PICTURE",
        help="painted where it is white, by degrees where it is grey",
    )
    add(
        "--blend",
        metavar="A,B",
        help="shares in which several checkpoints' weights are averaged, as 0.7,0.3",
    )


def _add_clips(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--codec",
        choices=("auto", "h264", "h265", "vp9", "av1"),
        default="auto",
        help="auto is H.264, and VP9 in .webm",
    )
    add(
        "--quality",
        type=int,
        metavar="N",
        help="of the codec: 0 is best, to 51, or 63 of vp9 and av1; of .webp 0 to 100, the best",
    )
    add("--steady", action="store_true", help="strokes stay with what they paint; takes longer")


def _add_noise(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--texture",
        metavar="WIDTHxHEIGHT",
        help="paint a texture of this size instead of photos, with a generator of textures",
    )
    add(
        "--seed", type=int, help="of the noise, where a generator has any: another, another picture"
    )
    add("--noise", type=float, help="strength of the noise: 0 is none, 1 as in training")


def _add_machine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="what computes; auto is a GPU where there is one",
    )
    add(
        "--precision",
        choices=("32", "bf16"),
        default="32",
        help="bf16 is faster on processors that have it, and less exact",
    )
    add(
        "--tile",
        choices=("auto", "off", "exact", "fast"),
        default="auto",
        help="large photos in parts, in little memory: auto where the whole would need much, with "
        "the same result; fast is sooner and nearly the same",
    )
    add(
        "--max-megapixels",
        type=float,
        default=200.0,
        metavar="N",
        help="larger photos are refused unread (200)",
    )
