"""How many trials of fine-tuning there is the time for."""

from types import SimpleNamespace

import pytest
import torch

from regraft.cli import tuning
from regraft.cli.tuning import Tuner
from regraft.training.auto.tuning import Trial, TuningPlan, Verdict


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
    assert len(tuner._trials(leader, TuningPlan("block4", 4, 15.0, 10.0, 1.0, "3e-4", has_trial=True))) == num_trials


@pytest.mark.parametrize(("gain", "trained"), [(2.0, "block4"), (-1.0, "block5"), (-3.0, None)])
def test_where_trials_cannot_tell_the_very_last_stages_are_trained(gain, trained, monkeypatch):
    monkeypatch.setattr(Tuner, "_known", lambda *_: None)
    monkeypatch.setattr(Tuner, "_found", lambda *_: Verdict(gain, 1.0))
    monkeypatch.setattr(Tuner, "_final", lambda _, __, plan, ___: [plan.until])
    untried = TuningPlan("block5", 8, 0.0, 1.0, 1.0, "5e-4", has_trial=False)
    monkeypatch.setattr(tuning, "plan_untried", lambda _, cut, *__: untried if cut else None)
    data = SimpleNamespace(has_own_split=lambda split: split == "test")
    tuner = Tuner(SimpleNamespace(), [], None, data, lambda _: None, lambda: 100.0)
    assert tuner._run(
        SimpleNamespace(last_cut="block5"), TuningPlan("block4", 8, 1.0, 1.0, 1.0, "3e-4", has_trial=True)
    ) == (trained and [trained])


@pytest.mark.parametrize(("gain", "planned"), [(-1.0, "block5"), (-3.0, None)])
def test_a_resumed_search_goes_by_what_trials_have_told(gain, planned, monkeypatch):
    trial = TuningPlan("block4", 8, 1.0, 1.0, 1.0, "3e-4", has_trial=True)
    untried = TuningPlan("block5", 8, 0.0, 1.0, 1.0, "5e-4", has_trial=False)
    monkeypatch.setattr(tuning, "plan_tuning", lambda *_: trial)
    monkeypatch.setattr(tuning, "plan_untried", lambda *_: untried)
    known = {"num_epochs": 8, "is_better": False, "gain": gain, "error": 1.0}
    monkeypatch.setattr(Tuner, "_known", lambda *_: known)
    data = SimpleNamespace(has_own_split=lambda split: split == "test")
    tuner = Tuner(SimpleNamespace(), [], None, data, lambda _: None, lambda: 100.0)
    found = tuner.plan(SimpleNamespace(last_cut="block5"))
    assert (found and found.until) == planned
