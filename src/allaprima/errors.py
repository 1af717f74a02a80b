"""The one exception that means "the input is wrong, not the program", and words for it."""

from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """A file, option or size that the user gave cannot be used.

    The message names the value received, the rule it breaks and the fix. Entry points print
    it without a traceback and exit with status 1.
    """


def some_of(items: Iterable[Any], limit: int = 3) -> str:
    """The first few items, and how many more there are."""
    names = [str(item) for item in items]
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def first_line(error: Exception) -> str:
    """An error in one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def reason(error: Exception) -> str:
    """What the system or a library says, without numbers of errors and the path."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
