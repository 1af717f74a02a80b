"""The C library's memory allocator, told that large blocks will be needed again."""

import ctypes
import sys

# malloc.h of the GNU C library
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let freed blocks stay with the process, where that can be set (the GNU C library).

    By default every large tensor is mapped anew, and the kernel clears its pages at first
    touch: a sixth of a training step on a CPU. The most that was ever in use is kept until the
    process ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
