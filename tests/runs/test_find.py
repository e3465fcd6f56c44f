import os
from pathlib import Path

import pytest

from regraft.runs.find import all_runs, find_run, name_of, run_of_job
from regraft.runs.folder import LAYOUT_VERSION, Run


def made(name, day, acc=None, metric="test/acc", **state):
    """Returns a run in `outputs` that was started on that day of a month; it has finished if it has an accuracy."""
    run = Run(Path("outputs", name).resolve())
    (run.path / "checkpoints").mkdir(parents=True)
    run.write_config({"seed": 0})
    run.last_ckpt.touch()
    if acc is not None:
        run.write_results({"metrics": {metric: acc}})
    run.write_state({"status": "running" if acc is None else "finished", "started": f"2030-01-{day:02}"} | state)
    return run


@pytest.fixture
def runs():
    """Four runs by name; the last one is a job of a sweep."""
    Path("outputs", "eval", "x", ".hydra").mkdir(parents=True)
    Path("outputs", "eval", "x", "results.json").write_text("{}")
    Path("outputs", "eval", "x", ".hydra", "config.yaml").write_text("{}")
    return {
        "old": made("digits/2030-01-01-aaa", 1, 0.9),
        "continued": made("digits/2030-01-02-aab", 9),
        "resumed": made("digits/2030-01-03-bbb", 5, 0.99, status="stopped"),
        "job": made("flowers/sweep-2030/1", 7, 0.95),
        "tenth": made("flowers/sweep-2030/10", 6, 0.99, metric="val/acc"),
    }


def test_linked_folders_are_looked_into_once(runs, tmp_path):
    moved = Path("outputs", "flowers").rename(tmp_path / "disk")
    Path("outputs", "flowers").symlink_to(moved)
    Path("outputs", "again").symlink_to(moved)
    (moved / "up").symlink_to(Path("outputs").resolve())
    Path("outputs", "round").symlink_to("round")
    found = [name_of(run, "outputs").partition("/")[2] for run in all_runs("outputs")]
    assert sorted(found) == ["2030-01-01-aaa", "2030-01-02-aab", "2030-01-03-bbb", "sweep-2030/1", "sweep-2030/10"]


def test_runs_are_those_of_sweeps_too_and_no_evaluations(runs):
    assert all_runs("outputs") == [runs[name] for name in ("continued", "job", "tenth", "resumed", "old")]


def test_a_search_is_its_best_run_unless_its_name_may_mean_another_run(runs):
    best = made("auto-digits-1a2b/0-simple_cnn-8", 2)
    (best.path.parent / "auto.json").write_text('{"winner": "0-simple_cnn-8"}')
    assert find_run("auto-digits", "outputs") == best
    with pytest.raises(ValueError, match=r"'digits' matches a search, .*, and runs, such as digits/2030"):
        find_run("digits", "outputs")


def test_last_is_the_one_that_was_continued_last(runs):
    assert find_run("last", "outputs") == runs["continued"]


def test_best_has_finished_and_was_tested(runs):
    assert find_run("best", "outputs") == runs["job"]


def test_best_goes_by_validation_where_nothing_was_tested():
    made("digits/a", 1, 0.5, metric="val/acc")
    best = made("digits/b", 2, 0.6, metric="val/acc")
    assert find_run("best", "outputs") == best


def test_best_kept_a_checkpoint(runs):
    runs["job"].last_ckpt.unlink()
    assert find_run("best", "outputs") == runs["old"]


@pytest.mark.parametrize(
    ("handle", "name"),
    [
        ("2030-01-01", "old"),
        ("bbb", "resumed"),
        ("sweep-2030/1", "job"),
        ("10", "tenth"),
        ("outputs/flowers/sweep-2030/1", "job"),
    ],
)
def test_a_part_of_a_name_or_a_path_is_enough(runs, handle, name):
    assert find_run(handle, "outputs") == runs[name]


def test_several_matches_are_listed_the_newest_first(runs):
    with pytest.raises(ValueError, match=r"'aa' matches 2 runs: digits/2030-01-02-aab, digits/2030-01-01-aaa\."):
        find_run("aa", "outputs")


