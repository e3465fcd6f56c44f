import pytest

from regraft.resuming import continued, in_its_folder, with_appended_sections
from regraft.runs import Run

RECORD = {
    "data": {"root": "/there", "batch_size": 32, "num_workers": 0},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
    "trainer": {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": 5},
    "callbacks": {"best": {"monitor": "val/acc"}},
    "seed": 3,
    "ckpt_path": None,
}


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "it's a run")
    (run.path / "checkpoints").mkdir(parents=True)
    run.write_config({"seed": 0})
    run.best_ckpt.touch()
    run.last_ckpt.touch()
    return run


def composed(**sections):
    """Returns a config such as the defaults compose to, other than the run's in nearly everything."""
    default = {
        "data": {"root": "/here", "batch_size": 64, "num_workers": 2},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.001},
        "trainer": {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": 10},
        "callbacks": {"best": {"monitor": "val/acc"}},
        "seed": 0,
        "ckpt_path": "RUN",
    }
    return default | sections


def test_without_a_checkpoint_nothing_changes():
    assert in_its_folder(["data=cifar10", "ckpt_path=null"]) == ["data=cifar10", "ckpt_path=null"]


@pytest.mark.parametrize("which", ["path", "last_ckpt"])
def test_a_run_goes_on_in_its_folder(run, which):
    arguments = in_its_folder([f"ckpt_path={getattr(run, which)}"])
    assert arguments[0].startswith("hydra.run.dir='")
    assert "it\\'s a run" in arguments[0]
    assert "hydra.output_subdir=null" in arguments


def test_another_checkpoint_of_a_run_starts_a_folder_of_its_own(run):
    assert in_its_folder([f"ckpt_path={run.best_ckpt}"]) == [f"ckpt_path={run.best_ckpt}"]


def test_a_missing_checkpoint_is_never_a_fresh_start(tmp_path):
    with pytest.raises(FileNotFoundError, match="doesn't exist"):
        in_its_folder([f"ckpt_path={tmp_path / 'nowhere'}"])


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
        (["data=folder"], r"data\.batch_size=64 \(the run has 32\)\. Leave"),
        (["experiment=other"], r"optimizer\.lr=0\.001"),
    ],
)
def test_what_must_not_change_is_refused_with_both_sides(overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        continued(RECORD, composed(), overrides)


def test_overrides_of_the_runs_config_become_appendable():
    given = ["ckpt_path=x", "data.root=y", "trainer=gpu", "data=folder", "split=val", "++data.verify=false"]
    assert with_appended_sections(given) == [
        "ckpt_path=x",
        "++data.root=y",
        "trainer=gpu",
        "data=folder",
        "split=val",
        "++data.verify=false",
    ]
