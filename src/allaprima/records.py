"""What a painting's file says of its making, so that a folder is not painted twice."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from allaprima.clip_notes import read_note
from allaprima.clips import TARGET_SUFFIXES, by_frames
from allaprima.controls import Controls
from allaprima.errors import InputError, some_of
from allaprima.images import read_made_by
from allaprima.outputs import Plan


def recipe_of(generators: Sequence[Path], controls: Controls, *options: object) -> str:
    """A short name of all that decides how photos are painted: files' contents and options.

    Raises:
        InputError: a generator's file cannot be read.
    """
    recipe = hashlib.sha256()
    for file in generators:
        try:
            recipe.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}") from error
    for name, value in vars(controls).items():
        recipe.update(f"{name}=".encode())
        recipe.update(value.tobytes() if name == "mask" and value is not None else b"")
        recipe.update(f"{getattr(value, 'shape', value)};".encode())
    recipe.update(repr(options).encode())
    return recipe.hexdigest()[:16]


class Recipes(NamedTuple):
    """Of photos and of clips, each by :func:`recipe_of`."""

    photos: str
    clips: str

    def of(self, source: Path, painted: Path) -> str:
        """The one by which a file is painted into another."""
        return self.clips if by_frames(source, painted) else self.photos


def made_by(recipe: str, photo: Path) -> str:
    """What is noted in a painting (EXIF "Software"): the recipe, and which state of the photo.

    A photo's state is its size in bytes and its time of change, as make and rsync have it.

    Raises:
        InputError: the photo is gone.
    """
    try:
        state = photo.stat()
    except OSError as error:
        raise InputError(f"{photo} cannot be read: {error.strerror}") from error
    stamp = hashlib.sha256(f"{state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]
    return f"{_start(recipe)}{stamp}"


def left_to_paint(plan: Plan, recipes: Recipes) -> Plan:
    """What of a plan is not done: paintings that do not exist, or whose photo has changed.

    Raises:
        InputError: a file exists that was not made by these recipes.
    """
    left: Plan = []
    foreign: list[Path] = []
    for photo, painted in plan:
        if not painted.exists():
            left.append((photo, painted))
            continue
        said, recipe = _made_by(painted), recipes.of(photo, painted)
        if not said.startswith(_start(recipe)):
            foreign.append(painted)
        elif said != made_by(recipe, photo):
            left.append((photo, painted))
    if foreign:
        raise InputError(
            "existing files, not of this generator and these options, are kept unless you say "
            f"--overwrite: {some_of(foreign)}"
        )
    return left


def _made_by(painted: Path) -> str:
    is_clip = painted.suffix.lower() in TARGET_SUFFIXES and painted.is_file()
    note = read_note(painted) if is_clip else ""
    return note or read_made_by(painted)


def _start(recipe: str) -> str:
    return f"allaprima recipe {recipe} photo "
