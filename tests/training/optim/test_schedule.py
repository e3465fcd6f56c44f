from types import SimpleNamespace

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from regraft.training.from_config import scheduler_factory
from regraft.training.optim.schedule import RunSchedule


def _trainer() -> SimpleNamespace:
    """Returns what a schedule reads of the trainer, of a training of four epochs of one batch."""
    return SimpleNamespace(
        fit_loop=SimpleNamespace(setup_data=lambda: None),
        train_dataloader=None,
        estimated_stepping_batches=4,
        num_training_batches=1,
        accumulate_grad_batches=1,
        max_epochs=4,
        max_steps=-1,
    )


def make(monitor: str) -> tuple[RunSchedule, ReduceLROnPlateau]:
    """Returns a schedule that watches a metric, of a training of four epochs of one batch, and torch's part of it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.0)
    schedule = RunSchedule(lambda *_, **__: {"scheduler": scheduler, "interval": "epoch", "monitor": monitor})
    trainer = _trainer()
    schedule.config(optimizer, trainer)
    return schedule, scheduler


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_schedule_of_steps_is_as_long_as_the_run_stays(interval):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    schedule = RunSchedule(lambda *_, **__: {"scheduler": scheduler, "interval": interval})
    trainer = _trainer()
    schedule.config(optimizer, trainer)
    schedule.require_length(trainer)
    trainer.accumulate_grad_batches = 2
    if interval == "epoch":
        schedule.require_length(trainer)
    else:
        with pytest.raises(
            ValueError, match=r"^callbacks: one of them has changed .*batches from 1 to 2 during training"
        ):
            schedule.require_length(trainer)


def test_it_steps_only_in_an_epoch_that_was_validated():
    plateau, scheduler = make("val/loss")
    plateau.note_validation(0, {"val/loss": torch.tensor(1.0)})
    plateau.step_plateau(0, {"val/loss": torch.tensor(1.0)})
    plateau.step_plateau(1, {"val/loss": torch.tensor(1.0)})
    assert scheduler.last_epoch == 1
    plateau.note_validation(2, {"val/loss": torch.tensor(2.0)})
    plateau.step_plateau(2, {"val/loss": torch.tensor(2.0)})
    assert scheduler.get_last_lr() == [0.5]


def test_a_training_metric_is_of_every_epoch():
    plateau, scheduler = make("train/loss")
    for epoch in range(3):
        plateau.step_plateau(epoch, {"train/loss": torch.tensor(1.0)})
    assert scheduler.last_epoch == 3


@pytest.mark.parametrize("epoch", [4, 5])
def test_a_validation_before_the_checkpoint_is_known_after_it(epoch):
    before, _ = make("val/loss")
    before.note_validation(4, {"val/loss": torch.tensor(0.25)})
    after, scheduler = make("val/loss")
    after.load_state_dict(before.state_dict())
    after.restore(SimpleNamespace(lr_scheduler_configs=[]))
    after.step_plateau(epoch, {})
    assert scheduler.best == (0.25 if epoch == 4 else float("inf"))


TORCHS = "torch.optim.lr_scheduler"


def of_torch(options, *, total_steps=40, steps_per_epoch=10):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    make = scheduler_factory({"scheduler": options})
    return make(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_any_schedule_of_torch_is_stepped_as_often_as_is_said(interval):
    config = of_torch({"_target_": f"{TORCHS}.CosineAnnealingLR", "T_max": 4, "interval": interval})
    assert isinstance(config["scheduler"], torch.optim.lr_scheduler.CosineAnnealingLR)
    assert config["interval"] == interval


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"_target_": f"{TORCHS}.ReduceLROnPlateau"}, r"^scheduler\._target_: .* Use scheduler=plateau\.$"),
        ({"_target_": f"{TORCHS}.StepLR", "step_sice": 1}, r"^scheduler\.step_sice: unknown key"),
        ({"_target_": f"{TORCHS}.StepLR"}, r"^scheduler\.step_size: it has no value"),
        ({"_target_": f"{TORCHS}.StepLR", "step_size": 1, "interval": "day"}, r"^scheduler\.interval: got 'day'"),
        (
            {"_target_": f"{TORCHS}.OneCycleLR", "max_lr": 1.0, "total_steps": 20, "interval": "step"},
            r"^scheduler\.total_steps: got 20; the run has 40 steps",
        ),
    ],
)
def test_what_torch_would_find_out_during_the_run_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        of_torch(options)


def test_a_longer_run_moves_a_schedule_of_steps_only():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    scheduler.last_epoch = 4
    schedule = RunSchedule(lambda *_, **__: {})
    schedule.load_state_dict({"validated": (-1, 0.0), "schedule_start_step": 0, "steps_per_epoch": 5})
    schedule._steps_per_epoch = 10
    for interval, position in (("epoch", 4), ("step", 8)):
        schedule.restore(
            SimpleNamespace(lr_scheduler_configs=[SimpleNamespace(scheduler=scheduler, interval=interval)])
        )
        schedule.load_state_dict({"validated": (-1, 0.0), "schedule_start_step": 0, "steps_per_epoch": 5})
        assert (scheduler.last_epoch, optimizer.param_groups[0]["lr"]) == (position, 1 / (1 + position))
