"""Whether a command's head is found in closed form or trained in steps."""

import pytest

from regraft.config.fitting import asking_for_steps, with_fitting


@pytest.mark.parametrize(
    "arguments",
    [
        ["data=folder", "data.root=photos", "data.batch_size=16", "seed=3", "model=resnet18", "output_dir=out"],
        ["freezing=linear_probe", "augment=none", "trainer=cpu", "trainer.enable_progress_bar=false", "report=off"],
        [
            "callbacks.best.monitor=val/loss",
            "callbacks.best.mode=min",
            "features.cache=on",
            "loss.class_weights=balanced",
        ],
        ["-m", "model=resnet18,resnet50", "sweep=optuna", "sweep.n_trials=5"],
        ["head.stages=last"],
        ["head=mix", "trainer.max_epochs=5"],
        ["optimizer=ridge", "freezing=lp_ft"],
        ["-m", "optimizer=ridge,mix"],
        ["ckpt_path=outputs/run", "trainer.max_epochs=20"],
        ["trainer.deterministic=true", "callbacks.checkpoint.every_minutes=10", "ckpt_path=null"],
    ],
)
def test_a_command_that_is_not_about_steps_is_left_as_it_is(arguments):
    assert with_fitting(arguments) == arguments


@pytest.mark.parametrize(
    "argument",
    [
        *("optimizer.lr=1e-3", "scheduler=onecycle", "loss=focal", "loss.label_smoothing=0.1", "augment=flip"),
        *("augment.flip_probability=0.5", "freezing=lp_ft", "freezing=linear_probe,lp_ft", "callbacks=ema"),
        *("+callbacks.mine._target_=my.Callback", "~callbacks.stability", "trainer.max_epochs=3", "trainer=ddp"),
        *("trainer.precision=bf16-mixed", "trainer.devices=2", "trainer.fast_dev_run=true", "features.cache=off"),
        *("features.views=4", "penalty.l1=0.1", "head_from=outputs/run"),
        *("head=mlp", "optimizer=sgd", "data.sampler=balanced", "sweep.space={optimizer.lr: [1e-3]}"),
    ],
)
def test_one_that_is_about_steps_is_fitted_in_steps(argument):
    assert asking_for_steps(["data=digits", argument]) == [argument]
    assert with_fitting(["ckpt_path=null", argument]) == ["fitting=steps", "ckpt_path=null", argument]


def test_an_experiment_is_what_its_file_sets(tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "sizes.yaml").write_text("model: {image_size: 64}\ndata: {root: photos}\n")
    (folder / "rates.yaml").write_text(
        "defaults:\n  - sizes\n  - override /freezing: lp_ft\n  - _self_\noptimizer: {lr: 0.1}\n"
    )
    (folder / "own.yaml").write_text("defaults:\n  - override /fitting: closed_form\nloss: {label_smoothing: 0.1}\n")
    command = ["data=folder", "experiment=sizes"]
    assert with_fitting(command, str(tmp_path)) == command
    assert asking_for_steps(["experiment=rates"], str(tmp_path)) == ["freezing=lp_ft", "optimizer.lr=0.1"]
    assert asking_for_steps(["-m", "experiment=sizes,rates"], str(tmp_path)) == ["freezing=lp_ft", "optimizer.lr=0.1"]
    assert not asking_for_steps(["experiment=own"], str(tmp_path))  # which composing refuses
    assert not asking_for_steps(["experiment=quickstart"])  # which chooses fitting=steps itself
    assert not asking_for_steps(["experiment=nowhere"], str(tmp_path))


def test_the_command_replaces_what_an_experiment_sets(tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "own.yaml").write_text("defaults:\n  - override /optimizer: sgd\n  - override /freezing: lp_ft\n")
    command = ["experiment=own", "freezing=linear_probe"]
    assert asking_for_steps(command, str(tmp_path)) == ["optimizer=sgd"]
    assert not asking_for_steps([*command, "optimizer=ridge"], str(tmp_path))


def test_a_choice_of_both_is_steps_and_can_be_made_twice():
    once = with_fitting(["-m", "optimizer=ridge,sgd"])
    assert once == ["fitting=steps", "-m", "optimizer=ridge,sgd"]
    assert with_fitting(once) == once
