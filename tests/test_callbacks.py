"""What the progress line says, a budget's clock, the share of waiting."""

from types import SimpleNamespace

import pytest
import torch

from allaprima import callbacks
from allaprima.callbacks import Throughput, TimeBudget
from allaprima.errors import InputError


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


def test_waiting_is_the_loaders_share_and_validation_is_not_counted(monkeypatch):
    now, logged = [0.0], {}
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    trainer = SimpleNamespace(world_size=2, train_dataloader=SimpleNamespace(waited_s=5.0))
    module = SimpleNamespace(log=logged.__setitem__)
    throughput = Throughput()

    def step(duration_s, waited_s):
        now[0] += duration_s
        trainer.train_dataloader.waited_s += waited_s
        throughput.on_train_batch_end(trainer, module, None, torch.zeros(4, 1), 0)

    throughput.on_train_start(trainer, module)
    step(0.5, 0.25)
    assert not logged  # a window is a second at least
    step(1.5, 0.25)
    assert logged == {"speed/photos_per_s": 8.0, "speed/waiting_for_data": 0.25}
    now[0] += 100
    throughput.on_validation_end(trainer, module)
    step(2.0, 0.0)
    assert logged == {"speed/photos_per_s": 4.0, "speed/waiting_for_data": 0.0}


def test_a_loader_without_a_clock_is_never_waited_for(monkeypatch):
    now, logged = [0.0], {}
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    trainer = SimpleNamespace(world_size=1, train_dataloader=[])
    throughput = Throughput()
    throughput.on_train_start(trainer, None)
    now[0] = 2.0
    module = SimpleNamespace(log=logged.__setitem__)
    throughput.on_train_batch_end(trainer, module, None, torch.zeros(4, 1), 0)
    assert logged["speed/waiting_for_data"] == 0
