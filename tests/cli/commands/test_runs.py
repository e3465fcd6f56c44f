import shutil
from pathlib import Path

import pytest
from rich.console import Console

from helpers.command_line import imported_by, run_main
from regraft.runs.folder import Run


@pytest.fixture
def runs(small_run):
    """Copies of the small run that have ended in each way, the newest last."""
    made = {}
    ends = {
        "done": {},
        "stopped": {"status": "stopped", "step": 7, "reason": "Ctrl-C"},
        "failed": {"status": "failed", "reason": "loss: it is NaN"},
        "killed": {"status": "running", "pid": 2**22, "process": 1, "step": 0},
    }
    for day, (name, state) in enumerate(ends.items(), 1):
        run = made[name] = Run(Path(shutil.copytree(small_run.path, Path("outputs", "digits", name).resolve())))
        run.write_state(small_run.state | {"started": f"2030-01-0{day}T12:00:00+00:00"} | state)
    return made


def row_with(word, out):
    (row,) = [line for line in out.splitlines() if word in line]
    return " ".join(row.replace("│", " ").split())


def test_each_run_has_a_row_the_newest_first(runs, small_run, capsys):
    code, out, _ = run_main(["runs"], capsys)
    assert code == 0
    acc = small_run.metrics["test/acc"]
    assert row_with("digits/done", out).startswith(
        f"digits/done finished digits simple_cnn none test/acc {acc:.4f} 2030-"
    )
    assert ": Ctrl-C" in row_with("digits/stopped", out)
    assert "failed: loss: it is NaN" in row_with("digits/failed", out)
    assert "stopped at step" in row_with("digits/killed", out)
    assert "killed, its process is gone" in row_with("digits/killed", out)
    names = [line.split()[1] for line in out.splitlines() if "digits/" in line]
    assert names == ["digits/killed", "digits/failed", "digits/stopped", "digits/done"]
    assert f"4 runs in {Path('outputs').resolve()}" in out


def test_a_killed_run_is_where_its_metrics_end(runs, capsys):
    steps = [row["step"] + 1 for row in runs["killed"].logged_rows(before_step=10**9)]
    assert f"stopped at step {max(steps)}: killed," in row_with("digits/killed", run_main(["runs"], capsys)[1])


def test_an_unfinished_run_shows_its_best_validation(runs, capsys):
    best = max(row["val/acc"] for row in runs["killed"].logged_rows(before_step=10**9) if "val/acc" in row)
    assert f"val/acc {best:.4f}" in row_with("digits/killed", run_main(["runs"], capsys)[1])


def test_words_choose_rows(runs, capsys):
    out = run_main(["runs", "FAILED", "simple_cnn"], capsys)[1]
    assert "digits/failed" in out
    assert "digits/done" not in out
    assert "1 of 4 runs" in out
    assert "0 of 4 runs" in run_main(["runs", "resnet"], capsys)[1]


def test_damaged_and_foreign_folders_are_no_obstacle(runs, capsys):
    runs["done"].path.joinpath("config.yaml").write_text("a: [")
    runs["stopped"].path.joinpath("config.yaml").write_bytes(b"\xff\xfe\x00")
    runs["failed"].path.joinpath("state.json").write_text("nonsense")
    runs["failed"].path.joinpath("results.json").write_text('{"metrics": 3}')
    runs["killed"].path.joinpath("metrics.csv").write_bytes(b"step,\x00\nx,\xff\n")
    Path("outputs", "foreign").mkdir()
    Path("outputs", "foreign", "config.yaml").write_text("- 1\n")
    Path("outputs", "file").touch()
    Path("outputs", "loop").symlink_to(Path("outputs").resolve())
    code, out, err = run_main(["runs"], capsys)
    assert (code, err) == (0, "")
    assert out.count("damaged: config.yaml is not a run's config") == 3
    assert "damaged: config.yaml is not a run's config" in row_with(" foreign", out)
    assert "5 runs in" in out


def test_without_runs_it_says_so(capsys, tmp_path):
    assert run_main(["runs"], capsys)[:2] == (0, f"0 runs in {tmp_path / 'outputs'}\n")
    assert run_main(["runs", f"output_dir={tmp_path / 'x'}"], capsys)[1] == f"0 runs in {tmp_path / 'x'}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["ouput_dir=x"], "unknown key 'ouput_dir'. Did you mean 'output_dir'?"), (["-x"], "got '-x'")],
)
def test_a_mistake_is_one_sentence(arguments, sentence, capsys):
    code, _, err = run_main(["runs", *arguments], capsys)
    assert code == 1
    assert sentence in err


def test_it_answers_without_torch(runs):
    assert not imported_by(
        "from regraft.cli.commands.runs import run; run([])", ["torch", "numpy", "pytorch_lightning"]
    )


def test_the_folder_of_runs_may_be_quoted(runs, capsys):
    assert run_main(["runs", "output_dir='outputs'"], capsys)[1] == run_main(["runs"], capsys)[1]


@pytest.mark.parametrize("width", [80, 200])
def test_a_long_reason_takes_no_further_line(width, runs, capsys, monkeypatch):
    monkeypatch.setattr("regraft.report.tables.runs.wide_console", lambda _: Console(width=width))
    runs["failed"].write_state({"status": "failed", "reason": f"loss: {'very ' * 100}large"})
    out = run_main(["runs"], capsys)[1]
    assert len([line for line in out.splitlines() if "digits/" in line]) == len(runs)
    assert len(out.splitlines()) <= len(runs) + 6
    assert "failed: loss: very" in row_with("digits/failed", out)
    assert max(map(len, out.splitlines()[:-1])) <= width
