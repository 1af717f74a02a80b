"""Schedules, moving average and durations by hand."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from allaprima.errors import InputError
from allaprima.training import (
    _moving_average,
    constant,
    parse_duration,
    step_decay,
    warm_up_then_anneal,
)


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


def test_warm_up_then_anneal_by_hand():
    def factor(step, progress):
        return warm_up_then_anneal(step, progress, warm_up_steps=4, anneal_from=0.5)

    assert [factor(step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [factor(99, p) for p in (0.5, 0.75, 1.0)] == [1.0, 0.5, 0.0]


def test_schedules_of_the_papers():
    assert constant(7, 0.7) == 1
    decayed = [step_decay(s, 0, factor=0.8, every_num_steps=2000) for s in (0, 1999, 2000, 4000)]
    assert decayed == pytest.approx([1, 1, 0.8, 0.64])


def test_moving_average_starts_as_a_short_memory_and_ends_as_the_decay():
    layer = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(layer, multi_avg_fn=_moving_average(0.5))
    expected = None
    for count, value in enumerate([4.0, 8.0, 2.0, 6.0] + [1.0] * 20):
        layer.weight.data.fill_(value)
        average.update_parameters(layer)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)
