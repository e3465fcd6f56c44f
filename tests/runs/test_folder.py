import pytest

from regraft.runs.folder import Run, find_checkpoint, run_of


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    (run.path / "checkpoints").mkdir(parents=True)
    run.write_config({"seed": 3, "data": {"root": "x"}})
    return run


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"metrics": 1}', "[" * 100_000])
def test_damaged_results_are_named(run, content):
    (run.path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"results\.json is damaged"):
        _ = run.metrics


def test_config_and_results_come_back_as_written(run):
    run.write_results({"metrics": {"test/acc": 0.5}})
    assert run.config == {"seed": 3, "data": {"root": "x"}}
    assert run.metrics == {"test/acc": 0.5}


@pytest.mark.parametrize(("prefer", "expected"), [("best", "best.ckpt"), ("last", "last.ckpt")])
def test_the_preferred_checkpoint_of_a_run_is_found(run, prefer, expected):
    run.best_ckpt.touch()
    run.last_ckpt.touch()
    assert find_checkpoint(run.path, prefer).name == expected


def test_the_other_checkpoint_is_taken_where_there_is_only_one(run):
    run.last_ckpt.touch()
    assert find_checkpoint(run.path, "best") == run.last_ckpt


def test_a_file_is_itself(run):
    run.best_ckpt.touch()
    assert find_checkpoint(run.best_ckpt, "last") == run.best_ckpt
    assert run_of(run.best_ckpt) == Run(run.path.resolve())


def test_a_lone_checkpoint_belongs_to_no_run(tmp_path):
    (tmp_path / "lone.ckpt").touch()
    assert run_of(tmp_path / "lone.ckpt") is None


def test_a_missing_path_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="doesn't exist"):
        find_checkpoint(tmp_path / "nowhere", "best")


def test_a_folder_without_checkpoints_is_no_run(run):
    with pytest.raises(FileNotFoundError, match=r"has no checkpoints/best\.ckpt .* it isn't a run"):
        find_checkpoint(run.path, "best")


def test_a_run_that_was_killed_before_its_first_checkpoint_can_be_started_again(run):
    run.write_config({"model": {}})
    with pytest.raises(FileNotFoundError, match=r"start it again .*overrides\.yaml, and hydra\.run\.dir=.*run\."):
        find_checkpoint(run.path, "last")


def test_history_keeps_the_rows_before_a_step(run):
    (run.path / "metrics.csv").write_text("epoch,step,train/loss,val/acc\n0,3,0.5,\n0,3,,0.9\n1,7,0.25,\n")
    assert run.logged_rows(before_step=4) == [
        {"epoch": 0, "step": 3, "train/loss": 0.5},
        {"epoch": 0, "step": 3, "val/acc": 0.9},
    ]
    assert len(run.logged_rows(before_step=8)) == 3


def test_a_checkpoint_is_never_fetched():
    with pytest.raises(ValueError, match=r"got 'http:.*; a checkpoint must be a local file"):
        find_checkpoint("http://host/best.ckpt", "best")
