"""The benchmarks' common form: statistics by hand, the order of turns, JSON and back."""

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.figures import Goal, Row, Section, interleave, quartiles, ratio
from benchmarks.memory import peak_memory


def test_quartiles_by_hand():
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
    assert quartiles([1.0, 2.0]) == (1.25, 1.5, 1.75)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_ratio_counts_work_and_not_calls():
    slow, fast = Row("slow", [4.0, 2.0, 3.0], work=6), Row("fast", [1.0, 1.0], work=4)
    assert (slow.median_s, slow.rate, fast.rate) == (3.0, 2.0, 4.0)
    assert ratio(slow, fast) == 2.0


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("faster", 4.0, least=4.0), True),
        (Goal("faster", 3.9, least=4.0), False),
        (Goal("memory", 0.8, most=0.7), False),
        (Goal("memory", 0.7, most=0.7), True),
        (Goal("on a GPU", None, least=4.0), None),
    ],
)
def test_goals(goal, met):
    assert goal.met is met


def test_sections_survive_json():
    section = Section(
        "painting",
        "One pass",
        [Row("plain", [1.0, 2.0], 3, "photos", 4.5, "bf16", 6.0, "note"), Row("ours", [0.5])],
        baseline="plain",
        goals=[Goal("faster", 3.0, least=2.0)],
        notes=["so"],
        extra={"curve": [1, 2]},
    )
    again = Section.from_dict(json.loads(json.dumps(section.as_dict())))
    assert again == section
    assert again.compared_with is again["plain"]


def test_what_rows_are_compared_with():
    rows = [Row("first", [1.0]), Row("second", [1.0])]
    assert Section("a", "", rows).compared_with is rows[0]
    assert Section("a", "", rows, baseline="second").compared_with is rows[1]
    assert Section("a", "", rows, baseline="").compared_with is None
    assert Section("a", "").compared_with is None


class Clock:
    """Seconds that pass only when a function lets them."""

    def __init__(self):
        self.now, self.called = 0.0, []

    def __call__(self):
        return self.now

    def function(self, name, duration_s):
        def call():
            self.called.append(name)
            self.now += duration_s

        return call


def test_functions_take_turns_and_the_order_alternates():
    clock = Clock()
    functions = {"a": clock.function("a", 1.0), "b": clock.function("b", 2.0)}
    seconds = interleave(functions, rounds=3, warm_up=1, clock=clock)
    assert "".join(clock.called) == "ab" + "ab" + "ba" + "ab"
    assert seconds == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_a_limit_of_time_leaves_three_rounds():
    clock = Clock()
    slow, quick = {"a": clock.function("a", 5.0)}, {"a": clock.function("a", 1.0)}
    assert len(interleave(slow, 9, warm_up=0, limit_s=1.0, clock=clock)["a"]) == 3
    assert len(interleave(quick, 9, warm_up=0, limit_s=5.5, clock=clock)["a"]) == 6


def make_bytes(size_mb):
    """Built: 40 MB. A call: so many more for a moment."""
    kept = bytearray(40 * 2**20)
    return lambda: len(kept) + len(bytearray(b"\1") * (size_mb * 2**20))


def test_peak_memory_of_a_process_of_its_own():
    peak = peak_memory("tests.test_benchmark_figures:make_bytes", 100)
    if math.isnan(peak.over_ready):
        pytest.skip("this system does not tell a process its peak")
    assert 95 < peak.over_ready < 120
    assert peak.over_start > peak.over_ready
