"""The recipe in a generator's file: plain data, and what of it may be built again.

A file may come from a stranger, so a recipe names parts and never runs any: what is built from it
has been checked to consist of this package's own losses, layer weights, loss network and tasks.
"""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from allaprima import layer_weights, loss_network, losses, tasks
from allaprima.errors import InputError
from allaprima.images import RESIZE_FILTER
from allaprima.resources import resource_dir

MODULES = (losses, layer_weights, loss_network, tasks)


def read_recipe(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a generator's metadata, as plain data that nothing has been built from.

    Raises:
        InputError: none, no YAML mapping, or one of a training with another resize than ours.
    """
    text = metadata.get("recipe")
    if not isinstance(text, str):
        raise InputError(
            "the checkpoint records no recipe, so its loss is not known; take one that "
            "scripts/train.py wrote"
        )
    try:
        # Aliases would let a short text stand for a huge or an endless structure.
        aliases = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        recipe = None if aliases else yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"the checkpoint's recipe is no YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise InputError("the checkpoint's recipe is not a mapping of plain values")
    if recipe.get("resize") != RESIZE_FILTER:
        raise InputError(
            f"the checkpoint's style image was resized by {recipe.get('resize')}, here it would be "
            f"by {RESIZE_FILTER}: another target. Evaluate it with the release that trained it"
        )
    return recipe


def checked_part(recipe: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A group of a recipe such as ``loss``, once every ``_target_`` in it is known to be ours.

    Raises:
        InputError: no such group; anything in it that could run other code.
    """
    part = recipe.get(name)
    if not isinstance(part, dict) or "_target_" not in part:
        raise InputError(f"the checkpoint's recipe has no {name}; give {name}=NAME")
    _check(part, name, _known_targets())
    return part


def find_style(style: Any, given: str | None) -> str:
    """The image that a checkpoint was trained on: what the user gave, or a shipped one.

    Args:
        style: what the checkpoint says of its style: image (a file name), source, title, …
        given: the user's ``style.image``.

    Raises:
        InputError: it was another file, or it is not shipped and none is given.
    """
    recorded = style.get("image") if isinstance(style, dict) else None
    if not isinstance(recorded, str) or not recorded:
        raise InputError("the checkpoint does not say on which style image it was trained")
    if given:
        if Path(given).name != recorded:
            raise InputError(
                f"style.image={given}: the checkpoint was trained on {recorded}, and under another "
                "image its losses mean nothing; give that one (or rename it, if it is the same)"
            )
        return given
    shipped = resource_dir("assets") / "styles" / Path(recorded).name
    if style.get("source") and shipped.is_file():  # a user's own image has no source
        return str(shipped)
    raise InputError(
        f"the checkpoint was trained on {recorded}, which does not come with the package: "
        f"add style.image=FOLDER/{recorded}"
    )


def _known_targets() -> set[str]:
    names = {name for module in MODULES for name in _public_names(module)}
    return names | {f"{losses.__name__}.{name}" for name in losses.__all__}  # of other files too


def _public_names(module: ModuleType) -> list[str]:
    """Full names of the classes and functions that a module defines itself."""
    return [
        f"{module.__name__}.{name}"
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _check(node: Any, where: str, targets: set[str]) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            allowed = not str(key).startswith("_")
            allowed |= key == "_target_" and isinstance(value, str) and value in targets
            allowed |= key == "_partial_" and isinstance(value, bool)
            if not allowed:
                raise InputError(
                    f"the checkpoint's recipe is refused: {where}.{key}={value!r:.60} is none of "
                    "allaprima's losses or networks and could run code of its own"
                )
            _check(value, f"{where}.{key}", targets)
    elif isinstance(node, list):
        for item in node:
            _check(item, where, targets)
    elif isinstance(node, str) and "${" in node:
        raise InputError(f"the checkpoint's recipe is refused: {where}={node!r:.60} is no value")