def test_a_folder_of_one_run_is_that_run(runs, tmp_path):
    (tmp_path / "one").mkdir()
    runs["job"].path.rename(tmp_path / "one" / "job")
    assert find_run(str(tmp_path / "one"), "outputs").path == (tmp_path / "one" / "job").resolve()


def test_a_folder_of_runs_names_them(runs):
    inside = "outputs/flowers/sweep-2030/1, outputs/flowers/sweep-2030/10"
    with pytest.raises(ValueError, match=rf"outputs/flowers is a folder of 2 runs: {inside}\. Give one of them"):
        find_run("outputs/flowers", "outputs")


@pytest.mark.parametrize(
    ("handle", "sentence"),
    [
        ("2030-01-01-aax", "The closest name is 'digits/2030-01-01-aaa'. `regraft runs` lists all runs"),
        ("outputs/eval", "outputs/eval is not a run's folder"),
        ("", "there is no run ''"),
    ],
)
def test_nothing_found_says_what_is_near(runs, handle, sentence):
    with pytest.raises(FileNotFoundError) as caught:
        find_run(handle, "outputs")
    assert sentence in str(caught.value)


def test_a_missing_checkpoint_is_an_error(runs):
    runs["continued"].last_ckpt.unlink()
    with pytest.raises(FileNotFoundError, match=r"run: .* has no checkpoints"):
        find_run("aab", "outputs")


@pytest.mark.parametrize("needs_checkpoint", [True, False])
def test_last_is_the_last_with_a_checkpoint(needs_checkpoint, runs):
    runs["continued"].last_ckpt.unlink()
    assert find_run("last", "outputs", needs_checkpoint=needs_checkpoint) == runs["job"]


def test_a_checkpoints_file_is_no_run(runs):
    with pytest.raises(ValueError, match="Give a run's folder, or the file with ckpt_path="):
        find_run(str(runs["old"].last_ckpt), "outputs")


@pytest.mark.parametrize("handle", ["last", "best", "x"])
def test_without_runs_it_says_where_it_looked(handle, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no run in {tmp_path}"):
        find_run(handle, "outputs")


def test_damaged_states_and_results_are_no_obstacle(runs):
    (runs["job"].path / "results.json").write_text("{")
    (runs["continued"].path / "state.json").write_text("[1")
    os.utime(runs["continued"].path / "config.yaml", (0, 0))
    assert find_run("last", "outputs") == runs["job"]
    assert find_run("best", "outputs") == runs["old"]


def test_a_run_elsewhere_is_named_by_its_path(runs, tmp_path):
    assert name_of(runs["old"], "outputs") == "digits/2030-01-01-aaa"
    assert name_of(runs["old"], tmp_path / "elsewhere") == str(runs["old"].path)


def test_a_run_of_another_layout_is_refused_in_one_sentence():
    run = made("digits/2030-01-01-aaa", 1, 0.9)
    assert run.state["layout"] == LAYOUT_VERSION
    assert find_run("last", "outputs") == run
    run.write_state(run.state | {"layout": 99})
    for reference in ("last", "best", "aaa", str(run.path)):
        with pytest.raises(ValueError, match=r"aaa was written by another version of Regraft \(layout 99, this one"):
            find_run(reference, "outputs")


@pytest.mark.parametrize(
    "kept", ["[fitting=steps, freezing=none, hydra.run.dir=x, trainer.num_nodes=2]", "[freezing=none]"]
)
def test_a_requeued_command_finds_its_run_whatever_was_added_to_it(kept):
    run = made("digits/a", 1, job="12")
    (run.path / ".hydra").mkdir()
    (run.path / ".hydra" / "overrides.yaml").write_text(kept)
    assert run_of_job("12", ["freezing=none"], "outputs") == run
    assert run_of_job("12", ["freezing=lp_ft"], "outputs") is None
    assert run_of_job("13", ["freezing=none"], "outputs") is None
