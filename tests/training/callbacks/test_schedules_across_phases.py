import math

import pytest

from regraft.models.freezing import Gradual, Layerwise, LinearProbe
from regraft.training.callbacks.freezing import FreezingCallback
from regraft.training.optim import schedulers

pytestmark = [
    # A handful of rows needs no worker; Lightning counts the machine's cores and advises some.
    # Lightning 2.6 reads torch's tree specs in a way that newer torch deprecates.
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
]

LR, STEPS_PER_EPOCH, MAX_EPOCHS = 0.1, 4, 5
TOTAL_STEPS = STEPS_PER_EPOCH * MAX_EPOCHS


def probe_layerwise_probe(progress, stages):
    """Three phases; the last freezes again what had thawed."""
    strategy = Layerwise(0.5) if 1 <= progress.epoch < 3 else LinearProbe()
    return strategy(progress, stages)


def cosine(t):
    return (t + 1) / 4 if t < 4 else 0.1 + 0.9 * (1 + math.cos(math.pi * (t - 4) / (TOTAL_STEPS - 4))) / 2


def onecycle(t):
    first, last, peak = 1 / 25, 1 / 25 / 1e4, 0.3 * TOTAL_STEPS - 1
    start, end, done = (first, 1.0, t / peak) if t <= peak else (1.0, last, (t - peak) / (TOTAL_STEPS - 1 - peak))
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


SCHEDULES = {
    "constant": (schedulers.constant, {}, lambda _t: 1.0),
    "linear_warmup": (
        schedulers.linear_warmup,
        {"warmup_epochs": 1.5, "interval": "step"},
        lambda t: min(1.0, (t + 1) / 6),
    ),
    "step": (schedulers.step, {"step_epochs": 2, "gamma": 0.1, "interval": "epoch"}, lambda t: 0.1 ** (t // 4 // 2)),
    "exponential": (schedulers.exponential, {"gamma": 0.7, "interval": "epoch"}, lambda t: 0.7 ** (t // 4)),
    "cosine": (schedulers.cosine, {"warmup_epochs": 1, "min_factor": 0.1, "interval": "step"}, cosine),
    "onecycle": (
        schedulers.onecycle,
        {
            "pct_start": 0.3,
            "div_factor": 25.0,
            "final_div_factor": 1e4,
            "cycle_momentum": None,
            "base_momentum": 0.85,
            "max_momentum": 0.95,
            "interval": "step",
        },
        onecycle,
    ),
    "plateau": (
        schedulers.plateau,
        {
            "monitor": "val/stuck",
            "mode": "min",
            "factor": 0.5,
            "patience": 0,
            "threshold": 1e-4,
            "min_lr": 0.0,
        },
        lambda t: 0.5 ** max(0, t // 4 - 1),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("strategy", [Gradual(1), probe_layerwise_probe])
def test_each_rate_is_the_closed_form_times_the_factor(make_module, make_trainer, loader, name, strategy):
    build, knobs, closed_form = SCHEDULES[name]
    module = make_module(
        lambda optimizer, total_steps: build(
            optimizer, total_steps=total_steps, steps_per_epoch=STEPS_PER_EPOCH, **knobs
        )
    )
    module.optimizer_knobs["lr"] = LR
    make_trainer(FreezingCallback(strategy), max_epochs=MAX_EPOCHS).fit(module, loader, loader)
    assert len(module.steps) == TOTAL_STEPS
    for t, (epoch, rates) in enumerate(module.steps):
        assert epoch == t // STEPS_PER_EPOCH
        factors = expected_factors(strategy, epoch)
        assert rates == pytest.approx({name: LR * closed_form(t) * factors[name] for name in rates}, rel=1e-9)


def expected_factors(strategy, epoch):
    if isinstance(strategy, Gradual):
        return {"head/decay": 1, "top/decay": epoch >= 1, "mid/decay": epoch >= 2, "stem/decay": epoch >= 3}
    decayed = {"head/decay": 1, "top/decay": 0.5, "mid/decay": 0.25, "stem/decay": 0.125}
    return decayed if epoch in (1, 2) else dict.fromkeys(decayed, 0) | {"head/decay": 1}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_schedule_continues_where_it_stopped(make_module, make_trainer, loader, tmp_path, name):
    build, knobs, _ = SCHEDULES[name]

    def make_scheduler(optimizer, _total_steps):
        return build(optimizer, total_steps=TOTAL_STEPS, steps_per_epoch=STEPS_PER_EPOCH, **knobs)

    straight, stopped, resumed = (make_module(make_scheduler) for _ in range(3))
    make_trainer(FreezingCallback(Gradual(1)), max_epochs=MAX_EPOCHS).fit(straight, loader, loader)
    trainer = make_trainer(FreezingCallback(Gradual(1)), max_epochs=2)
    trainer.fit(stopped, loader, loader)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    make_trainer(FreezingCallback(Gradual(1)), max_epochs=MAX_EPOCHS).fit(
        resumed, loader, loader, ckpt_path=tmp_path / "stopped.ckpt", weights_only=True
    )
    assert stopped.steps + resumed.steps == straight.steps
