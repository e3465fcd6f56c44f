"""The real module, as build makes it: what reaches its loss, its optimizer and its schedule."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import regraft
from helpers.small import SMALL, assembled, without
from regraft.config import compose
from regraft.runs.folder import Run
from regraft.training.fit.assemble import Parts
from regraft.training.from_config import optimizer_groups
from regraft.training.losses.classification import penalty
from regraft.training.module import TransferModule


def parts_of(*overrides: str) -> tuple[dict[str, Any], Parts]:
    """Returns the config and the parts of a training that hasn't started."""
    config = compose.plain(
        compose.compose_once("train", ["fitting=steps", *without("data"), "data=digits", *overrides], None)
    )
    torch.manual_seed(0)
    return config, assembled(config)


def rates_of(run: Any, stage: str = "head") -> list[float]:
    """Returns a stage's learning rate at the start of each epoch."""
    rows = run.logged_rows(before_step=10**9)
    return [row[f"lr/{stage}"] for row in rows if f"lr/{stage}" in row]


def record_steps(monkeypatch) -> list[dict[str, float]]:
    """Records the learning rate that each optimizer step really uses, by group."""
    steps: list[dict[str, float]] = []
    original = torch.optim.SGD.step

    def step(self, closure=None):
        steps.append({group["name"]: group["lr"] for group in self.param_groups})
        return original(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    return steps


def test_each_step_uses_schedule_times_factor_across_phases(monkeypatch):
    steps = record_steps(monkeypatch)
    run = regraft.train(
        [
            *without("freezing", "trainer.max_epochs"),
            "trainer.max_epochs=4",
            "freezing=lp_ft",
            "freezing.probe_epochs=null",
            "head=linear",
            "freezing.finetune_factor=0.25",
            "optimizer=sgd",
            "optimizer.lr=0.1",
            "scheduler=cosine",
            # With stored features an optimizer is shown the head alone while nothing else trains.
            "features.cache=off",
        ]
    )
    total = run.results["num_steps"]
    # The checks before a training take steps, too, on parameters of their own.
    steps = steps[-total:]
    for index, step in enumerate(steps):
        schedule = 0.1 * (1 + math.cos(math.pi * index / total)) / 2
        is_probe = index < total // 2
        assert step["head/decay"] == pytest.approx(schedule * (1.0 if is_probe else 0.25))
        assert step["conv1/decay"] == pytest.approx(0.0 if is_probe else schedule * 0.25)


def test_a_plateau_lowers_the_rate():
    stuck = ["scheduler=plateau", "scheduler.patience=0", "scheduler.factor=0.5", "scheduler.threshold=10"]
    run = regraft.train([*without("trainer.max_epochs"), "trainer.max_epochs=4", *stuck, "optimizer.lr=0.01"])
    assert rates_of(run) == pytest.approx([0.01, 0.005, 0.0025, 0.00125])


@pytest.mark.slow
def test_a_plateau_waits_for_validation():
    stuck = ["scheduler=plateau", "scheduler.patience=0", "scheduler.factor=0.5", "scheduler.threshold=10"]
    rare = ["trainer.check_val_every_n_epoch=2", "trainer.max_epochs=5", "optimizer.lr=0.01"]
    run = regraft.train([*without("trainer.max_epochs"), *stuck, *rare])
    assert rates_of(run) == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])


def test_class_weights_are_those_of_the_training_split():
    _, parts = parts_of("loss.class_weights=balanced", "data.fraction=0.2")
    counts = parts.data.class_counts.float()
    torch.testing.assert_close(parts.module.loss.class_weights, counts.sum() / (10 * counts))


def test_penalties_are_in_the_training_loss():
    config, parts = parts_of("penalty.l1=1e-3", "penalty.l2=1e-2")
    _, plain = parts_of()
    batch = next(iter(parts.data.train_dataloader()))
    batch = parts.data.on_after_batch_transfer(batch, 0)
    losses = []
    for module in (parts.module, plain.module):
        optimizer = module._make_optimizer(module.backbone, module.head)
        module.log = lambda *_, **__: None
        module._trainer = type("Trainer", (), {"optimizers": [optimizer], "world_size": 1})()
        losses.append(module.eval().training_step(batch, 0).item())
    groups = optimizer_groups(config, plain.module.backbone, plain.module.head)
    assert losses[0] - losses[1] == pytest.approx(penalty(groups, 1e-3, 1e-2).item(), rel=1e-4)


