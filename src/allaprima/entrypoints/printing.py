"""What stylize.py prints: results on the standard output, all else beside them."""

import io
import os
import sys

from allaprima.errors import InputError


def take_any_name() -> None:
    """Let files be named whose names the standard output cannot encode."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str, end: str = "\n") -> None:
    """Print a result; a reader who has had enough, as head has, is no error.

    Raises:
        InputError: it cannot be written, as on a full disk.
    """
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to flush
        if not isinstance(error, BrokenPipeError):
            raise InputError(f"the standard output cannot be written: {error.strerror}") from error


def tell(line: str) -> None:
    """A line that is no result."""
    print(line, file=sys.stderr, flush=True)
