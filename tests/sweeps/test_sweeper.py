"""Whole sweeps, on the command line."""

import json
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.command_line import run_main
from helpers.small import SMALL
from regraft.cli import commands
from regraft.sweeps.manifest import MANIFEST

OPTUNA = [
    "sweep=optuna",
    "sweep.seed=1",
    "optimizer.lr=tag(log,interval(1e-6,1e-1))",
    "sweep.pruner_options={n_startup_trials: 1}",
]


def sweep_folder() -> Path:
    (folder,) = Path("outputs/digits-simple_cnn").resolve().iterdir()
    return folder


def test_a_search_prunes_remembers_and_goes_on(capsys):
    code, out, _ = run_main(["train", "-m", *SMALL, *OPTUNA, "sweep.n_trials=2"], capsys)
    assert code == 0
    folder = sweep_folder()
    assert f"Sweep of 2 jobs in {folder}: " in out
    (folder / MANIFEST).write_text("{")
    code, out, _ = run_main(["resume", f"run={folder}", "sweep.n_trials=4"], capsys)
    assert code == 0
    table = out[out.index("Sweep of 4 jobs") :]
    assert "Best trial of 4, by val/acc:\n  val/acc" in table
    words = [line.split()[2] for line in table.splitlines()[1:5]]
    states = [json.loads((folder / str(number) / "state.json").read_text())["status"] for number in range(4)]
    assert states == [{"ok": "finished", "pruned": "pruned"}[word] for word in words]
    assert "pruned" in words
    assert not list(folder.glob("*/traceback.txt"))
    assert len(json.loads((folder / MANIFEST).read_text())["jobs"]) == 4


def test_a_damaged_manifest_is_made_anew_and_only_what_is_missing_is_run(capsys):
    command = ["train", "-m", *SMALL, "trainer.max_epochs=1", "seed=1,2"]
    assert run_main(command, capsys)[0] == 0
    folder = sweep_folder()
    (folder / MANIFEST).write_text("{")
    shutil.rmtree(folder / "1")
    (folder / "1").mkdir()  # for the log of this process, which Hydra has opened there
    code, out, _ = run_main(["resume", f"run={folder.name[-6:]}"], capsys)
    assert code == 0
    assert "added: job 1, seed=2" in out
    assert [line for line in out.splitlines() if line.startswith("[")] == ["[2/2] seed=2 (1 skipped)"]
    first, second = out[out.index("Sweep of 2 jobs") :].splitlines()[1:3]
    assert "skipped" in first
    assert "finished before" in first
    assert "ok" in second


def test_a_sweep_of_evaluations_goes_on_with_evaluations(capsys, monkeypatch):
    with_job(monkeypatch, "eval", lambda config: {f"{config.split}/acc": 0.5})
    assert run_main(["eval", "-m", "ckpt_path=x", "split=test,val", "hydra.sweep.dir=outputs/sweep-1"], capsys)[0] == 0
    place = Path.cwd()
    (place / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    code, out, err = run_main(["resume", "run=../outputs/sweep-1"], capsys)
    assert (code, err) == (0, "")
    assert out.startswith(f"Resuming in {place}, where the sweep was started.\n")
    assert Path.cwd() == place / "elsewhere"
    assert [line.split() for line in out[out.index("Sweep of 2 jobs") :].splitlines()[1:]] == [
        ["0", "split=test", "ok", "test/acc", "0.5000"],
        ["1", "split=val", "ok", "val/acc", "0.5000"],
    ]


def doing(monkeypatch, deeds):
    """Has a sweep's jobs do what is said for their seeds instead of training."""
    with_job(monkeypatch, "train", lambda config: deeds[config.seed]())


def with_job(monkeypatch, name, job):
    command = replace(commands.find(name), job=job)
    monkeypatch.setattr(f"regraft.cli.commands.{name}.COMMAND", command)


def test_a_job_that_exits_fails_alone_with_its_traceback(monkeypatch, capsys):
    doing(monkeypatch, {1: lambda: sys.exit(3), 2: dict})
    code, out, _ = run_main(["train", "-m", *SMALL, "seed=1,2"], capsys)
    assert code == 1
    assert [line.split()[:3] for line in out.splitlines()[-2:]] == [["0", "seed=1", "failed"], ["1", "seed=2", "ok"]]
    assert "SystemExit: 3" in (sweep_folder() / "0" / "traceback.txt").read_text()


def test_an_interrupted_sweep_says_how_it_goes_on(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    doing(monkeypatch, {1: dict, 2: interrupted})
    code, out, _ = run_main(["train", "-m", *SMALL, "seed=1,2", "features.dir=a store"], capsys)
    assert code == 130
    # With what only a command line may say.
    words = ["regraft", "resume", f"run={sweep_folder()}", "features.dir=a store"]
    assert shlex.split(out.splitlines()[-1].removeprefix("To resume the sweep: ")) == words


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["optimizer.lr=interval(0.1,1)"], "sweep=random or sweep=optuna"),
        (["sweep=random"], "there is nothing to search"),
        (["seed=range(1,1)"], "seed: got 'range(1,1)'; there is no value to choose from"),
        (["sweep=random", "seed=range(1,1)"], "seed: got 'range(1,1)'; there is no value to choose from"),
        (["head=glob(zz*)"], "head: got 'glob(zz*)'; there is no value to choose from"),
        (["sweep=optuna", "optimizer.lr=interval(0.1,1)", "sweep.metrics=[test/acc]"], "Search by val/acc"),
        (["sweep=optuna", "optimizer.lr=interval(0.1,1)", "sweep.sampler=tp"], "Did you mean 'tpe'"),
        (["sweep=optuna", "head=linear,mpl"], "Did you mean 'mlp'"),
        (["sweep=random", "optimizer.lr=interval(1,0)"], "its start must be below its end"),
        (["sweep=random", "sweep.space={optimizer.lr: 3}"], "sweep.space.optimizer.lr: got 3"),
    ],
)
def test_a_users_mistake_is_one_sentence(arguments, sentence, capsys):
    code, _, err = run_main(["train", "-m", *arguments], capsys)
    assert code == 1
    assert sentence in err
    assert err.count("\n") == 1
    assert not Path("outputs").exists() or not list(Path("outputs").rglob("state.json"))
