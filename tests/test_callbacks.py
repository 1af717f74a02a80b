"""What the progress line says, and a budget's clock."""

import pytest

from allaprima.callbacks import TimeBudget, format_duration
from allaprima.errors import InputError


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (450, "7 min 30 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds, text):
    assert format_duration(seconds) == text


def test_a_resumed_budget_has_what_was_left():
    spent = TimeBudget("10m")
    spent.elapsed_s = 400.0
    resumed = TimeBudget("10m")
    resumed.load_state_dict(spent.state_dict())
    assert resumed.duration_s - resumed.elapsed_s == 200


def test_no_budget_is_no_clock():
    assert TimeBudget(None).duration_s is None


def test_a_budget_that_is_no_time_is_refused():
    with pytest.raises(InputError, match="10m"):
        TimeBudget("soon")
