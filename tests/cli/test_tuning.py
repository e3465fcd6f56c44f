"""How many trials of fine-tuning there is the time for."""

from types import SimpleNamespace

import pytest
import torch

from regraft.cli.tuning import Tuner
from regraft.training.auto.tuning import Trial, TuningPlan


@pytest.mark.parametrize(("budget", "num_trials"), [(55, 3), (45, 2), (39, 1)])
def test_another_trial_takes_the_time_of_the_last_one_without_what_is_stored_by_then(budget, num_trials, monkeypatch):
    passed = [0.0]
    open_gains = torch.tensor([1.0, -0.9, 0.9, -0.8], dtype=torch.float64)

    def trial(*_: object) -> Trial:
        seconds, storing = (15.0, 5.0) if not passed[0] else (10.0, 0.0)
        passed[0] += seconds
        return Trial(torch.arange(4), open_gains, (0.7, 0.7), seconds, storing)

    monkeypatch.setattr(Tuner, "_trial", trial)
    data = SimpleNamespace(has_own_split=lambda split: split == "test")
    tuner = Tuner(SimpleNamespace(), [], None, data, lambda _: None, lambda: budget - passed[0])
    leader = SimpleNamespace(choice=SimpleNamespace(spec=SimpleNamespace(nouns="images")))
    assert len(tuner._trials(leader, TuningPlan("block4", 4, 15.0, 10.0, 1.0))) == num_trials
