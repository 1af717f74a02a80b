import os

from allaprima.entrypoints.share_shown import ERASE_LINE, show_share


def test_share_and_time_left_are_on_one_line(monkeypatch, capsys):
    monkeypatch.setattr(os, "isatty", lambda _: True)
    times = iter([0.0, 0.1, 30.0, 90.0, 200.0, 201.0])
    tell = show_share(lambda: next(times))
    assert tell is not None
    for share in (0.01, 0.02, 0.25, 0.5, 1.0, 0.1):
        tell(share)
    lines = capsys.readouterr().err.split(ERASE_LINE)
    assert lines == ["", " 25%, 1:30 left", " 50%, 1:30 left", ""]


def test_nothing_is_shown_without_a_terminal(monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda _: False)
    assert show_share() is None
