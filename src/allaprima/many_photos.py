"""Many photos at once: some are read or written while others are painted, in bounded memory."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from allaprima.errors import InputError
from allaprima.outputs import Plan
from allaprima.processors import memory_bytes

# A pixel needs 12 bytes as a photo, 12 as a painting, and some 200 between the generator's layers.
BYTES_PER_PIXEL = 250
MEMORY_SHARE = 0.25
NO_MEMORY = (
    "there is not enough memory to paint it; --size 2048 or a smaller --output-size takes less"
)

Finished = Callable[[Path, Path, InputError | None], None]


def paint_many(
    plan: Plan, paint: Callable[[Path, Path], None], num_threads: int, finished: Finished
) -> bool:
    """Call ``paint`` for all of a plan, in its order, ``num_threads`` at a time.

    Ctrl-C lets those begun come to their end, and begins no more.

    Args:
        paint: reads one photo, paints it and writes it; its InputError is that photo's alone.
        finished: told of each, in this thread.

    Returns:
        Whether all were begun: False after Ctrl-C.
    """
    waiting = iter(plan)
    running: dict[Future[None], tuple[Path, Path]] = {}

    def collect(done: set[Future[None]]) -> None:
        for future in sorted(done, key=list(running).index):
            finished(*running.pop(future), _failure(future))

    with ThreadPoolExecutor(num_threads) as pool:
        try:
            while True:
                while len(running) < num_threads and (job := next(waiting, None)):
                    running[pool.submit(paint, *job)] = job
                if not running:
                    return True
                collect(wait(running, return_when=FIRST_COMPLETED).done)
        except KeyboardInterrupt:
            collect(wait(running).done)
            return False


def _failure(future: Future[None]) -> InputError | None:
    error = future.exception()
    if isinstance(error, MemoryError):
        return InputError(NO_MEMORY)
    if error is not None and not isinstance(error, InputError):
        raise error
    return error


class PixelBudget:
    """How many pixels may be in work at once; one picture may always be, however large.

    Args:
        num_pixels: None is what a quarter of the machine's memory is enough for.
    """

    def __init__(self, num_pixels: int | None = None):
        self.num_pixels = num_pixels or int(MEMORY_SHARE * memory_bytes() / BYTES_PER_PIXEL)
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, num_pixels: int) -> Iterator[None]:
        """Wait until there is room for so many, and keep it."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._used or self._used + num_pixels <= self.num_pixels
            )
            self._used += num_pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= num_pixels
                self._changed.notify_all()
