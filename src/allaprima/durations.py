"""Times as people write them."""

import math

from allaprima.errors import InputError


def parse_duration(text: str | float) -> float:
    """Seconds of "45s", "10m", "2h", "1h30m" or a plain number of seconds.

    Raises:
        InputError: anything else, or no time at all.
    """
    units = {"h": 3600, "m": 60, "s": 1}
    number, seconds = "", 0.0
    try:
        for character in str(text).strip().lower():
            if character in units:
                seconds, number = seconds + float(number) * units[character], ""
            else:
                number += character
        seconds += float(number or 0)
    except ValueError:
        seconds = math.nan
    if not (0 < seconds < math.inf):
        raise InputError(f"budget={text} is not a time; write 45s, 10m, 2h or 1h30m")
    return seconds


def format_duration(duration_s: float) -> str:
    """Such as "2 h 05 min", "7 min 30 s", "12 s"."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
