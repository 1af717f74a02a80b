"""Many photos at once: all are painted, failures are theirs alone, memory is bounded."""

import signal
import threading
import time
from pathlib import Path

import pytest

from allaprima.errors import InputError
from allaprima.many_photos import PixelBudget, paint_many

PLAN = [(Path(f"{i}.jpg"), Path(f"out/{i}.jpg")) for i in range(20)]


@pytest.mark.parametrize("num_threads", [1, 3, 50])
def test_all_are_painted_and_told_of_here(num_threads):
    told, here = [], threading.get_ident()

    def paint(photo, painted):
        assert painted == Path("out", photo)
        if photo.stem in ("3", "7"):
            raise InputError(f"{photo} is bad")
        if photo.stem == "9":
            raise MemoryError

    def finished(photo, painted, error):
        assert threading.get_ident() == here
        told.append((photo, error and str(error)))

    assert paint_many(PLAN, paint, num_threads, finished)
    assert sorted(photo for photo, _ in told) == sorted(photo for photo, _ in PLAN)
    failed = {photo.stem: error for photo, error in told if error}
    assert failed.keys() == {"3", "7", "9"}
    assert failed["7"] == "7.jpg is bad"
    assert "not enough memory" in failed["9"]
    assert "--output-size" in failed["9"]


def test_so_many_are_painted_at_once_and_no_more():
    together = threading.Barrier(3, timeout=10)  # breaks unless three come at once
    running, most = 0, 0
    lock = threading.Lock()

    def paint(photo, painted):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1

    assert paint_many(PLAN[:18], paint, 3, lambda *_: None)
    assert most == 3


def test_a_fault_of_the_program_is_not_hidden():
    def paint(photo, painted):
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        paint_many(PLAN, paint, 2, lambda *_: None)


def test_ctrl_c_lets_those_begun_end_and_begins_no_more():
    begun, told = [], []

    def paint(photo, painted):
        begun.append(photo)
        if photo.stem == "5":
            signal.raise_signal(signal.SIGINT)  # noted here, raised in the main thread
        time.sleep(0.05)

    assert not paint_many(PLAN, paint, 2, lambda photo, *_: told.append(photo))
    assert {photo for photo, _ in PLAN[:6]} <= set(told)  # in the order in which they end
    assert sorted(told) == sorted(begun)
    assert len(begun) < len(PLAN) / 2


def test_pixels_in_work_are_bounded_but_one_picture_always_fits():
    budget = PixelBudget(100)
    most = used = 0
    lock = threading.Lock()

    def work(num_pixels):
        nonlocal most, used
        with budget.hold(num_pixels):
            with lock:
                used += num_pixels
                most = max(most, used if num_pixels < 200 else 0)
                assert num_pixels < 200 or used == 200
            time.sleep(0.002)
            with lock:
                used -= num_pixels

    sizes = [60, 40, 30, 200, 70, 10, 50, 200, 20] * 3
    threads = [threading.Thread(target=work, args=(n,)) for n in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert 60 < most <= 100
    assert used == 0


def test_the_budget_without_a_number_is_a_part_of_the_memory():
    assert 10**6 < PixelBudget().num_pixels < 10**11
