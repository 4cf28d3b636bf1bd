"""Schedules and the weight average."""

from itertools import pairwise

import pytest
import torch

from tacoskip.models.settings import TacotronSettings
from tacoskip.training import schedule
from tacoskip.training.settings import TrainSettings
from tacoskip.training.state import WeightAverage


def test_learning_rate_warms_up_and_falls_to_its_floor() -> None:
    settings = TrainSettings(max_steps=1000, learning_rate=2.0, warmup_steps=10)
    rates = [schedule.learning_rate(settings, step, 0.0) for step in range(1001)]
    assert rates[0] == pytest.approx(0.2, rel=0.01)
    assert max(rates) == pytest.approx(2.0, rel=0.01)
    assert rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_the_clock_drives_the_schedule_when_it_is_further() -> None:
    settings = TrainSettings(max_steps=1000, max_minutes=10)
    assert schedule.progress(settings, 100, 5.0) == 0.5
    assert schedule.progress(settings, 900, 5.0) == 0.9
    assert schedule.progress(settings, 100, 11.0) == 1.0


def test_reduction_follows_its_schedule() -> None:
    settings = TacotronSettings(frames_per_step=2, reduction_schedule=[[0, 5], [10, 3], [20, 2]])
    assert [schedule.reduction(settings, step) for step in (0, 9, 10, 19, 20, 99)] == [
        5,
        5,
        3,
        3,
        2,
        2,
    ]
    assert schedule.reduction(TacotronSettings(frames_per_step=4), 7) == 4


def test_average_follows_weights_and_copies_counters() -> None:
    model = torch.nn.BatchNorm1d(2)
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(7)
    average.update(model, step=10**6)
    torch.testing.assert_close(average.weights["weight"], torch.full((2,), 0.9 * 1 + 0.1 * 3))
    assert int(average.weights["num_batches_tracked"]) == 7
    average.update(model, step=0)  # a young run trusts its newest weights more: decay 1/10
    torch.testing.assert_close(average.weights["weight"], torch.full((2,), 0.1 * 1.2 + 0.9 * 3))
