"""Fast feed-forward style transfer: a small network per style paints any photo in one pass.

from allaprima import Stylizer

painted = Stylizer("starry_night")(image)  # of Pillow, to one of the same size
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allaprima.controls import Controls as Controls
    from allaprima.errors import InputError as InputError
    from allaprima.stylize import Stylizer as Stylizer

__version__ = "0.1.0"
__all__ = ["Controls", "InputError", "Stylizer"]

_HOMES = {"Controls": "controls", "InputError": "errors", "Stylizer": "stylize"}


def __getattr__(name: str) -> Any:
    """The public classes, imported when they are asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
