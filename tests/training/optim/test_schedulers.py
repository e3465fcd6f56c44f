import copy
import math

import pytest
import torch

from regraft.training.optim import schedulers

ONECYCLE = {
    "pct_start": 0.3,
    "div_factor": 25.0,
    "final_div_factor": 1e4,
    "cycle_momentum": None,
    "base_momentum": 0.85,
    "max_momentum": 0.95,
    "interval": "step",
}
PLATEAU = {"monitor": "val/loss", "mode": "min", "factor": 0.5, "patience": 1, "threshold": 1e-4, "min_lr": 0.0}
KNOBS = {
    schedulers.constant: {},
    schedulers.linear_warmup: {"warmup_epochs": 0.5, "interval": "step"},
    schedulers.step: {"step_epochs": 1, "gamma": 0.1, "interval": "epoch"},
    schedulers.exponential: {"gamma": 0.9, "interval": "epoch"},
    schedulers.cosine: {"warmup_epochs": 1.0, "min_factor": 0.01, "interval": "step"},
    schedulers.onecycle: ONECYCLE,
    schedulers.plateau: PLATEAU,
    schedulers.multistep: {"milestones": [1, 3], "gamma": 0.1, "interval": "epoch"},
    schedulers.polynomial: {"warmup_epochs": 1.0, "min_factor": 0.01, "power": 2.0, "interval": "step"},
    schedulers.cosine_restarts: {
        "warmup_epochs": 1.0,
        "min_factor": 0.01,
        "num_cycles": 2,
        "cycle_mult": 2.0,
        "interval": "step",
    },
}


def make_optimizer(optimizer_class=torch.optim.SGD, **knobs):
    return optimizer_class([torch.nn.Parameter(torch.ones(2))], lr=0.1, **knobs)


def build(builder, optimizer=None, total_steps=40, steps_per_epoch=10, **changes):
    return builder(
        optimizer or make_optimizer(),
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        **KNOBS[builder] | changes,
    )