def test_a_weighted_loss_is_the_same_whatever_the_batch():
    run = regraft.train([*without("data.fraction"), "data.shots=4", "loss.class_weights=[1,2,3,4,5,6,7,8,9,10]"])
    for batch_size in (5, 64):
        metrics = regraft.evaluate([f"ckpt_path={run.path}", f"data.batch_size={batch_size}"])
        assert metrics["test/loss"] == pytest.approx(run.metrics["test/loss"], rel=1e-5)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_other_precisions_run(precision):
    run = regraft.train([*without("trainer.max_epochs"), "trainer.max_epochs=1", f"trainer.precision={precision}"])
    assert 0 <= run.metrics["test/acc"] <= 1


def test_the_optimizer_is_made_of_the_parameters_that_the_trainer_has_converted():
    # Adagrad allocates its sums in its constructor, so one made before the training would keep them in float32.
    _, parts = parts_of("optimizer=adagrad", "trainer.precision=64-true", "trainer.fast_dev_run=true")
    parts.trainer.fit(parts.module, datamodule=parts.data)
    sums = [state["sum"].dtype for state in parts.trainer.optimizers[0].state.values()]
    assert sums
    assert set(sums) == {torch.float64}


def test_epochs_without_limit_are_limited_by_steps():
    endless = ["trainer.max_epochs=-1", "trainer.max_steps=7", "scheduler=constant"]
    assert regraft.train([*without("trainer.max_epochs"), *endless]).results["num_steps"] == 7


def test_a_run_can_start_with_the_head_of_another(small_run):
    options = [*SMALL, "features.cache=off", "freezing=linear_probe", "trainer.max_epochs=1"]
    grafted = ["model=checkpoint", f"model.path={small_run.path}", f"head_from={small_run.path}"]
    kept = [override for override in options if not override.startswith("model")]
    second = regraft.train([*kept, *grafted, "optimizer.lr=1e-9"])
    assert second.metrics["test/loss"] == pytest.approx(small_run.metrics["test/loss"], abs=1e-4)
    with pytest.raises(ValueError, match=r"head_from: the head of .* has .*Choose the same head="):
        regraft.train([*kept, *grafted, "head=mlp"])


@pytest.mark.slow
@pytest.mark.parametrize("steps", [[], ["trainer.gradient_clip_val=1.0"]], ids=["together", "one by one"])
def test_a_small_head_trains_on_one_thread_and_leaves_as_many_as_there_were(monkeypatch, steps):
    before, seen = torch.get_num_threads(), []

    def watched(self, batch, batch_idx):
        seen.append(torch.get_num_threads())
        raise ValueError("on purpose")

    torch.set_num_threads(2)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(TransferModule, "validation_step", watched)
            with pytest.raises(ValueError, match="on purpose"):
                regraft.train([*without("freezing"), "freezing=linear_probe", "features.cache=on", *steps])
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("split", ["data.val_fraction=0.2", "data.val_fraction=0"])
def test_weights_that_turn_nan_in_the_last_step_are_not_kept(split, monkeypatch):
    original = torch.optim.SGD.step

    def step(self, closure=None):
        loss = original(self, closure)
        if closure is not None:  # not where schedules are tried
            self.param_groups[-1]["params"][0].data.fill_(math.nan)
        return loss

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    short = ["optimizer=sgd", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "hydra.run.dir=run"]
    with pytest.raises(ValueError, match=r"(val/loss is nan|are NaN or infinite) after 1 steps; training has diver"):
        regraft.train([*without("trainer.max_epochs"), *short, split])
    run = Run(Path("run"))
    assert run.state["status"] == "failed"
    assert not any(path.exists() for path in (run.last_ckpt, run.best_ckpt, run.tensors))
    assert not run.has_results


def test_a_test_loss_that_is_nan_is_no_result(monkeypatch):
    monkeypatch.setattr(
        "regraft.training.losses.classification.CrossEntropy.total", lambda *_: (torch.tensor(math.nan), torch.ones(()))
    )
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "hydra.run.dir=run", "data.val_fraction=0"]
    with pytest.raises(ValueError, match=r"^test/loss is nan after 1 steps"):
        regraft.train([*without("trainer.max_epochs"), *short])
    assert not Run(Path("run")).has_results
