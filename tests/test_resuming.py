import pytest

from regraft.resuming import with_appended_sections, with_resumed_overrides
from regraft.runs import Run


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "it's a run")
    (run.path / "checkpoints").mkdir(parents=True)
    (run.path / ".hydra").mkdir()
    run.write_config({"seed": 0})
    (run.path / ".hydra" / "overrides.yaml").write_text("- data=digits\n- optimizer.lr=0.1\n- ckpt_path=older\n")
    run.best_ckpt.touch()
    run.last_ckpt.touch()
    return run


def test_without_a_checkpoint_nothing_changes():
    assert with_resumed_overrides(["data=cifar10", "ckpt_path=null"]) == ["data=cifar10", "ckpt_path=null"]


def test_a_run_brings_its_overrides_and_goes_on_in_its_folder(run):
    completed = with_resumed_overrides([f"ckpt_path={run.path}"])
    assert completed[:2] == ["data=digits", "optimizer.lr=0.1"]
    assert completed[-1] == f"ckpt_path={run.path}"
    assert completed[2].startswith("hydra.run.dir='")
    assert "it\\'s a run" in completed[2]


def test_what_is_repeated_wins(run):
    completed = with_resumed_overrides([f"ckpt_path={run.path}", "optimizer.lr=0.5", "data=cifar10"])
    assert "optimizer.lr=0.1" not in completed
    assert "data=digits" not in completed
    assert {"optimizer.lr=0.5", "data=cifar10"} <= set(completed)


def test_another_checkpoint_of_a_run_starts_a_folder_of_its_own(run):
    completed = with_resumed_overrides([f"ckpt_path={run.best_ckpt}"])
    assert "data=digits" in completed
    assert not any(override.startswith("hydra.run.dir") for override in completed)


def test_a_missing_checkpoint_is_never_a_fresh_start(tmp_path):
    with pytest.raises(FileNotFoundError, match="doesn't exist"):
        with_resumed_overrides([f"ckpt_path={tmp_path / 'nowhere'}"])


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
