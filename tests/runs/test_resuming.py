import pytest

from regraft.config.quoting import key_of
from regraft.runs import resuming
from regraft.runs.resuming import require_length, reset_parts, without_state

RECORD = {
    "data": {"root": "/there", "batch_size": 32, "num_workers": 0},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
    "scheduler": {"_target_": "regraft.training.optim.schedulers.cosine"},
    "trainer": {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": 5},
    "callbacks": {"best": {"monitor": "val/acc"}},
    "seed": 3,
    "ckpt_path": None,
    "resume": {"reset": []},
    "trust": [],
}


def composed(**sections):
    """Returns a config such as the defaults compose to, other than the run's in nearly everything."""
    default = {
        "data": {"root": "/here", "batch_size": 64, "num_workers": 2},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.001},
        "trainer": {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": 10},
        "callbacks": {"best": {"monitor": "val/acc"}},
        "seed": 0,
        "ckpt_path": "RUN",
        "resume": {"reset": []},
        "trust": [],
    }
    return default | sections


def continued(record, command, overrides):
    return resuming.continued(record, command, [key_of(override) or override for override in overrides])


def test_a_resumed_run_keeps_its_config_whatever_the_defaults_are():
    assert continued(RECORD, composed(), ["ckpt_path=RUN"]) == RECORD | {"ckpt_path": "RUN"}


def test_what_may_change_is_taken_from_the_command():
    command = composed(
        trainer={"accelerator": "gpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": 8},
        data={"root": "/moved", "batch_size": 64, "num_workers": 4},
    )
    overrides = ["trainer=gpu", "trainer.max_epochs=8", "data.root=moved", "data.num_workers=4"]
    config = continued(RECORD, command, overrides)
    assert config["trainer"] == RECORD["trainer"] | {"accelerator": "gpu", "max_epochs": 8}
    assert config["data"] == {"root": "/moved", "batch_size": 32, "num_workers": 4}


def test_a_choice_of_trainer_keeps_the_runs_length():
    assert continued(RECORD, composed(), ["trainer=auto"])["trainer"]["max_epochs"] == 5


def test_repeating_what_the_run_has_is_no_change():
    command = composed(optimizer=RECORD["optimizer"], seed=3)
    assert continued(RECORD, command, ["optimizer=adamw", "optimizer.lr=0.01", "seed=3"])["seed"] == 3


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["optimizer.lr=0.001"], r"optimizer\.lr=0\.001 \(the run has 0\.01\)"),
        (["seed=0", "data.batch_size=64"], r"seed=0 \(the run has 3\); data\.batch_size=64 \(the run has 32\)"),
        (["data=folder"], r"data\.batch_size=64 \(the run has 32\); the rest of the training"),
        (["optimizer.lr=0.001"], r"resume\.reset=\[optimizer,scheduler\] resets both"),
        (["experiment=other"], r"optimizer\.lr=0\.001"),
    ],
)
def test_what_must_not_change_is_refused_with_both_sides(overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        continued(RECORD, composed(), overrides)


def test_what_was_changed_is_said(caplog):
    command = composed(trainer=RECORD["trainer"] | {"max_epochs": 8})
    with caplog.at_level("INFO"):
        continued(RECORD, command, ["ckpt_path=RUN", "trainer.max_epochs=8", "callbacks=default"])
    assert caplog.messages == ["Changed in the resumed run: trainer.max_epochs=8 (was 5)."]


def test_the_optimizer_is_changed_only_where_it_starts_from_scratch(caplog):
    asked = composed(resume={"reset": ["optimizer"]})
    with caplog.at_level("INFO"):
        config = continued(RECORD, asked, ["optimizer.lr=0.001", "resume.reset=[optimizer]"])
    assert config["optimizer"]["lr"] == 0.001
    assert config["resume"] == {"reset": ["optimizer"]}
    assert "optimizer.lr=0.001 (was 0.01)" in caplog.text
    assert "Starting from scratch (resume.reset): the state of optimizer." in caplog.text
    with pytest.raises(ValueError, match="seed=0"):
        continued(RECORD, asked, ["optimizer.lr=0.001", "seed=0"])


def test_a_key_that_the_run_lacks_is_unknown():
    command = composed(optimizer={"lr": 0.001, "lrr": 1}, resume={"reset": ["optimizer"]})
    with pytest.raises(ValueError, match=r"optimizer\.lrr: unknown key 'lrr'\. The run has: _target_, lr\."):
        continued(RECORD, command, ["++optimizer.lrr=1"])


@pytest.mark.parametrize("section", ["callbacks", "logger"])
def test_a_callback_or_a_logger_can_be_added(section):
    added = {"_target_": "pytorch_lightning.callbacks.Timer"}
    command = composed(**{section: {"timer": added}})
    assert continued(RECORD | {section: {}}, command, [f"+{section}.timer._target_=..."])[section]["timer"] == added


def test_a_choice_comes_before_its_keys():
    callbacks = {"best": {"monitor": "val/acc"}, "early_stopping": {"patience": 9}}
    command = composed(callbacks=callbacks)
    config = continued(RECORD, command, ["callbacks.early_stopping.patience=9", "callbacks=early_stopping"])
    assert config["callbacks"] == callbacks


def test_what_was_reset_once_is_not_reset_again():
    record = RECORD | {"resume": {"reset": ["optimizer"]}}
    assert continued(record, composed(resume={"reset": []}), [])["resume"] == {"reset": []}


@pytest.mark.parametrize("reset", [["model"], "optimizer", ["optimizer", "ema"]])
def test_an_unknown_part_is_not_reset(reset):
    with pytest.raises(ValueError, match=r"resume\.reset: got .*; allowed: a list of optimizer, scheduler"):
        reset_parts({"resume": {"reset": reset}})


@pytest.mark.parametrize("part", ["optimizer", "scheduler"])
@pytest.mark.parametrize("schedule", ["onecycle", "plateau"])
def test_a_schedule_that_steps_from_rate_to_rate_is_reset_with_the_optimizer_only(schedule, part):
    record = RECORD | {"scheduler": {"_target_": f"regraft.training.optim.schedulers.{schedule}"}}
    with pytest.raises(ValueError, match=f"{schedule} and the optimizer hold parts of each other's state"):
        continued(record, composed(scheduler=record["scheduler"], resume={"reset": [part]}), [])


def test_onecycle_is_made_longer_only_afresh():
    record = RECORD | {"scheduler": {"_target_": "regraft.training.optim.schedulers.onecycle"}}
    longer = composed(scheduler=record["scheduler"], trainer=RECORD["trainer"] | {"max_epochs": 9})
    with pytest.raises(ValueError, match=r"trainer\.max_epochs: onecycle can't be made longer"):
        continued(record, longer, ["trainer.max_epochs=9"])
    afresh = longer | {"resume": {"reset": ["optimizer", "scheduler"]}}
    assert continued(record, afresh, ["trainer.max_epochs=9"])["trainer"]["max_epochs"] == 9


@pytest.mark.parametrize("had", [True, False])
def test_averaged_weights_are_kept_or_left_out_throughout(had):
    average = {"mean": {"_target_": "pytorch_lightning.callbacks.EMAWeightAveraging", "decay": 0.9}}
    record = RECORD | {"callbacks": average if had else {}}
    with pytest.raises(ValueError, match=r"callbacks: its checkpoints hold"):
        continued(record, composed(callbacks={} if had else average), ["callbacks=other"])


CONTENT = {
    "state_dict": {"weight": 1},
    "optimizer_states": [{"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1, "initial_lr": 0.5}]}],
    "lr_schedulers": [{"last_epoch": 3, "base_lrs": [0.5], "_last_lr": [0.1], "inner": [{"base_lrs": [0.5]}]}],
}


def test_a_reset_optimizer_brings_its_own_rates_to_the_scheduler():
    left = without_state(CONTENT, ["optimizer"])
    assert left["optimizer_states"] == []
    assert left["lr_schedulers"] == [{"last_epoch": 3, "inner": [{}]}]
    assert left["state_dict"] is CONTENT["state_dict"]
    assert CONTENT["optimizer_states"]


def test_a_reset_scheduler_starts_at_the_optimizers_full_rate():
    left = without_state(CONTENT, ["scheduler"])
    assert left["lr_schedulers"] == []
    (state,) = left["optimizer_states"]
    assert state == {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.5, "initial_lr": 0.5}]}
    assert without_state(CONTENT, []) == CONTENT


def test_a_resumed_run_is_not_shorter_than_it_is():
    content = {"epoch": 2, "global_step": 12}
    require_length({"trainer": {"max_epochs": 3, "max_steps": -1}}, content)
    for key, least in (("max_epochs", 3), ("max_steps", 12)):
        trainer = {"max_epochs": -1, "max_steps": -1, key: least - 1}
        with pytest.raises(
            ValueError, match=rf"^trainer\.{key}: got {least - 1}; .*allowed: {least} or more, or -1\.$"
        ):
            require_length({"trainer": trainer}, content)
