import pytest

from regraft.config.fitting import IN_STEPS
from regraft.config.quoting import quoted
from regraft.runs.arguments import (
    in_its_folder,
    reference_in,
    require_run,
    to_resume,
    with_appended_sections,
    with_checkpoint,
)
from regraft.runs.folder import Run


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "it's a run")
    (run.path / "checkpoints").mkdir(parents=True)
    run.write_config({"seed": 0})
    run.best_ckpt.touch()
    run.last_ckpt.touch()
    return run


def test_without_a_checkpoint_nothing_changes():
    assert in_its_folder(["data=cifar10", "ckpt_path=null"]) == ["data=cifar10", "ckpt_path=null"]


@pytest.mark.parametrize("which", ["path", "last_ckpt"])
def test_a_run_goes_on_in_its_folder(run, which):
    arguments = in_its_folder([f"ckpt_path={getattr(run, which)}"])
    assert arguments[0].startswith("hydra.run.dir='")
    assert "it\\'s a run" in arguments[0]
    assert "hydra.output_subdir=null" in arguments


def test_another_checkpoint_of_a_run_starts_a_folder_of_its_own(run):
    assert in_its_folder([f"ckpt_path={run.best_ckpt}"]) == [IN_STEPS, f"ckpt_path={run.best_ckpt}"]


def test_a_missing_checkpoint_is_never_a_fresh_start(tmp_path):
    with pytest.raises(FileNotFoundError, match="doesn't exist"):
        in_its_folder([f"ckpt_path={tmp_path / 'nowhere'}"])


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


def test_keys_that_the_defaults_lack_become_appendable(run):
    given = ["data.root=x", "trainer.max_epochs=3", "callbacks.early_stopping=null", "data=folder", "~callbacks.best"]
    assert in_its_folder([f"ckpt_path={run.path}", *given])[4:] == [
        "++data.root=x",
        "trainer.max_epochs=3",
        "++callbacks.early_stopping=null",
        "data=folder",
        "~callbacks.best",
    ]
    assert in_its_folder(given) == given


def test_a_training_takes_no_run():
    with pytest.raises(ValueError, match=r"To resume one: regraft resume run="):
        in_its_folder(["run=last"])


def test_resuming_a_run_is_training_in_its_folder(run):
    arguments = to_resume([f"run={run.path}", "trainer.max_epochs=3"])
    assert arguments == [f"ckpt_path={quoted(run.path)}", "trainer.max_epochs=3"]
    assert in_its_folder(arguments)[0] == f"hydra.run.dir={quoted(run.path)}"


def test_a_run_without_its_last_checkpoint_is_not_resumed(run):
    run.last_ckpt.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no checkpoints/last\.ckpt to resume from"):
        to_resume([f"run={run.path}"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [([], "run: it has no value yet"), (["run=last", "-m"], "one run at a time")],
)
def test_resume_says_what_it_needs(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        to_resume(arguments)


def test_a_runs_name_becomes_its_path(run):
    found = with_checkpoint(["run=a run", f"output_dir={run.path.parent}", "split=val"])
    assert found[1:] == [f"output_dir={run.path.parent}", "split=val"]
    assert found[0].startswith("ckpt_path='/")
    assert with_checkpoint(["split=val"]) == ["split=val"]
    with pytest.raises(ValueError, match="leave one of them out"):
        with_checkpoint(["run=last", "ckpt_path=x"])


def test_a_sweep_of_evaluations_names_several_runs(run):
    (found, flag) = with_checkpoint([f"run={run.path},{run.path}", "-m"])
    assert flag == "-m"
    assert found.count("it\\'s a run',") == 1


@pytest.mark.parametrize("read", [with_checkpoint, reference_in])
def test_a_run_is_named_once(run, read):
    with pytest.raises(ValueError, match="run: it is given 2 times"):
        read([f"run={run.path}", "run=last"])


def test_a_command_needs_a_run_or_a_checkpoint():
    require_run(["ckpt_path=x"])
    with pytest.raises(ValueError, match="run: it has no value yet"):
        require_run(["format=onnx"])