def rates(optimizer, config, num_steps):
    values = []
    for _ in range(num_steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        config["scheduler"].step()
    return values


@pytest.mark.parametrize("builder", KNOBS)
def test_config_is_lightnings(builder):
    config = build(builder)
    by_epoch = (schedulers.constant, schedulers.step, schedulers.multistep, schedulers.exponential, schedulers.plateau)
    expected = "epoch" if builder in by_epoch else "step"
    assert (config["interval"], config["frequency"]) == (expected, 1)
    assert config.get("monitor") == ("val/loss" if builder is schedulers.plateau else None)


@pytest.mark.parametrize("builder", [builder for builder in KNOBS if builder is not schedulers.plateau])
def test_state_is_plain_and_continues_the_schedule(builder, tmp_path):
    optimizer = make_optimizer()
    config = build(builder, optimizer)
    rates(optimizer, config, 7)
    torch.save([optimizer.state_dict(), config["scheduler"].state_dict()], tmp_path / "state.pt")
    optimizer_state, scheduler_state = torch.load(tmp_path / "state.pt", weights_only=True)
    other = make_optimizer()
    restored = build(builder, other)
    other.load_state_dict(optimizer_state)
    restored["scheduler"].load_state_dict(copy.deepcopy(scheduler_state))
    assert rates(other, restored, 5) == rates(optimizer, config, 5)


def test_warmup_ends_at_the_base_rate():
    optimizer = make_optimizer()
    values = rates(optimizer, build(schedulers.linear_warmup, optimizer, warmup_epochs=0.4), 6)
    assert values == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("warmup_epochs", [0.0, 1.0])
def test_cosine_starts_at_the_top_and_ends_at_its_floor(warmup_epochs):
    optimizer = make_optimizer()
    values = rates(optimizer, build(schedulers.cosine, optimizer, warmup_epochs=warmup_epochs), 45)
    assert max(values) == values[10 if warmup_epochs else 0] == 0.1
    assert values[40:] == pytest.approx([0.001] * 5)
    assert sorted(values[10:41], reverse=True) == values[10:41]


@pytest.mark.parametrize("builder", [schedulers.linear_warmup, schedulers.cosine])
@pytest.mark.parametrize("warmup_epochs", [4.0, 10.0])
def test_a_warmup_as_long_as_the_run_is_refused(builder, warmup_epochs):
    message = rf"^scheduler\.warmup_epochs: got {warmup_epochs}; the run has 4 epochs\."
    with pytest.raises(ValueError, match=message):
        build(builder, warmup_epochs=warmup_epochs)


@pytest.mark.parametrize(
    ("optimizer_class", "knobs", "is_cycled"),
    [
        (torch.optim.SGD, {"momentum": 0.9}, "momentum"),
        (torch.optim.SGD, {}, None),
        (torch.optim.AdamW, {}, "betas"),
        (torch.optim.RMSprop, {}, None),
        (torch.optim.Adagrad, {}, None),
    ],
)
def test_onecycle_cycles_momentum_where_there_is_some(optimizer_class, knobs, is_cycled):
    optimizer = make_optimizer(optimizer_class, **knobs)
    config = build(schedulers.onecycle, optimizer)
    rates(optimizer, config, 11)
    group = optimizer.param_groups[0]
    assert config["scheduler"].cycle_momentum is (is_cycled is not None)
    if is_cycled == "momentum":
        assert group["momentum"] == pytest.approx(0.85)
    elif is_cycled == "betas":
        assert group["betas"] == pytest.approx((0.85, 0.999))
    else:
        assert group.get("momentum", 0) == 0


def test_onecycle_reaches_the_base_rate_and_may_be_stepped_to_the_end():
    optimizer = make_optimizer()
    values = rates(optimizer, build(schedulers.onecycle, optimizer), 40)
    assert max(values) == values[11] == pytest.approx(0.1)
    assert values[0] == pytest.approx(0.1 / 25)
    assert values[-1] == pytest.approx(0.1 / 25 / 1e4)


def test_multistep_is_torchs_and_by_default_falls_at_half_and_three_quarters():
    mine, torchs = make_optimizer(), make_optimizer()
    values = rates(mine, build(schedulers.multistep, mine, milestones=[2, 5], gamma=0.5), 8)
    expected = {"scheduler": torch.optim.lr_scheduler.MultiStepLR(torchs, [2, 5], gamma=0.5)}
    assert values == pytest.approx(rates(torchs, expected, 8))
    by_default = make_optimizer()
    config = build(schedulers.multistep, by_default, milestones=None, total_steps=80)
    assert rates(by_default, config, 8) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_fractions_of_an_epoch_count_steps():
    optimizer = make_optimizer()
    config = build(schedulers.multistep, optimizer, milestones=[0.5], interval="step")
    assert rates(optimizer, config, 7) == pytest.approx([0.1] * 5 + [0.01] * 2)
    stepwise = make_optimizer()
    config = build(schedulers.step, stepwise, step_epochs=0.2, interval="step")
    assert rates(stepwise, config, 5) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_polynomial_is_torchs_after_its_warmup():
    mine, torchs = make_optimizer(), make_optimizer()
    values = rates(mine, build(schedulers.polynomial, mine, warmup_epochs=0.0, min_factor=0.0, power=1.5), 41)
    expected = {"scheduler": torch.optim.lr_scheduler.PolynomialLR(torchs, total_iters=40, power=1.5)}
    assert values == pytest.approx(rates(torchs, expected, 41))


def test_cosine_restarts_are_torchs_with_cycles_that_fill_the_run():
    mine, torchs = make_optimizer(), make_optimizer()
    changes = {"warmup_epochs": 0.0, "min_factor": 0.0, "num_cycles": 2, "cycle_mult": 3.0}
    values = rates(mine, build(schedulers.cosine_restarts, mine, **changes), 40)
    expected = {"scheduler": torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(torchs, T_0=10, T_mult=3)}
    assert values == pytest.approx(rates(torchs, expected, 40))


@pytest.mark.parametrize(
    "builder",
    [
        *(schedulers.linear_warmup, schedulers.cosine, schedulers.cosine_restarts, schedulers.polynomial),
        schedulers.exponential,
    ],
)
def test_each_interval_gives_the_same_rates_at_the_starts_of_epochs(builder):
    by_step, by_epoch = make_optimizer(), make_optimizer()
    changes = {"warmup_epochs": 0.0} if "warmup_epochs" in KNOBS[builder] else {}
    stepped = rates(by_step, build(builder, by_step, total_steps=80, interval="step", **changes), 80)
    config = build(builder, by_epoch, total_steps=80, interval="epoch", **changes)
    assert config["interval"] == "epoch"
    assert rates(by_epoch, config, 8) == pytest.approx(stepped[::10])


def test_onecycle_by_epochs_ends_with_the_last_epoch():
    optimizer = make_optimizer()
    values = rates(optimizer, build(schedulers.onecycle, optimizer, total_steps=80, interval="epoch"), 8)
    assert (values[0], values[-1]) == pytest.approx((0.1 / 25, 0.1 / 25 / 1e4))


def test_plateau_waits_for_its_patience():
    optimizer = make_optimizer()
    scheduler = build(schedulers.plateau, optimizer)["scheduler"]
    values = []
    for loss in (1.0, 0.9, 0.95, 0.95, 0.95, 0.95):
        scheduler.step(torch.tensor(loss))
        values.append(optimizer.param_groups[0]["lr"])
    assert values == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025]


