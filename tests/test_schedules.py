import pytest

from allaprima.schedules import constant, step_decay, warm_up_then_anneal


def test_warm_up_then_anneal_by_hand():
    def factor(step, progress):
        return warm_up_then_anneal(step, progress, warm_up_steps=4, anneal_from=0.5)

    assert [factor(step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [factor(99, p) for p in (0.5, 0.75, 1.0)] == [1.0, 0.5, 0.0]


def test_schedules_of_the_papers():
    assert constant(7, 0.7) == 1
    decayed = [step_decay(s, 0, factor=0.8, every_num_steps=2000) for s in (0, 1999, 2000, 4000)]
    assert decayed == pytest.approx([1, 1, 0.8, 0.64])
    later = [step_decay(s, 0, 0.7, 200, first_step=1000) for s in (0, 999, 1000, 1199, 1200)]
    assert later == pytest.approx([1, 1, 0.7, 0.7, 0.49])
