import pytest

from allaprima.durations import format_duration, parse_duration
from allaprima.errors import InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("90", 90), (12, 12), ("1.5m", 90)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10x", "-5m", "0", "inf", "nan", "m"])
def test_no_durations(text):
    with pytest.raises(InputError, match="10m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (450, "7 min 30 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds, text):
    assert format_duration(seconds) == text
