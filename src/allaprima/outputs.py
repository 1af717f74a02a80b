"""Which file each photo, clip or texture is painted into; mistakes are told before any work."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from allaprima.clips import (
    CLIP_SUFFIXES,
    NAMED_ONLY_SUFFIXES,
    TARGET_SUFFIXES,
    by_frames,
    is_clip,
    target_suffix,
)
from allaprima.errors import InputError, some_of
from allaprima.images import (
    READ_SUFFIXES,
    WRITE_FORMATS,
    check_writable,
    find_pictures,
    system_errors_told,
)

Plan = list[tuple[Path, Path]]

FOUND_SUFFIXES = tuple({*READ_SUFFIXES, *CLIP_SUFFIXES} - {*NAMED_ONLY_SUFFIXES})


def output_path(text: str, of_one: bool) -> Path:
    """What was said as --output.

    Args:
        of_one: one file is to be painted, so that one may be meant, not a folder.

    Raises:
        InputError: "-", or a new name with a suffix, but of no format that is known.
    """
    if text == "-":
        raise InputError("--output -: name a file or a folder, such as ./-; none is piped")
    output = Path(text)
    is_folder = text.endswith(("/", os.sep)) or os.path.isdir(text)
    if of_one and output.suffix and not is_folder and not _is_file(output):
        raise InputError(
            f"--output {text}: pictures are written as {', '.join(WRITE_FORMATS)}, clips as "
            f"{', '.join(TARGET_SUFFIXES)}; a folder of that name is {text}/"
        )
    return output


@system_errors_told()
def plan_outputs(
    inputs: Sequence[Path], output: Path | None, style: str, mask: Path | None = None
) -> Plan:
    """Pairs of a photo or clip and the file to paint it into, whether that exists or not.

    Without ``output``, ``photo.jpg`` becomes ``photo_STYLE.jpg`` beside it, and a folder is
    mirrored in ``FOLDER_STYLE`` beside it. ``output`` is a file, if it is named like a picture
    and there is one photo, else a folder that keeps the photos' names; with several inputs, each
    input folder has a folder of its own there. JPEG, PNG and WebP stay what they are, others
    become PNG; MP4, MOV, Matroska, WebM and what moves in GIF and WebP too, other clips become
    MP4. Pictures in the output folder are not photos to paint. An input that is no file
    is a pattern, as of a shell that left it alone: ``*``, ``?``, ``[ab]``, and ``**`` for folders
    of any depth.

    Raises:
        InputError: a photo is missing, there is none at all, or an output would be written twice,
            over a photo or the mask, or where it cannot be.
    """
    inputs = [path for each in inputs for path in _expand(each)]
    to_file = output is not None and _is_file(output)
    if to_file and (len(inputs) > 1 or inputs[0].is_dir()):
        raise InputError(f"--output {output} is one file, for one photo; name a folder instead")
    plan: dict[Path, Path] = {}
    for path in inputs:
        if path.is_dir():
            plan |= _mirror(path, output, style, alone=len(inputs) == 1)
        elif output is None:
            plan[path] = path.with_name(f"{path.stem}_{style}{_suffix(path)}")
        else:
            plan[path] = output if to_file else output / f"{path.stem}{_suffix(path)}"
    if not plan:
        raise InputError(
            f"no picture in {some_of(inputs)}; pictures end in {', '.join(READ_SUFFIXES)}, "
            f"clips in {', '.join(CLIP_SUFFIXES)}"
        )
    _check_plan(plan, mask)
    return list(plan.items())


@system_errors_told()
def plan_texture(output: Path | None, style: str, *, overwrite: bool = False) -> Path:
    """The file to paint a texture into: ``STYLE_texture.png`` here, or in ``output`` if a folder.

    Raises:
        InputError: it cannot be written, or exists already (unless ``overwrite``).
    """
    file = Path(f"{style}_texture.png")
    if output is not None:
        file = output if _is_file(output) else output / file
    check_writable(file, overwrite=overwrite)
    return file


def _expand(path: Path) -> list[Path]:
    if path.exists():
        return [path]
    found = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(str(path)) else []
    pictures = [file for file in map(Path, found) if file.suffix.lower() in FOUND_SUFFIXES]
    if not pictures:
        raise InputError(f"{path}: no such photo or folder")
    return pictures


def _is_file(output: Path) -> bool:
    return not os.path.isdir(output) and output.suffix.lower() in (*READ_SUFFIXES, *CLIP_SUFFIXES)


def _mirror(
    folder: Path, output: Path | None, style: str, alone: bool
) -> Iterator[tuple[Path, Path]]:
    named = folder if folder.name not in ("", "..") else _real(folder)
    if output is None:
        output = named.parent / f"{named.name}_{style}"
    elif not alone:
        output = output / named.name
    own = _real(output)
    for photo in find_pictures(folder, FOUND_SUFFIXES):
        if own == _real(folder) or own not in _real(photo).parents:
            inside = photo.relative_to(folder)
            yield photo, output / inside.with_name(f"{photo.stem}{_suffix(photo)}")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve() fails at links in a circle


def _suffix(photo: Path) -> str:
    if is_clip(photo):
        return target_suffix(photo)
    return photo.suffix if photo.suffix.lower() in WRITE_FORMATS else ".png"


def _check_plan(plan: dict[Path, Path], mask: Path | None) -> None:
    photos = {_real(photo) for photo in plan}
    painted_from: dict[Path, Path] = {}
    for photo, painted in plan.items():
        real = _real(painted)
        if real in photos:
            raise InputError(f"{painted} is itself a photo to paint; choose another --output")
        if mask is not None and real == _real(mask):
            raise InputError(f"{painted} is the --mask; choose another --output")
        if real in painted_from:
            raise InputError(
                f"{painted_from[real]} and {photo} would both be painted into {painted}; "
                "paint them in two commands with different --output"
            )
        painted_from[real] = photo
        if by_frames(photo, painted):
            check_writable(painted, overwrite=True, kind="clips", suffixes=TARGET_SUFFIXES)
        else:
            check_writable(painted, overwrite=True)
