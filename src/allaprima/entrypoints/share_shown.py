"""How far a large photo is painted, and the time left, on one line of a terminal."""

import os
import sys
import time
from collections.abc import Callable

EVERY_S = 0.5
ERASE_LINE = "\r\x1b[K"


def show_share(clock: Callable[[], float] = time.monotonic) -> Callable[[float], None] | None:
    """What to tell of the share that is done, 0 to 1, again and again; None without a terminal."""
    return _Line(clock).tell if os.isatty(2) else None


class _Line:
    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.share, self.began, self.shown = 1.0, 0.0, 0.0

    def tell(self, share: float) -> None:
        now = self.clock()
        if share < self.share:  # the next photo
            self.began = self.shown = now
        self.share = share
        if share > 0.999:
            sys.stderr.write(ERASE_LINE)
        elif now - self.shown >= EVERY_S:
            self.shown = now
            left = round((now - self.began) * (1 - share) / share)
            sys.stderr.write(f"{ERASE_LINE}{share:4.0%}, {left // 60}:{left % 60:02} left")
        sys.stderr.flush()
