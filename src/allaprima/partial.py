"""Files appear complete or not at all: they are written under another name first."""

import os
import zlib
from pathlib import Path


def partial_of(path: Path, suffix: str = "") -> Path:
    """A hidden name beside ``path``, of this process, to be moved to it when it is complete.

    ``path``'s own name is not in it: that may be as long as names can be.

    Args:
        suffix: for writers whom it tells the format.
    """
    name = zlib.crc32(os.fsencode(path.name))
    return path.with_name(f".{name:08x}.{os.getpid()}.part{suffix}")