@pytest.mark.parametrize(
    ("builder", "changes", "message"),
    [
        (schedulers.linear_warmup, {"warmup_epochs": -1}, r"^scheduler\.warmup_epochs: got -1"),
        (schedulers.step, {"step_epochs": 0}, r"^scheduler\.step_epochs: got 0"),
        (schedulers.step, {"step_epochs": math.inf}, r"^scheduler\.step_epochs: got inf"),
        (schedulers.step, {"step_epochs": 1.5}, r"^scheduler\.step_epochs: got 1\.5; .*scheduler\.interval=step"),
        (schedulers.multistep, {"milestones": [3, 1]}, r"^scheduler\.milestones: got \[3, 1\]"),
        (schedulers.multistep, {"milestones": [1.5]}, r"^scheduler\.milestones: .*scheduler\.interval=step"),
        (schedulers.multistep, {"milestones": None, "total_steps": float("inf")}, r"^scheduler: .* how long the run"),
        (schedulers.polynomial, {"power": 0}, r"^scheduler\.power: got 0"),
        (schedulers.cosine_restarts, {"num_cycles": 0}, r"^scheduler\.num_cycles: got 0"),
        (schedulers.cosine_restarts, {"cycle_mult": 0}, r"^scheduler\.cycle_mult: got 0"),
        (schedulers.step, {"gamma": 0}, r"^scheduler\.gamma: got 0"),
        (schedulers.exponential, {"gamma": -1}, r"^scheduler\.gamma: got -1"),
        (schedulers.cosine, {"min_factor": 1.5}, r"^scheduler\.min_factor: got 1\.5"),
        (schedulers.cosine, {"total_steps": float("inf")}, r"^scheduler: .* how long the run is"),
        (schedulers.onecycle, {"total_steps": -1}, r"^scheduler: .* how long the run is"),
        (schedulers.onecycle, {"pct_start": 1.0}, r"^scheduler\.pct_start: got 1\.0"),
        (schedulers.onecycle, {"pct_start": 0.1, "total_steps": 10}, r"^scheduler\.pct_start: 0\.1 of 10 steps"),
        (schedulers.onecycle, {"cycle_momentum": True}, r"^scheduler\.cycle_momentum: got true, but SGD"),
        (schedulers.plateau, {"mode": "least"}, r"^scheduler\.mode: got 'least'"),
        (schedulers.plateau, {"factor": 1.0}, r"^scheduler\.factor: got 1\.0"),
        (schedulers.plateau, {"patience": -1}, r"^scheduler\.patience: got -1"),
    ],
)
def test_invalid_arguments_are_refused(builder, changes, message):
    with pytest.raises(ValueError, match=message):
        build(builder, **changes)
